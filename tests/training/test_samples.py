"""Figures of every epoch: what they show, where they go, and that training knows nothing of them."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, same_weights, saved_weights

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.dataset import CatalogueRows
from e2fashion.encoder import load_encoder
from e2fashion.report import retrieved_rows
from e2fashion.run_folder import RunFolder
from e2fashion.training.config import RunConfig
from e2fashion.training.samples import SAMPLES, SampleSheets, SeenProducts

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install e2fashion[report]")


def train(catalogue: Catalogue, output: Path, *overrides: str) -> RunFolder:
    words = [f"data={catalogue.path}", f"output={output}", *TINY, "train.precision=fp32", *overrides]
    return train_run(load_config(RunConfig, None, words), progress=False)


@pytest.fixture(scope="module")
def drawn(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[SeenProducts]]:
    """A run of two epochs with figures of both, and what they were drawn from."""
    seen: list[SeenProducts] = []
    draw = SampleSheets.__call__

    def remember(self: SampleSheets, products: SeenProducts, epoch: int, folder: Path) -> dict[str, Path]:
        seen.append(products)
        return draw(self, products, epoch, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleSheets, "__call__", remember)
        output = tmp_path_factory.mktemp("figures") / "drawn"
        return train(synth_catalogue, output, "logging={to: [tensorboard], figures_every: 1}"), seen


def test_figures_lie_in_the_run_folder(drawn: tuple[RunFolder, list[SeenProducts]]) -> None:
    files = sorted((drawn[0].figures / "main").iterdir())
    names = [f"{kind}_{epoch:03d}.png" for kind in ("retrieved", "selected") for epoch in (1, 2)]
    assert [file.name for file in files] == names
    for file in files:
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 10


def test_tensorboard_shows_them_at_the_step_of_their_epoch(drawn: tuple[RunFolder, list[SeenProducts]]) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(drawn[0].path / "logs" / "tensorboard" / "main"))
    events.Reload()
    measured = [event.step for event in events.Scalars("val/retrieval/i2t/R@1")]
    for name in ("retrieved", "selected"):
        shown = events.Images(f"figures/{name}")
        assert [event.step for event in shown] == measured
        assert shown[-1].encoded_image_string == (drawn[0].figures / "main" / f"{name}_002.png").read_bytes()


def test_training_knows_nothing_of_figures_and_loggers(
    drawn: tuple[RunFolder, list[SeenProducts]], synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    without = train(synth_catalogue, tmp_path / "without")
    assert same_weights(saved_weights(without.model), saved_weights(drawn[0].model))
    assert without.read_record()["identity"] == drawn[0].read_record()["identity"]
    assert not (without.figures / "main").exists()


def test_what_is_shown_as_retrieved_is_what_the_model_retrieves(
    drawn: tuple[RunFolder, list[SeenProducts]], synth_catalogue: Catalogue
) -> None:
    folder, seen = drawn
    epoch = folder.read_record()["stages"]["main"]["best_epoch"]
    encoder = load_encoder(str(folder.path), name="run")
    expected = retrieved_rows([encoder], synth_catalogue, "val", SAMPLES, progress=False)
    rows = CatalogueRows(synth_catalogue.split("val"), (), encoder.template, encoder.transform)
    shown = SampleSheets(encoder, rows, synth_catalogue.split("val")).retrieved(seen[epoch - 1])
    assert [row.text for row in shown] == [row.text for row in expected]
    assert [row.rank for row in shown] == [row.rank for row in expected]
    for own, other in zip(shown, expected, strict=True):
        for (picture, right), (there, right_there) in zip(own.retrieved["run"], other.retrieved["run"], strict=True):
            assert right == right_there
            assert np.array_equal(picture, there)


def test_without_matplotlib_a_line_says_so(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level(logging.WARNING, "e2fashion"):
        folder = train(synth_catalogue, tmp_path / "run", "logging.figures_every=1", "train.stages.main.epochs=1")
    assert caplog.text.count("no sample figures: matplotlib is not installed") == 1
    assert not folder.figures.exists()
