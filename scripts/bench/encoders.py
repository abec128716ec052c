"""Encoders with random weights for the benchmarks, and the vocabulary that stands in for CLIP's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase

from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.models.configuration_e2 import E2Config
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import text_special_ids, train_tokenizer
from e2fashion.training.config import OptimizerConfig
from e2fashion.training.module import ContrastiveModule
from scripts.bench.workplace import Products

CONTEXT_LENGTH = 77
PIECES = 1024
"""Size of the BPE vocabulary that is trained on the captions: small enough to split rare brands as CLIP's does (1.25
tokens a word). CLIP's own cannot be had without the network; the embedding table has its 49,408 rows all the same."""

Shape = Mapping[str, Mapping[str, Any]]
VIT_B32: Shape = {"vision_config": {}, "text_config": {}}
"""CLIP's defaults in transformers: ViT-B/32 at 224 pixels, text tower of 12 layers and width 512, C = 512."""
FUSION_LAYERS = [8, 11]


def caption_tokenizer(rows: CatalogueRows) -> PreTrainedTokenizerBase:
    """A byte-level BPE of :data:`PIECES` pieces, trained on every text and tag of the rows."""
    texts = [rows.text(row) for row in range(len(rows))]
    tags = [tag for row in range(len(rows)) for tag in rows.tags(row) if tag]
    return train_tokenizer([*texts, *tags], "bpe", PIECES, CONTEXT_LENGTH)


def training_rows(products: Products, size: int) -> CatalogueRows:
    """The training split of a catalogue with the texts of its run configuration."""
    transform = ImageTransform(size=size, resize="squeeze")
    return CatalogueRows(products.catalogue.split("train"), products.columns, TextTemplate(products.text), transform)


def random_e2(
    entities: Mapping[str, int], tokenizer: PreTrainedTokenizerBase | None = None, shape: Shape = VIT_B32, **vision: Any
) -> E2Model:
    """An E2 of a shape with seeded random weights; ``vision`` are further fields of its vision configuration.

    The weights keep the size of what passes them: CLIP's small initial ones give every product nearly the same
    embedding, which would hide differences between two arms.
    """
    torch.manual_seed(0)
    special = {} if tokenizer is None else text_special_ids(tokenizer)
    model = E2Model(
        E2Config(
            vision_config={
                **shape["vision_config"],
                "entities": dict(entities),
                "fusion_layers": FUSION_LAYERS,
                **vision,
            },
            text_config={**shape["text_config"], **special},
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def random_clip(shape: Shape = VIT_B32) -> CLIPModel:
    """The plain CLIP of the same shape, as transformers builds it."""
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(vision_config=dict(shape["vision_config"]), text_config=dict(shape["text_config"])))


def module_of(model: E2Model, folder: Path, learning_rate: float = 0.0, optimizer: Any = "adam") -> ContrastiveModule:
    """The module that trains ``model`` with all its entities; at rate 0 a step does all its work and moves nothing."""
    entities = [entity.name for entity in model.config.vision_config.entity_list]
    return ContrastiveModule(
        model=model,
        loss=ContrastiveLoss(entities, region_weight=0.5 if entities else 0.0, gather=False),
        learning_rate=learning_rate,
        config=OptimizerConfig(optimizer),
        nonfinite_report=folder / "nonfinite_batch.json",
    )
