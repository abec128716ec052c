"""Tiny models and inputs for the tests of the encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from e2fashion.models import E2Config, E2Model, E2VisionConfig

EOS = 99
TEXT = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "bos_token_id": 98,
    "eos_token_id": EOS,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
}
ENTITIES = {"brand": 2, "season": 1, "sub_category": 3}

BuildE2 = Callable[..., E2Model]


@pytest.fixture
def build_e2() -> BuildE2:
    """A tiny E2 in evaluation mode; keywords are fields of its vision configuration, ``attention`` and ``text``."""

    def build(seed: int = 0, attention: str = "sdpa", text: dict[str, Any] | None = None, **vision: Any) -> E2Model:
        config = E2Config(
            text_config={**TEXT, **(text or {})},
            vision_config=E2VisionConfig(**{**VISION, **vision}),
            projection_dim=24,
        )
        config._attn_implementation = attention
        torch.manual_seed(seed)
        model = E2Model(config).eval()
        with torch.no_grad():  # the usual small initial weights would hide differences
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
        return model

    return build


@pytest.fixture
def e2(build_e2: BuildE2) -> E2Model:
    """Three entities of different size, fusion behind the first and the second of three layers."""
    return build_e2(entities=ENTITIES, fusion_layers=[1, 2])


@pytest.fixture
def plain_clip() -> CLIPModel:
    """The CLIP that the tiny E2 is built on."""
    torch.manual_seed(1)
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)).eval()


@pytest.fixture
def pixels() -> Tensor:
    """(4, 3, 32, 32)."""
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def texts() -> dict[str, Tensor]:
    """Four texts of 3 to 9 tokens, padded to 12."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([3, 9, 5, 7])
    ids = torch.randint(1, 98, (4, 12), generator=generator)
    columns = torch.arange(12)
    ids[columns == lengths[:, None] - 1] = EOS
    mask = (columns < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}
