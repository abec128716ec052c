"""An E2 with random weights and a few thousand parameters, for tests that need a model and not its quality."""

from collections.abc import Sequence
from pathlib import Path

import torch

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.training import build
from e2fashion.training.config import RunConfig

SETTINGS = (
    "data=synthetic",
    "image.size=32",
    "image.resize=squeeze",
    "text.template='{brand} . {description}'",
    "text.context_length=12",
    "model.entities.brand.tokens=2",
    "model.fusion_layers=[1]",
    "model.scratch={vision: {layers: 2, width: 32, heads: 2}, text: {layers: 1, width: 32, heads: 2}}",
    "model.scratch.patch_size=8",
    "model.scratch.projection_dim=16",
    "model.scratch.tokenizer=word",
)


def build_tiny_encoder(catalogue: Catalogue, settings: Sequence[str] = SETTINGS) -> Encoder:
    """Its tokenizer is trained on the catalogue; the same catalogue gives the same encoder."""
    config = load_config(RunConfig, None, settings)
    template = build.build_template(config, catalogue)
    tokenizer = build.build_tokenizer(config, build.training_texts(config, catalogue, template))
    torch.manual_seed(0)
    model = build.build_model(config, tokenizer)
    return Encoder(model, tokenizer, build.build_transform(config), template, "tiny")


def save_tiny_run(catalogue: Catalogue, run: Path) -> Path:
    """Save one as a run saves its best model; returns the model's folder."""
    build_tiny_encoder(catalogue).save_pretrained(run / "model")
    return run / "model"
