"""Do the patches that an encoder selects lie on the tag's true region? Every scorer of patches: records and tables.

docs/selection.md defines what is measured. The image is every product's first view, selection is free of noise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.storage import REGIONS_COLUMN, decode_regions
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.embedding import evaluating
from e2fashion.encoder import Encoder
from e2fashion.measuring import encoding_of
from e2fashion.metrics.bootstrap import Estimate, bootstrap, estimates, weighted_means
from e2fashion.metrics.localization import (
    SMALL_REGION,
    best_iou,
    best_on_region,
    chance_iou,
    chance_share,
    patch_coverage,
    patches_on_region,
    share_on_region,
)
from e2fashion.options import Inference
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare, settings_of
from e2fashion.tables import MISSING_VALUE, Column, Fact, Table, pivot
from e2fashion.tasks.localization.attribution import Attribution, attributions, check_methods, heat_of_patches, selects
from e2fashion.terminal import progress_bar
from e2fashion.types import Box, Entity, ResultRecord

logger = logging.getLogger(__name__)

SELECTION = declare(
    "selection",
    identified_by=("entity", "layer", "regions", *ENCODING),
    reports=("area", "unknown", "cropped", "null", "chance"),
)
ALL_ENTITIES = "(all)"
"""Stands for the entities together; no entity can be called so."""

ALL_REGIONS, SMALL_REGIONS = "all", f"under {SMALL_REGION:.0%}"
METRICS = ("share", "pointing", "iou", "lift")
"""The first three in percent, lift as a factor: share over its chance."""


@dataclass(frozen=True)
class Scores:
    """Of N products and E entities: ``values`` (N, E, 5), share, pointing, IoU, chance of share, chance of IoU;
    ``area`` (N, E), the share of the image that the region covers; ``known`` and ``cropped`` (N, E) bool; ``null``
    (N, E), the share of picks of no patch."""

    values: Tensor
    area: Tensor
    known: Tensor
    cropped: Tensor
    null: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of several batches as those of one."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def measure_selection(
    encoder: Encoder,
    catalogue: Catalogue,
    splits: Sequence[str],
    methods: Sequence[str] = ("tokens",),
    config: Inference | None = None,
    run: RunIdentity | None = None,
    progress: bool = True,
) -> list[ResultRecord]:
    """Records of every method (of :data:`.SCORERS`), entity and fusion block on ``splits``.

    ``tokens`` is skipped for a model without selection tokens. A catalogue without regions yields no record and one
    line in the log. Other methods are measured on the model's entities, or on all entities whose regions are known.

    Raises:
        E2FashionError: an unknown method, or one that the encoder has nothing for.
    """
    check_methods(methods, "selection", encoder)
    config, run = config or Inference(), run or RunIdentity()
    wanted = [method for method in methods if method != "tokens" or selects(encoder)]
    known = [split for split in splits if has_regions(catalogue, split)]
    if wanted and not known:
        logger.info("%s has no regions of tags: where %s looks is not measured", catalogue.path, encoder.name)
    records = []
    for split in known if wanted else []:
        entities = encoder.selecting_entities or region_entities(catalogue, split)
        if foreign := [entity.name for entity in entities if entity.column not in catalogue.tag_columns]:
            logger.info("%s has no tags for %s: left out of selection", catalogue.path, ", ".join(foreign))
            entities = tuple(entity for entity in entities if entity.name not in foreign)
        if entities:
            scores = _scores(encoder, catalogue, split, entities, wanted, config, progress)
            context = run.context(encoder.name, split, catalogue.fingerprint)
            how, patches = encoding_of(encoder, config.precision), side_of(encoder) ** 2
            records += selection_records(scores, [entity.name for entity in entities], context, how, patches)
    return records


def _scores(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    entities: Sequence[Entity],
    methods: Sequence[str],
    config: Inference,
    progress: bool,
) -> dict[tuple[str, int], Scores]:
    """The scores of every product, by method and layer."""
    side, tag_embeds = side_of(encoder), TagEmbeds(encoder)
    # What a method without tokens may choose as well: as many patches as the entity's tokens select.
    counts = [min(_picks(encoder, entity), side * side) for entity in entities]
    batches = region_batches(catalogue, split, entities, encoder.transform, side, config.batch_size)
    label = f"selection on {split} of {encoder.name}"
    parts: dict[tuple[str, int], list[Scores]] = {}
    with evaluating(encoder.model, config.precision):
        for batch in progress_bar(batches, desc=label, unit="batch", shown=progress):
            on = patches_on_region(batch.coverage)
            queries = partial(tag_embeds, batch.tags)
            for method, attribution in attributions(encoder, batch.squares, queries, entities, methods):
                values = _values(attribution, on, counts, side)
                area, null = batch.coverage.mean(-1), torch.zeros_like(values[..., 0])
                if attribution.selected is not None:
                    null = torch.stack([(p < 0).double().mean(-1) for p in attribution.selected], 1).cpu()
                scores = Scores(values, area, batch.known, batch.cropped, null)
                parts.setdefault((method, attribution.layer), []).append(scores)
    return {key: Scores.joined(batches) for key, batches in parts.items()}


def _values(attribution: Attribution, on: Tensor, counts: Sequence[int], side: int) -> Tensor:
    """Share, pointing, IoU and the chances of share and IoU: (B, E, 5) float64."""
    maps, columns = maps_of_patches(attribution, len(counts), side), []
    for number, count in enumerate(counts):
        heat, region = maps[:, number], on[:, number]
        if attribution.selected is None:
            share = best_on_region(heat, region, count)
        else:
            share = share_on_region(attribution.selected[number].cpu(), region)
        scores = [share, best_on_region(heat, region), best_iou(heat, region), chance_share(region), chance_iou(region)]
        columns.append(torch.stack(scores, -1).double())
    return torch.stack(columns, 1)


def maps_of_patches(attribution: Attribution, entities: int, side: int) -> Tensor:
    """The maps of an attribution as (B, E, P) of ``side`` x ``side`` patches, be they finer or one for all entities."""
    maps = attribution.maps.cpu().float()
    if maps.shape[-1] != side * side:
        cells = round(maps.shape[-1] ** 0.5)
        maps = heat_of_patches(rearrange(maps, "b e (h w) -> b e h w", h=cells, w=cells), side)
    return maps.expand(-1, entities, -1)


def _picks(encoder: Encoder, entity: Entity) -> int:
    """How many patches an entity's tokens pick; without fusion blocks one each."""
    blocks = getattr(encoder.model.vision_model, "fusion_blocks", {})
    return next((block.picks_of(entity) for block in blocks.values()), entity.tokens)


class TagEmbeds:
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


def side_of(encoder: Encoder) -> int:
    """Patches along the square that the encoder sees."""
    return encoder.transform.size // int(encoder.vision_config.patch_size)


def selection_records(
    scores: Mapping[tuple[str, int], Scores],
    entities: Sequence[str],
    context: RecordContext,
    how: Mapping[str, Any],
    patches: int,
) -> list[ResultRecord]:
    """Every metric by method, layer, entity (and all together), over all regions and over the small ones.

    ``protocol`` is the method; ``extra`` holds ``entity``, ``layer``, ``regions``, the exact ``chance`` of the metric,
    the mean ``area`` of the regions in percent, how many products were left out because the region is ``unknown`` or
    was ``cropped`` away, the percentage of picks of the ``null`` patch where there are any, and ``how`` images were
    encoded. ``queries`` are the products and entities that were counted, ``candidates`` the ``patches``.
    """
    groups = {name: [number] for number, name in enumerate(entities)} | {ALL_ENTITIES: list(range(len(entities)))}
    records = []
    for (method, layer), every in scores.items():
        for entity, columns in groups.items():
            values, area, known, cropped = (
                part[:, columns] for part in (every.values, every.area, every.known, every.cropped)
            )
            lost = int(cropped.sum())
            left_out = {"unknown": int((~known).sum()) - lost, "cropped": lost}
            for regions, counted in ((ALL_REGIONS, known), (SMALL_REGIONS, known & (area < SMALL_REGION))):
                if not counted.any():
                    continue
                where = {"entity": entity, "layer": layer, "regions": regions}
                size = {"area": 100 * float(area[counted].mean())}
                if every.null.any():
                    size["null"] = 100 * float(every.null[:, columns][counted].mean())
                product = counted.nonzero()[:, 0].unique(return_inverse=True)[1]
                for metric, (estimate, chance) in _estimates(values[counted], product).items():
                    records.append(
                        SELECTION.record(
                            context,
                            metric,
                            *estimate,
                            protocol=method,
                            queries=int(counted.sum()),
                            candidates=float(patches),
                            extra={**how, **where, **size, **left_out, "chance": chance},
                        )
                    )
    return records


def _estimates(values: Tensor, product: Tensor) -> dict[str, tuple[Estimate, float]]:
    """Every metric (bootstrap over products, seed 0) and its chance, from rows (Q, 5) of products (Q,)."""
    units = int(product.max()) + 1
    means = weighted_means(values, product, units)

    def with_lift(weights: Tensor) -> Tensor:
        drawn = means(weights)
        return torch.cat([100 * drawn, drawn[:, :1] / drawn[:, 3:4]], dim=-1)

    value = with_lift(torch.ones(1, units))[0].tolist()
    measured = dict(zip(("share", "pointing", "iou", "chance", "chance_iou", "lift"), value, strict=True))
    found = estimates(measured, bootstrap(with_lift, units))
    chances = {"share": value[3], "pointing": value[3], "iou": value[4], "lift": 1.0}
    return {metric: (found[metric], chances[metric]) for metric in METRICS}


@dataclass(frozen=True)
class RegionBatch:
    """First views of B products.

    ``squares`` (B, 3, S, S) uint8; ``coverage`` (B, E, P) float64, the share of every patch that the tag's region
    covers, zero where it is not ``known`` (B, E) bool; ``cropped`` (B, E) bool: a region is known but is wholly
    outside the square; ``tags`` B tuples in the order of the entities.
    """

    squares: Tensor
    coverage: Tensor
    known: Tensor
    cropped: Tensor
    tags: list[tuple[str | None, ...]]


def has_regions(catalogue: Catalogue, split: str) -> bool:
    """Whether a split has the regions of its tags."""
    return REGIONS_COLUMN in catalogue.split(split).column_names


def region_entities(catalogue: Catalogue, split: str) -> tuple[Entity, ...]:
    """The tag columns for which a split has regions, as entities with the paper's two tokens."""
    texts = catalogue.split(split).with_format(None)[REGIONS_COLUMN]
    present = {column for text in texts if text for column in decode_regions(text)}
    return tuple(Entity(column, column) for column in catalogue.tag_columns if column in present)


def boxes_in_square(boxes: Sequence[Box], transform: ImageTransform, height: int, width: int) -> list[Box]:
    """Boxes of an image (height, width) in its square; those that were cropped away are left out."""
    mapped = [transform.map_box(box, height, width) for box in boxes]
    return [box for box in mapped if box is not None]


def region_batches(
    catalogue: Catalogue,
    split: str,
    entities: Sequence[Entity],
    transform: ImageTransform,
    side: int,
    batch_size: int = 128,
) -> Iterator[RegionBatch]:
    """Every product's first view and regions, on a grid of ``side`` x ``side`` patches, in the catalogue's order."""
    columns = [entity.column for entity in entities]
    rows = CatalogueRows(catalogue.split(split), columns, TextTemplate(), transform)
    texts = catalogue.split(split)[REGIONS_COLUMN]
    starts = [int(row) for row in rows.product_starts[:-1]]
    for first in range(0, len(starts), batch_size):
        chosen = starts[first : first + batch_size]
        images = [rows.image(row) for row in chosen]
        coverage = torch.zeros(len(chosen), len(columns), side * side, dtype=torch.float64)
        known, cropped = torch.zeros(2, len(chosen), len(columns), dtype=torch.bool)
        tags = [rows.tags(row) for row in chosen]
        for item, (row, image) in enumerate(zip(chosen, images, strict=True)):
            regions = decode_regions(texts[row]) if texts[row] else {}
            for number, column in enumerate(columns):
                if tags[item][number] is None or not regions.get(column):
                    continue
                boxes = boxes_in_square(regions[column], transform, *image.shape[-2:])
                coverage[item, number] = patch_coverage(boxes, side)
                known[item, number], cropped[item, number] = bool(boxes), not boxes
        squares = torch.stack([transform(image) for image in images])
        yield RegionBatch(squares, coverage, known, cropped, tags)


Where = tuple[str, str, int]
"""Model, method and layer: a row of the table of lifts."""


def selection_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """Two tables per split, catalogue and setting; none without records of selection."""

    def kind(record: ResultRecord) -> tuple[Any, ...]:
        how = [item for item in settings_of(record).items() if item[0] not in ("entity", "layer", "regions")]
        return (record.split, record.data_fingerprint, *how)

    kinds = SELECTION.grouped(records, kind).values()
    return [table for alike in kinds for table in (lift_table(alike), detail_table(alike))]


def lift_table(records: Sequence[ResultRecord]) -> Table:
    """Lift over chance for regions under 15 % of the image: models, methods and blocks against entities."""
    chosen = [record for record in records if record.metric == "lift"]
    entities = list(dict.fromkeys(record.extra["entity"] for record in chosen))
    entities = [name for name in entities if name != ALL_ENTITIES] + [ALL_ENTITIES]
    return pivot(
        [record for record in chosen if record.extra["regions"] == SMALL_REGIONS],
        ("lift over chance",),
        [Column(entity, entity, 2, interval=True) for entity in entities],
        row=where_of,
        column=lambda record: record.extra["entity"],
        rows=dict.fromkeys(where_of(record) for record in chosen),
        labels=lambda where, _: (named(where),),
        caption=f"Selected patches on the tag's true region, {records[0].split}, regions {SMALL_REGIONS} of the "
        "image: share over the share that random patches would reach (1 is chance), with its 95 % bootstrap interval "
        f"over products or ± the deviation over seeds; {MISSING_VALUE} where no region is that small.",
    )


def detail_table(records: Sequence[ResultRecord]) -> Table:
    """Share, pointing game and IoU per model, method, layer and entity over regions of every size, and chance."""

    def number(metric: str, title: str, digits: int = 1) -> Column:
        return Column(title, metric, digits, best="")

    return pivot(
        [record for record in records if record.extra["regions"] == ALL_REGIONS],
        ("patches of", "entity"),
        [
            Fact("regions", lambda group: f"{group[0].queries:,}"),
            Fact("left out", lambda group: f"{group[0].extra['unknown'] + group[0].extra['cropped']:,}"),
            Fact("area %", lambda group: f"{group[0].extra['area']:.1f}"),
            number("share", "share %"),
            Fact("chance %", lambda group: _chance(group, "share")),
            number("lift", "lift", 2),
            number("pointing", "pointing %"),
            number("iou", "IoU %"),
            Fact("chance IoU %", lambda group: _chance(group, "iou")),
        ],
        row=lambda record: (where_of(record), record.extra["entity"]),
        column=lambda record: record.metric,
        labels=lambda key, _: (named(key[0]), key[1]),
        caption=f"Regions of every size, {records[0].split}, first views. Left out: the region is unknown or cropped "
        "away. Pointing has the chance of share. Definitions: docs/selection.md.",
    )


def _chance(records: Sequence[ResultRecord], metric: str) -> str:
    """The chance of a metric; n/a where it was not measured."""
    chances = (f"{record.extra['chance']:.1f}" for record in records if record.metric == metric)
    return next(chances, MISSING_VALUE)


def where_of(record: ResultRecord) -> Where:
    """The row of a record."""
    return record.model, record.protocol, record.extra["layer"]


def named(where: Where) -> str:
    """The label of a row."""
    model, method, layer = where
    return f"{model}: {method}" + (f", layer {layer}" if layer else "")
