"""Two steps of every run on a few drawn garments: shows that an experiment fits together, and nothing else."""

from __future__ import annotations

from pathlib import Path

from e2fashion.data.config import Preparation, build_source
from e2fashion.data.prepare import prepare_catalogue
from experiments._experiment import Recipe

SOURCE = {"products": 40, "image_size": 32, "views": 1, "seed": 0}
DEPTH = {"paper": 12, "small": 6, "pretrained": 6}
"""Layers of the image towers that the recipes' fusion layers count."""

#: Towers of the recipe's depth and next to no width; batches of which an epoch has two.
TINY = (
    "accelerator=cpu",
    "logging={to: [], figures_every: 0}",
    "model.checkpoint=null",
    "model.scratch={text: {layers: 1, width: 16, heads: 2}, patch_size: 8, projection_dim: 8, tokenizer: word}",
    "image.size=32",
    "loader={batch_size: 16, workers: 0}",
    "train.precision=fp32",
)


def smoke_overrides(recipe: Recipe, scale: str) -> list[str]:
    """What makes the recipe's runs tiny; rows still change what they compare."""
    stages = ("new_parameters", "everything") if recipe.prefix in ("fashiongen", "amazon") else ("main",)
    epochs = [f"train.stages.{stage}.epochs=1" for stage in stages]
    return [*TINY, f"model.scratch.vision={{layers: {DEPTH[scale]}, width: 16, heads: 2}}", *epochs]


def smoke_catalogue(folder: Path) -> Path:
    """Forty garments of 32 px: 24 to train."""
    source = build_source("synthetic", SOURCE)
    return prepare_catalogue(source, folder, Preparation(val_fraction=0.2, test_fraction=0.2), progress=False).path
