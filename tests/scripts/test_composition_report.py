"""The report on compositions: counts by kind, and every text that was not understood."""

from pathlib import Path

import pytest

from scripts.composition_report import main


def test_what_is_not_understood_is_listed_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "products.csv"
    texts = ["100% wool", "70% wool", "70% wool", "Cotton", "", "40% kidassia | 60% silk", "Dry clean"]
    table.write_text("\n".join(["id,made_of", *(f"{n},{text}" for n, text in enumerate(texts))]), encoding="utf-8")
    assert main([str(table), "made_of"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 6 understood (33.3%)." in printed
    assert "| wrong total | 2 |" in printed
    assert "| 2 | 70% wool | 70% wool |" in printed
    assert r"| 1 | 40% kidassia \| 60% silk | 40% kidassia, 60% silk |" in printed
    assert "| 1 | Dry clean | - |" in printed
    with pytest.raises(SystemExit):
        main([str(table), "fabric"])
    assert "has no column 'fabric': id, made_of" in capsys.readouterr().err
