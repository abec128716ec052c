"""Tables of where encoders look: lift over chance on small regions, and every metric per entity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2fashion.records import settings_of
from e2fashion.tables import MISSING_VALUE, Column, Fact, Table, pivot
from e2fashion.tasks.localization.measure import ALL_ENTITIES, ALL_REGIONS, SELECTION, SMALL_REGIONS
from e2fashion.types import ResultRecord

Where = tuple[str, str, int]
"""Model, method and layer: a row of the table of lifts."""


def selection_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """Two tables per split, catalogue and setting; none where no record speaks of selection."""

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
        row=_where,
        column=lambda record: record.extra["entity"],
        rows=dict.fromkeys(_where(record) for record in chosen),
        labels=lambda where, _: (_named(where),),
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
        row=lambda record: (_where(record), record.extra["entity"]),
        column=lambda record: record.metric,
        labels=lambda key, _: (_named(key[0]), key[1]),
        caption=f"Regions of every size, {records[0].split}, first views. Left out: the region is unknown or cropped "
        "away. Pointing has the chance of share. Definitions: docs/selection.md.",
    )


def _chance(records: Sequence[ResultRecord], metric: str) -> str:
    """The chance of a metric; n/a where it was not measured."""
    chances = (f"{record.extra['chance']:.1f}" for record in records if record.metric == metric)
    return next(chances, MISSING_VALUE)


def _where(record: ResultRecord) -> Where:
    return record.model, record.protocol, record.extra["layer"]


def _named(where: Where) -> str:
    model, method, layer = where
    return f"{model}: {method}" + (f", layer {layer}" if layer else "")
