"""A SigLIP checkpoint from a run's configuration to its model folder."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny import TINY, save_random_siglip

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.models import SiglipE2Model
from e2fashion.records import read_records
from e2fashion.training import build
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError


@pytest.fixture(scope="module")
def siglip(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = list(synth_catalogue.split("train")["description"])
    return save_random_siglip(tmp_path_factory.mktemp("siglip") / "checkpoint", texts)


def config_of(catalogue: Catalogue, siglip: Path, *overrides: str) -> RunConfig:
    words = [f"data={catalogue.path}", *TINY, f"model.checkpoint={siglip}", "text.context_length=32"]
    return load_config(RunConfig, None, [*words, *overrides])


def test_a_run_on_siglip_learns_and_loads_again(synth_catalogue: Catalogue, siglip: Path, tmp_path: Path) -> None:
    words = [f"output={tmp_path / 'run'}", "loss.kind=sigmoid"]
    run = train_run(config_of(synth_catalogue, siglip, *words), progress=False)
    (file,) = (run.path / "logs").rglob("metrics.csv")
    losses = pd.read_csv(file)["train/loss/total"].dropna().tolist()
    assert losses[-1] < losses[0]
    assert read_records(run.results)
    encoder = load_encoder(str(run.path))
    assert type(encoder.model) is SiglipE2Model
    assert encoder.transform.mean == encoder.transform.std == (0.5, 0.5, 0.5)
    assert encoder.model.logit_bias.item() != -5.0
    assert torch.isfinite(encoder.embed_texts(["a red dress"])).all()
    # The next run reads the colors of the model, not CLIP's.
    assert build.build_transform(config_of(synth_catalogue, run.model)).mean == (0.5, 0.5, 0.5)


def test_mistakes_are_refused_before_training(synth_catalogue: Catalogue, siglip: Path) -> None:
    for overrides, message in (
        ([], "trained with the sigmoid loss .* loss.kind is softmax"),
        (
            ["loss.kind=sigmoid", "text.context_length=77"],
            r"reads from 2 to 64 tokens. Use text.context_length=64 or less.$",
        ),
        (["loss.kind=sigmoid", "text.context_length=77", "text.overflow=stretch"], "cannot be stretched"),
    ):
        config = config_of(synth_catalogue, siglip, *overrides)
        with pytest.raises(E2FashionError, match=message):
            build.build_model(config, build.build_tokenizer(config, []))
