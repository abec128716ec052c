"""One training step against one that encodes the caption and five tag strings in six passes of 77 tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.activations import ACT2FN
from transformers.models.clip.modeling_clip import CLIPMLP

from e2fashion.data.dataset import CatalogueRows, Item, ProductDataset
from e2fashion.data.loader import Collator
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.training.config import OptimizerConfig
from e2fashion.training.module import ContrastiveModule
from e2fashion.training.optimization import build_optimizer
from e2fashion.types import Batch, E2FashionError
from scripts.bench.encoders import VIT_B32, random_e2
from scripts.bench.harness import Context, Products, Result, compare, interleave

TARGET, TOLERANCE = 3.33, 1e-5
BATCH_SIZE = 16
CONTEXT_LENGTH = 77
PIECES = 1024
"""Size of the BPE vocabulary that is trained on the captions: small enough to split rare brands as CLIP's does (1.25
tokens a word). CLIP's own is not available offline; the embedding table has its 49,408 rows all the same."""


def caption_tokenizer(rows: CatalogueRows) -> PreTrainedTokenizerBase:
    """A byte-level BPE of :data:`PIECES` pieces, trained on every text and tag of the rows."""
    texts = [rows.text(row) for row in range(len(rows))]
    tags = [tag for row in range(len(rows)) for tag in rows.tags(row) if tag]
    return train_tokenizer([*texts, *tags], "bpe", PIECES, CONTEXT_LENGTH)


def training_rows(products: Products, size: int) -> CatalogueRows:
    """The training split of a catalogue with the texts of its run configuration."""
    transform = ImageTransform(size=size, resize="squeeze")
    return CatalogueRows(products.catalogue.split("train"), products.columns, TextTemplate(products.text), transform)


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


@dataclass(frozen=True)
class PaddedTexts:
    """Texts of the naive variant: ``captions`` (B, 77) and ``tags`` E times (B, 77), an absent tag as an empty text."""

    captions: Tensor
    tags: list[Tensor]


def padded_texts(items: Sequence[Item], collate: Collator, length: int = CONTEXT_LENGTH) -> PaddedTexts:
    """Every string of every product at full length."""

    def pad(texts: Sequence[str]) -> Tensor:
        ids, _ = collate.tokenize(texts)
        return F.pad(ids, (0, length - ids.shape[1]), value=int(collate.fit.tokenizer.pad_token_id))

    return PaddedTexts(
        pad([item.text for item in items]),
        [pad([item.tags[entity] or "" for item in items]) for entity in range(collate.entities)],
    )


def naive_loss(module: ContrastiveModule, batch: Batch, texts: PaddedTexts) -> Tensor:
    """The module's loss by complete encoders: all images, then captions and each entity's tags in a pass each."""
    model = module.model
    images = model.get_image_features(batch.pixel_values, complete_states=True)
    passes = [model.get_text_features(ids, complete_states=True).pooler_output for ids in (texts.captions, *texts.tags)]
    return module.loss(
        image_embeds=F.normalize(images.pooler_output, dim=-1),
        text_embeds=F.normalize(passes[0], dim=-1),
        region_embeds=F.normalize(images.region_features, dim=-1),
        tag_embeds=F.normalize(torch.stack(passes[1:], dim=1), dim=-1),
        tag_present=batch.tag_present,
        tag_value=batch.tag_value,
        logit_scale=model.logit_scale,
    ).total


class Steps:
    """Both variants on the same weights, batch and selection noise; the loss of the last step of each is kept."""

    def __init__(self, module: ContrastiveModule, items: Sequence[Item], collate: Collator) -> None:
        self.module = module
        self.batch = module.on_after_batch_transfer(collate(items), 0)
        self.texts = padded_texts(items, collate)
        self.optimizer = build_optimizer(module.model, module.config, module.learning_rate)
        self.losses: dict[str, float] = {}

    def fast(self) -> None:
        """Ours: distinct tags once, texts without padding, last layers only where they are read."""
        self._step("fast", lambda: self.module.compute_loss(self.batch).total)

    def naive(self) -> None:
        """Six passes of 77 tokens, with the activation and the optimizer as Transformers and PyTorch have them."""
        layers = [layer for layer in self.module.model.modules() if isinstance(layer, CLIPMLP)]
        own = [layer.activation_fn for layer in layers]
        fused = [group["fused"] for group in self.optimizer.param_groups]
        for layer in layers:
            layer.activation_fn = ACT2FN[layer.config.hidden_act]
        for group in self.optimizer.param_groups:
            group["fused"] = None
        try:
            self._step("naive", lambda: naive_loss(self.module, self.batch, self.texts))
        finally:
            for layer, activation in zip(layers, own, strict=True):
                layer.activation_fn = activation
            for group, choice in zip(self.optimizer.param_groups, fused, strict=True):
                group["fused"] = choice

    @property
    def difference(self) -> float:
        """The distance of the two losses."""
        return abs(self.losses["fast"] - self.losses["naive"])

    def _step(self, variant: str, compute: Callable[[], Tensor]) -> None:
        self.module.train()
        self.module.model.seed_selection_noise(0)
        self.optimizer.zero_grad()
        loss = compute()
        loss.backward()
        self.optimizer.step()
        self.losses[variant] = float(loss.detach())


def with_distinct_tags(items: Sequence[Item], rows: CatalogueRows) -> list[Item]:
    """The same products, but no tag occurs twice: each takes the next of the catalogue's distinct tag strings."""
    entities = len(items[0].tags)
    pool = list(dict.fromkeys(tag for row in range(len(rows)) for tag in rows.tags(row) if tag))
    needed = len(items) * entities
    if len(pool) < needed:  # SynthFashion has few tags: its captions are strings as good
        pool += list(dict.fromkeys(rows.text(row) for row in range(len(rows))))
    if len(pool) < needed:
        raise E2FashionError(f"{len(items)} products need {needed} distinct tags, the catalogue has {len(pool)}.")
    return [
        replace(item, tags=tuple(pool[number * entities : (number + 1) * entities]))
        for number, item in enumerate(items)
    ]


def training_step(context: Context) -> list[Result]:
    """Time both variants on real repetition of tags and without any."""
    products = context.products()
    rows = training_rows(products, 224)
    tokenizer = caption_tokenizer(rows)
    collate = Collator(tokenizer, CONTEXT_LENGTH, len(products.columns))
    dataset = ProductDataset(rows)
    real = [dataset[product] for product in range(BATCH_SIZE)]
    module = module_of(random_e2(dict.fromkeys(products.columns, 2), tokenizer, VIT_B32), context.folder)
    results = []
    for claim, items in (("tags as they repeat", real), ("all tags distinct", with_distinct_tags(real, rows))):
        steps = Steps(module, items, collate)
        timing = interleave({"naive": steps.naive, "fast": steps.fast}, context.turns)
        lengths = steps.batch.attention_mask.sum(1)
        distinct = steps.batch.tag_input_ids
        detail = (
            f"ViT-B/32 shape, random weights, fp32, forward, backward and Adam; {BATCH_SIZE} of {products.origin}; "
            f"captions of {int(lengths.min())} to {int(lengths.max())} tokens (mean {lengths.float().mean():.1f}; "
            f"BPE of {len(tokenizer):,} pieces trained on the captions instead of CLIP's vocabulary), "
            f"{int(steps.batch.tag_present.sum())} tags of which {len(distinct)} distinct, up to {distinct.shape[1]} "
            f"tokens; naive {timing.median('naive'):.2f} s, ours {timing.median('fast'):.2f} s a step. The naive "
            "variant encodes images as ours does."
        )
        target = TARGET if items is real else None
        result = compare("training step", claim, timing, ("naive", "fast"), detail, at_least=target)
        apart, exact = f"losses {steps.difference:.1e} apart", steps.difference <= TOLERANCE
        results.append(
            result.also("", apart, exact) if target else replace(result, measured=f"{result.measured}, {apart}")
        )
    return results
