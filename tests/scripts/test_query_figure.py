"""The figure of queries: one PNG of two models, and an error message for a model that selects nothing."""

from pathlib import Path

import pytest
from PIL import Image
from tiny import save_random_clip
from tiny_encoder import save_tiny_run

from e2fashion.data.catalogue import Catalogue
from scripts.query_figure import main


def test_two_models_answer_and_the_second_shows_what_it_picks(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    model = save_tiny_run(synth_catalogue, tmp_path / "e2")
    clip = save_random_clip(tmp_path / "clip", ["a shirt"])
    main([str(clip), str(model.parent), str(synth_catalogue.path), str(tmp_path / "queries.png"), "--queries", "2"])
    with Image.open(tmp_path / "queries.png") as figure:
        assert figure.width > figure.height > 100
        yellow = sum(1 for r, g, b in figure.convert("RGB").getdata() if r > 230 and 150 < g < 200 and b < 40)
    assert yellow > 50


def test_a_model_that_selects_nothing_is_refused(
    synth_catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = save_random_clip(tmp_path / "clip", ["a shirt"])
    with pytest.raises(SystemExit):
        main([str(clip), str(clip), str(synth_catalogue.path), str(tmp_path / "queries.png")])
    assert "has no tokens of 'brand': give --entity and an E2 that has them" in capsys.readouterr().err
