"""The figure of the encoder."""

from pathlib import Path

from scripts.encoder_figure import main


def test_the_figure_is_the_same_each_time(tmp_path: Path) -> None:
    drawn = []
    for name in ("once.svg", "again.svg"):
        main(str(tmp_path / name))
        drawn.append((tmp_path / name).read_text(encoding="utf-8"))
    assert drawn[0] == drawn[1]
    assert drawn[0].rstrip().endswith("</svg>")
