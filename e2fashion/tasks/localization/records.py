"""From the scores of single products to records: means, chance, lift and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.metrics.bootstrap import bootstrap, interval, weighted_means
from e2fashion.metrics.localization import SMALL_REGION
from e2fashion.records import ENCODING, RunIdentity, declare
from e2fashion.tasks.retrieval.measure import MeasureSettings
from e2fashion.types import Entity, ResultRecord

SELECTION = declare(
    "selection",
    identified_by=("entity", "layer", "regions", *ENCODING),
    reports=("area", "unknown", "cropped", "chance"),
)
ALL_ENTITIES = "(all)"
"""Stands for the entities together; no entity can be called so."""

ALL_REGIONS, SMALL_REGIONS = "all", f"under {SMALL_REGION:.0%}"
METRICS = ("share", "pointing", "iou", "lift")
"""The first three in percent, lift as a factor: share over its chance."""


@dataclass(frozen=True)
class Scores:
    """Of N products and E entities: ``values`` (N, E, 5), share, pointing, IoU, chance of share, chance of IoU;
    ``area`` (N, E), the share of the picture that the region covers; ``known`` and ``cropped`` (N, E) bool."""

    values: Tensor
    area: Tensor
    known: Tensor
    cropped: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of several batches as those of one."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def selection_records(
    scores: Mapping[tuple[str, int], Scores],
    encoder: Encoder,
    entities: Sequence[Entity],
    catalogue: Catalogue,
    split: str,
    settings: MeasureSettings,
    run: RunIdentity,
) -> list[ResultRecord]:
    """Every metric by method, layer, entity (and all together), over all regions and over the small ones.

    ``protocol`` is the method; ``extra`` holds ``entity``, ``layer``, ``regions``, the exact ``chance`` of the metric,
    the mean ``area`` of the regions in percent, and how many products were left out because the region is ``unknown``
    or was ``cropped`` away. ``queries`` are products and entities that were counted, ``candidates`` patches.
    """
    context = run.context(encoder.name, split, catalogue.fingerprint)
    how = {"image_size": encoder.transform.size, "resize": encoder.transform.resize, "precision": settings.precision}
    side = encoder.transform.size // int(encoder.vision_config.patch_size)
    groups = {entity.name: [number] for number, entity in enumerate(entities)}
    groups[ALL_ENTITIES] = list(range(len(entities)))
    records = []
    for (method, layer), found in scores.items():
        for entity, columns in groups.items():
            values, area, known = found.values[:, columns], found.area[:, columns], found.known[:, columns]
            cropped = int(found.cropped[:, columns].sum())
            left_out = {"unknown": int((~known).sum()) - cropped, "cropped": cropped}
            for regions, counted in ((ALL_REGIONS, known), (SMALL_REGIONS, known & (area < SMALL_REGION))):
                if not counted.any():
                    continue
                where = {
                    "entity": entity,
                    "layer": layer,
                    "regions": regions,
                    "area": 100 * float(area[counted].mean()),
                }
                product = counted.nonzero()[:, 0].unique(return_inverse=True)[1]
                for metric, (value, low, high, chance) in _estimates(values[counted], product).items():
                    records.append(
                        SELECTION.record(
                            context,
                            metric,
                            value,
                            low,
                            high,
                            protocol=method,
                            queries=int(counted.sum()),
                            candidates=float(side * side),
                            extra=how | where | left_out | {"chance": chance},
                        )
                    )
    return records


def _estimates(values: Tensor, product: Tensor) -> dict[str, tuple[float, float, float, float]]:
    """Value, bounds (bootstrap over products, seed 0) and chance of every metric, from rows (Q, 5) of products (Q,)."""
    units = int(product.max()) + 1
    means = weighted_means(values, product, units)

    def with_lift(weights: Tensor) -> Tensor:
        found = means(weights)
        return torch.cat([100 * found, found[:, :1] / found[:, 3:4]], dim=-1)

    value = with_lift(torch.ones(1, units))[0]
    low, high = interval(bootstrap(with_lift, units))
    chances = (value[3], value[3], value[4], torch.ones(()))
    return {
        metric: (float(value[place]), float(low[place]), float(high[place]), float(chance))
        for metric, place, chance in zip(METRICS, (0, 1, 2, 5), chances, strict=True)
    }
