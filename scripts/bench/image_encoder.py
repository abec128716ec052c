"""E2's image encoder against the plain CLIP of the same backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from e2fashion.models.modeling_e2 import E2Model
from scripts.bench.encoders import random_clip, random_e2
from scripts.bench.report import Result
from scripts.bench.timing import interleave
from scripts.bench.workplace import Workplace

TARGET = 1.15
BATCH_SIZE = 16
ENTITIES = {"composition": 2, "sub_category": 2, "brand": 2, "season": 2}


def infer(model: CLIPModel, pixels: Tensor, **options: Any) -> Tensor:
    """Image features as an application asks for them."""
    with torch.no_grad():
        return model.get_image_features(pixels, **options).pooler_output


def train(model: CLIPModel, pixels: Tensor) -> None:
    """Forward and backward through everything that a loss reads."""
    for parameter in model.parameters():
        parameter.grad = None
    output = model.get_image_features(pixels)
    features = output.pooler_output.square().mean()
    if isinstance(model, E2Model):
        features = features + output.region_features.square().mean()
    features.backward()


def run(workplace: Workplace) -> list[Result]:
    """Time inference and training of both."""
    clip, e2 = random_clip(), random_e2(ENTITIES)
    pixels = torch.randn(BATCH_SIZE, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    detail = f"ViT-B/32 shape, random weights, fp32, batch {BATCH_SIZE}, 4 entities of 2 tokens, fusion at 8 and 11"
    results = []
    for claim, arms in (
        (
            "inference",
            {"clip": lambda: infer(clip, pixels), "e2": lambda: infer(e2, pixels, complete_states=False)},
        ),
        ("training", {"clip": lambda: train(clip, pixels), "e2": lambda: train(e2, pixels)}),
    ):
        modules: tuple[nn.Module, ...] = (clip, e2)
        for module in modules:
            module.train(claim == "training")
        timing = interleave(arms, 2 * workplace.turns)
        ratio = timing.ratio("e2", "clip")
        results.append(
            Result(
                "image encoder",
                f"{claim}, E2 / CLIP",
                f"at most {TARGET} x",
                f"{ratio:.2f} x ({timing.spread('e2', 'clip')})",
                ratio <= TARGET,
                f"{detail}; CLIP {timing.median('clip') * 1e3:.0f} ms, E2 {timing.median('e2') * 1e3:.0f} ms"
                + (" forward and backward, with selection noise" if claim == "training" else ""),
            )
        )
    return results
