"""The keys of explaining one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omegaconf import MISSING

from e2fashion.options import Computing, Preprocessing

Method = Literal["tokens", "attention", "rollout", "occlusion"]
"""How a scorer of patches is called; :data:`e2fashion.tasks.localization.attribution.SCORERS` holds them."""


@dataclass
class Bands:
    """Stripe occlusion."""

    grid: int = 8
    """Rows and columns at which the occluded bands begin and end."""
    batch_size: int = 24
    """Occluded images per step; a GPU takes more."""


@dataclass
class ExplainConfig(Bands, Preprocessing, Computing):
    """Which parts of one image a model's answer depends on."""

    model: str = MISSING
    """Run folder, model folder, or hub name of a CLIP."""
    image: str | None = None
    """An image file; may be the second argument."""
    data: str | None = None
    """A prepared catalogue, instead of ``image``."""
    product_id: str | None = None
    """Product of ``data`` whose first image is explained."""
    text: str | None = None
    """Texts that occlusion explains, separated by ``|``; null: the product's description and the tags of the model's
    entities. Source: field."""
    methods: list[Method] | None = None
    """``occlusion`` (of texts), ``tokens`` (of an E2), ``attention``, ``rollout``; null: the first two where model and
    texts allow them, else ``attention``."""
    square: Literal["grey", "own"] = "grey"
    """Before occlusion: ``grey`` pads the image as FashionCLIP does, ``own`` squares it as the model does. Source:
    field."""
    name: str | None = None
    """Name of the model in the figure; null: its folder's name."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Precision of the encoder; ``auto`` as in ``train.precision`` of a run."""
    output: str | None = None
    """The figure (PNG); null: in ``runs/explain/<model>/``."""
