"""The sheet of selected patches: one PNG, with the attention of another model on request, and an error message."""

from pathlib import Path

import pytest
from PIL import Image
from tiny import save_random_clip
from tiny_encoder import save_tiny_run

from e2fashion.data.catalogue import Catalogue
from scripts.selection_sheet import main


def test_a_sheet_is_drawn_with_the_attention_of_a_plain_clip(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    model = save_tiny_run(synth_catalogue, tmp_path / "e2")
    clip = save_random_clip(tmp_path / "clip", ["a shirt"])
    arguments = [str(model.parent), str(synth_catalogue.path), str(tmp_path / "sheet.png")]
    main([*arguments, "--compare", str(clip), "--products", "3"])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 300


def test_a_model_that_selects_nothing_is_refused(
    synth_catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = save_random_clip(tmp_path / "clip", ["a shirt"])
    with pytest.raises(SystemExit):
        main([str(clip), str(synth_catalogue.path), str(tmp_path / "sheet.png")])
    assert "has no selection tokens: give an E2" in capsys.readouterr().err
