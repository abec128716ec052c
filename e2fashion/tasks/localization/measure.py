"""Do the patches that an encoder selects lie on the tag's true region? Tokens, attention, its rollout, occlusion.

docs/selection.md defines what is measured. The picture is every product's first view, selection is free of noise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from einops import repeat
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.transforms import normalize
from e2fashion.embedding import evaluating
from e2fashion.encoder import Encoder
from e2fashion.metrics.localization import (
    best_iou,
    best_on_region,
    chance_iou,
    chance_share,
    patches_on_region,
    share_on_region,
)
from e2fashion.records import RunIdentity
from e2fashion.tasks.localization.attribution import attention_map, attention_rollout, heat_of_patches, stripe_occlusion
from e2fashion.tasks.localization.records import Scores, selection_records
from e2fashion.tasks.localization.regions import has_regions, region_batches, region_entities
from e2fashion.tasks.retrieval.measure import MeasureSettings
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError, Entity, ResultRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """Where a method looks in B pictures: ``maps`` (B, E, P), higher is better.

    ``selected`` holds each entity's patches (B, k) int64; None: the k highest of its map. ``layer`` counts the
    finished layers behind which it looks, 0 for the whole encoder.
    """

    layer: int
    maps: Tensor
    selected: tuple[Tensor, ...] | None = None


def token_slices(entities: Sequence[Entity]) -> dict[str, slice]:
    """By entity, where its tokens stand among those of all ``entities``."""
    ends = accumulate(entity.tokens for entity in entities)
    return {entity.name: slice(end - entity.tokens, end) for entity, end in zip(entities, ends, strict=True)}


def selected_by_tokens(encoder: Encoder, pixels: Tensor, tag_embeds: Tensor, entities: Sequence[Entity]) -> list[Found]:
    """What the entities' selection tokens read, per fusion block; an entity's map is the mean over its tokens."""
    output: Any = encoder.model.get_image_features(pixels, output_selection_maps=True)
    slices = token_slices(encoder.entities)
    own = [slices[entity.name] for entity in entities]
    return [
        Found(
            layer,
            torch.stack([output.selection_maps[:, block, tokens].float().mean(1) for tokens in own], 1),
            tuple(output.selected_patches[:, block, tokens].flatten(1) for tokens in own),
        )
        for block, layer in enumerate(encoder.fusion_layers)
    ]


def attended(encoder: Encoder, pixels: Tensor, tag_embeds: Tensor, entities: Sequence[Entity]) -> list[Found]:
    """CLS's attention in the last layer that sees patches: one map, the same for every entity."""
    heat, layer = attention_map(encoder.model, pixels)
    return [Found(layer, repeat(heat, "b p -> b e p", e=len(entities)))]


def rolled_out(encoder: Encoder, pixels: Tensor, tag_embeds: Tensor, entities: Sequence[Entity]) -> list[Found]:
    """Attention rollout up to the last layer that sees patches: one map, the same for every entity."""
    heat, layer = attention_rollout(encoder.model, pixels)
    return [Found(layer, repeat(heat, "b p -> b e p", e=len(entities)))]


def occluded(encoder: Encoder, pixels: Tensor, tag_embeds: Tensor, entities: Sequence[Entity]) -> list[Found]:
    """Stripe occlusion with the tag's text as query."""

    heat = stripe_occlusion(encoder.image_features, pixels, tag_embeds)
    return [Found(0, heat_of_patches(heat, _side(encoder)))]


METHODS: Mapping[str, Callable[[Encoder, Tensor, Tensor, Sequence[Entity]], list[Found]]] = {
    "tokens": selected_by_tokens,
    "attention": attended,
    "rollout": rolled_out,
    "occlusion": occluded,
}
"""Name, as in ``selection=tokens,attention``, and what finds the patches."""


def check_methods(methods: Sequence[str]) -> None:
    """Raise E2FashionError for a method that does not exist."""
    if unknown := [method for method in methods if method not in METHODS]:
        raise E2FashionError(f"selection is '{unknown[0]}'; choose among {', '.join(METHODS)}, separated by commas.")


def selects(encoder: Encoder) -> bool:
    """Whether an encoder has selection tokens and fusion blocks in which they select."""
    return bool(encoder.entities and encoder.fusion_layers)


def measure_selection(
    encoder: Encoder,
    catalogue: Catalogue,
    splits: Sequence[str],
    methods: Sequence[str] = ("tokens",),
    settings: MeasureSettings | None = None,
    run: RunIdentity | None = None,
) -> list[ResultRecord]:
    """Records of every method, entity and fusion block on ``splits``.

    ``tokens`` says nothing about a model without selection tokens. A catalogue that knows no regions yields no record
    and one line in the log. Other methods look for the model's own entities, or for all whose regions are known.

    Raises:
        E2FashionError: an unknown method.
    """
    check_methods(methods)
    settings, run = settings or MeasureSettings(), run or RunIdentity()
    wanted = [method for method in methods if method != "tokens" or selects(encoder)]
    known = [split for split in splits if has_regions(catalogue, split)]
    if wanted and not known:
        logger.info("%s knows no regions of tags: where %s looks is not measured", catalogue.path, encoder.name)
    records = []
    for split in known if wanted else []:
        entities = encoder.entities or region_entities(catalogue, split)
        if foreign := [entity.name for entity in entities if entity.column not in catalogue.tag_columns]:
            logger.info("%s has no tags for %s: left out of selection", catalogue.path, ", ".join(foreign))
            entities = tuple(entity for entity in entities if entity.name not in foreign)
        if entities:
            scores = _scores(encoder, catalogue, split, entities, wanted, settings)
            records += selection_records(scores, encoder, entities, catalogue, split, settings, run)
    return records


def _scores(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    entities: Sequence[Entity],
    methods: Sequence[str],
    settings: MeasureSettings,
) -> dict[tuple[str, int], Scores]:
    """The scores of every product, by method and layer."""
    side, tag_embeds = _side(encoder), _TagEmbeds(encoder)
    device = encoder.model.device
    batches = region_batches(catalogue, split, entities, encoder.transform, side, settings.batch_size)
    label = f"selection on {split} of {encoder.name}"
    parts: dict[tuple[str, int], list[Scores]] = {}
    with (
        evaluating(encoder.model),
        torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"),
    ):
        for batch in progress_bar(batches, desc=label, unit="batch", shown=settings.progress):
            pixels = normalize(batch.squares.to(device), encoder.transform.mean, encoder.transform.std)
            embeds = tag_embeds(batch.tags) if "occlusion" in methods else torch.empty(0)
            on = patches_on_region(batch.coverage)
            for method in methods:
                for found in METHODS[method](encoder, pixels, embeds, entities):
                    values = _values(found, on, [_selected_count(encoder, entity) for entity in entities])
                    scores = Scores(values, batch.coverage.mean(-1), batch.known, batch.cropped)
                    parts.setdefault((method, found.layer), []).append(scores)
    return {key: Scores.joined(own) for key, own in parts.items()}


def _values(found: Found, on: Tensor, counts: Sequence[int]) -> Tensor:
    """Share, pointing, IoU and the chances of share and IoU: (B, E, 5) float64."""
    maps, columns = found.maps.cpu().float(), []
    for number, count in enumerate(counts):
        own, region = maps[:, number], on[:, number]
        if found.selected is None:
            share = best_on_region(own, region, min(count, own.shape[-1]))
        else:
            share = share_on_region(found.selected[number].cpu(), region)
        scores = [share, best_on_region(own, region), best_iou(own, region), chance_share(region), chance_iou(region)]
        columns.append(torch.stack(scores, -1).double())
    return torch.stack(columns, 1)


class _TagEmbeds:
    """Text embeddings of tags, each distinct one computed once."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.known: dict[str, Tensor] = {}

    def __call__(self, tags: Sequence[Sequence[str | None]]) -> Tensor:
        """B products' tags as (B, E, C); zero where a tag is unknown."""
        new = [tag for tag in dict.fromkeys(tag for row in tags for tag in row if tag) if tag not in self.known]
        self.known |= dict(zip(new, self.encoder.embed_tags(new), strict=True))
        absent = torch.zeros(self.encoder.dimension)
        return torch.stack([torch.stack([self.known[tag] if tag else absent for tag in row]) for row in tags])


def _side(encoder: Encoder) -> int:
    return encoder.transform.size // int(encoder.vision_config.patch_size)


def _selected_count(encoder: Encoder, entity: Entity) -> int:
    """How many patches the tokens of an entity select: what a method without tokens may choose as well."""
    return entity.tokens * int(getattr(encoder.vision_config, "patches_per_token", 1))
