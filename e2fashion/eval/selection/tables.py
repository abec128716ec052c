"""Tables of where encoders look: lift over chance on small regions at the top, every metric per entity below."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from e2fashion.eval.selection.records import ALL_ENTITIES, ALL_REGIONS, SELECTION, SMALL_REGIONS
from e2fashion.eval.tables import MISSING_VALUE, Cell, Table, shown
from e2fashion.records import settings_of
from e2fashion.types import ResultRecord

Where = tuple[str, str, int]
"""Model, method and layer: a row of the table of lifts."""


def selection_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """Two tables per split, catalogue and setting; none where no record speaks of selection."""
    kinds: dict[tuple[Any, ...], list[ResultRecord]] = {}
    for record in records:
        if record.task == SELECTION.task:
            how = [item for item in settings_of(record).items() if item[0] not in ("entity", "layer", "regions")]
            kinds.setdefault((record.split, record.data_fingerprint, *how), []).append(record)
    return [table for alike in kinds.values() for table in (lift_table(alike), detail_table(alike))]


def lift_table(records: Sequence[ResultRecord]) -> Table:
    """Lift over chance for regions under 15 % of the picture: models, methods and blocks against entities."""
    chosen = [record for record in records if record.metric == "lift"]
    small = [record for record in chosen if record.extra["regions"] == SMALL_REGIONS]
    entities = list(dict.fromkeys(record.extra["entity"] for record in chosen))
    entities = [name for name in entities if name != ALL_ENTITIES] + [ALL_ENTITIES]
    places = list(dict.fromkeys(_where(record) for record in chosen))
    cells: dict[tuple[Where, str], list[ResultRecord]] = {}
    for record in small:
        cells.setdefault((_where(record), record.extra["entity"]), []).append(record)
    means = {key: round(statistics.fmean(record.value for record in own), 2) for key, own in cells.items()}
    rows = []
    for place in places:
        row = [Cell(_named(place))]
        for entity in entities:
            rivals = [means[other, entity] for other in places if (other, entity) in means]
            best = len(rivals) > 1 and means.get((place, entity)) == max(rivals)
            row.append(Cell(shown(cells.get((place, entity), []), 2, intervals=True), best))
        rows.append(tuple(row))
    return Table(
        ("lift over chance", *entities),
        tuple(rows),
        f"Selected patches on the tag's true region, {records[0].split}, regions {SMALL_REGIONS} of the picture: share "
        "over the share that random patches would reach (1 is chance), with its 95 % bootstrap interval over products"
        f" or ± the deviation over seeds; {MISSING_VALUE} where no region is that small.",
    )


def detail_table(records: Sequence[ResultRecord]) -> Table:
    """Share, pointing game and IoU per model, method, layer and entity over regions of every size, beside chance."""
    chosen = [record for record in records if record.extra["regions"] == ALL_REGIONS]
    lines: dict[tuple[Where, str], dict[str, list[ResultRecord]]] = {}
    for record in chosen:
        own = lines.setdefault((_where(record), record.extra["entity"]), {})
        own.setdefault(record.metric, []).append(record)
    rows = []
    for (place, entity), own in lines.items():
        first = own["share"][0]
        left_out = first.extra["unknown"] + first.extra["cropped"]
        cells = [_named(place), entity, f"{first.queries:,}", f"{left_out:,}", f"{first.extra['area']:.1f}"]
        cells += [
            shown(own["share"], 1),
            f"{first.extra['chance']:.1f}",
            shown(own["lift"], 2),
        ]
        cells += [
            shown(own["pointing"], 1),
            shown(own["iou"], 1),
            f"{own['iou'][0].extra['chance']:.1f}",
        ]
        rows.append(tuple(Cell(text) for text in cells))
    header = ("patches of", "entity", "regions", "left out", "area %", "share %", "chance %", "lift", "pointing %")
    return Table(
        (*header, "IoU %", "chance IoU %"),
        tuple(rows),
        f"Regions of every size, {records[0].split}, first views. Left out: the region is unknown or cropped away. "
        "Pointing has the chance of share. Definitions: docs/selection.md.",
    )


def _where(record: ResultRecord) -> Where:
    return record.model, record.protocol, record.extra["layer"]


def _named(where: Where) -> str:
    model, method, layer = where
    return f"{model}: {method}" + (f", layer {layer}" if layer else "")
