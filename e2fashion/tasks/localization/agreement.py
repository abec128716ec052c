"""How far maps of patches agree with occlusion: a measure for photos whose true regions are not known.

Occlusion shows what the score of an image and a tag depends on, at the cost of some 70 passes of the image tower. A
scorer's map of an entity and the occlusion map for the entity's tag are compared by the ranks of their patches
(Spearman's correlation, mean over products). Garments are in the middle of most photos, and two maps that know no more
than this agree as well: the control is the occlusion map of another product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.text import TextTemplate
from e2fashion.embedding import evaluating
from e2fashion.encoder import Encoder
from e2fashion.measuring import encoding_of
from e2fashion.metrics.bootstrap import mean_estimate
from e2fashion.options import Inference
from e2fashion.records import ENCODING, RunIdentity, declare
from e2fashion.tables import Column, Table, pivot
from e2fashion.tasks.localization.attribution import attributions, check_methods, selects
from e2fashion.tasks.localization.measure import (
    ALL_ENTITIES,
    TagEmbeds,
    maps_of_patches,
    named,
    side_of,
    where_of,
)
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError, Entity, ResultRecord

AGREEMENT = declare("agreement", identified_by=("entity", "layer", "against", *ENCODING), reports=("unknown", "flat"))
METRIC = "rank correlation"
OCCLUSION = "occlusion"
SAME, ANOTHER = "the same image", "another image"


@dataclass(frozen=True)
class PatchMaps:
    """Of N products and E entities: ``maps`` (N, E, P) of patches by method and layer, ``known`` (N, E) tags."""

    maps: dict[tuple[str, int], Tensor]
    known: Tensor


def measure_agreement(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    methods: Sequence[str] = ("tokens", "attention"),
    entities: Sequence[Entity] = (),
    products: int | None = None,
    config: Inference | None = None,
    run: RunIdentity | None = None,
    progress: bool = True,
) -> list[ResultRecord]:
    """Records of every method (of :data:`.SCORERS`), block and entity: the agreement with occlusion, and its control.

    ``entities`` are those of a model without selection tokens, for which ``tokens`` is skipped. ``products`` takes so
    many, at equal distances in the split; None: all. A product without the tag, or for whose tag no band scores higher
    than the whole image, is left out and counted (``unknown``, ``flat``).

    Raises:
        E2FashionError: an unknown method, or one that the encoder has nothing for; no entities; fewer than two products
            to compare.
    """
    check_methods(methods, "methods", encoder)
    config, run = config or Inference(), run or RunIdentity()
    wanted = [method for method in methods if method != "tokens" or selects(encoder)]
    entities = encoder.selecting_entities or tuple(entities)
    if not entities:
        raise E2FashionError(f"'{encoder.name}' has no selection tokens: name the entities whose maps are compared.")
    found = patch_maps(encoder, catalogue, split, entities, [*wanted, OCCLUSION], products, config, progress)
    heat = found.maps.pop((OCCLUSION, 0))
    seen = found.known & (heat.amax(-1) > 0)
    if int(seen.sum(0).min()) < 2:
        raise E2FashionError(
            f"{catalogue.path}: of {split}, fewer than 2 products have an occlusion map for the tag of each of "
            f"{', '.join(entity.name for entity in entities)}: take more products."
        )
    context, how = run.context(encoder.name, split, catalogue.fingerprint), encoding_of(encoder, config.precision)
    records = []
    for (method, layer), maps in found.maps.items():
        for against in (SAME, ANOTHER):
            columns = []
            for number in range(len(entities)):
                kept = seen[:, number]
                other = heat[kept, number].roll(int(against == ANOTHER), 0)
                columns.append((rank_correlation(maps[kept, number], other), kept.nonzero()[:, 0], number))
            groups = {entity.name: [column] for entity, column in zip(entities, columns, strict=True)}
            for name, group in (groups | {ALL_ENTITIES: columns}).items():
                values, owners = (torch.cat(part) for part in zip(*(column[:2] for column in group), strict=True))
                chosen = [number for *_, number in group]
                unknown = int((~found.known[:, chosen]).sum())
                left_out = {"unknown": unknown, "flat": int((~seen[:, chosen]).sum()) - unknown}
                records.append(
                    AGREEMENT.record(
                        context,
                        METRIC,
                        *mean_estimate(values, owners),
                        protocol=method,
                        queries=len(values),
                        extra={**how, "entity": name, "layer": layer, "against": against, **left_out},
                    )
                )
    return records


def patch_maps(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    entities: Sequence[Entity],
    methods: Sequence[str],
    products: int | None = None,
    config: Inference | None = None,
    progress: bool = True,
) -> PatchMaps:
    """The maps of every method: first views of ``products`` products, at equal distances in the split; None: all."""
    config, transform = config or Inference(), encoder.transform
    rows = CatalogueRows(catalogue.split(split), [entity.column for entity in entities], TextTemplate(), transform)
    starts = [int(row) for row in rows.product_starts[:-1]]
    count = len(starts) if products is None else min(products, len(starts))
    chosen = [starts[item * len(starts) // count] for item in range(count)]
    embeds, side = TagEmbeds(encoder), side_of(encoder)
    parts: dict[tuple[str, int], list[Tensor]] = {}
    known = torch.tensor([[tag is not None for tag in rows.tags(row)] for row in chosen])
    steps = range(0, count, config.batch_size)
    label = f"maps on {split} of {encoder.name}"
    with evaluating(encoder.model, config.precision):
        for first in progress_bar(steps, desc=label, unit="batch", shown=progress):
            batch = chosen[first : first + config.batch_size]
            squares = torch.stack([transform(rows.image(row)) for row in batch])
            queries = partial(embeds, [rows.tags(row) for row in batch])
            for method, attribution in attributions(encoder, squares, queries, entities, methods):
                maps = maps_of_patches(attribution, len(entities), side)
                parts.setdefault((method, attribution.layer), []).append(maps)
    return PatchMaps({key: torch.cat(batches) for key, batches in parts.items()}, known)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation (N,) of the rows of two (N, P); equal values have their mean rank, flat rows 0."""
    return spearman_corrcoef(first.float().T, second.float().T).double()


def agreement_table(records: Sequence[ResultRecord]) -> Table:
    """Rank correlations of models, methods and blocks, each with its control, against entities."""
    entities = list(dict.fromkeys(record.extra["entity"] for record in records))
    return pivot(
        records,
        ("rank correlation with occlusion", "of"),
        [Column(entity, entity, 2, best="", interval=True) for entity in entities],
        row=lambda record: (named(where_of(record)), record.extra["against"]),
        column=lambda record: record.extra["entity"],
        caption=f"Spearman's correlation of maps of patches with stripe occlusion for the entity's tag, mean over "
        f"{records[0].split}'s products with such a map, with its 95 % bootstrap interval over products or ± the "
        "deviation over seeds. Another image: the occlusion of another product, which shows what the typical position "
        "of garments in photos explains.",
    )
