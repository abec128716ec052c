"""Figure (ours): do selected patches lie where a tag is drawn? E2 and its variants, attention, occlusion; SynthFashion.

Claim: the paper's figures suggest that tokens find the logo, the fabric; nobody has counted. Drawn garments know the
true region of every tag, so the share of selected patches on it can be set against chance, against tokens that read
random patches and were trained the same way, and against what a CLIP without tokens offers.
Runs: CLIP-FT and E2 in the paper's form; E2 trained without noise, and with tokens that read random patches; E2 with
faithful selection, as the quickstart trains it (docs/method.md).
Protocol: first views of test; regions under 15 % of the image; share of selected patches on the region over the share
of chance (docs/selection.md). Attention and occlusion choose as many patches as an entity has tokens.

Command::

    python -m experiments.figure_selection_lift --data synthfashion=<catalogue> --seeds 0,1,2

Cost: about five minutes a run on two cores of a server CPU, five runs a seed; one more minute a run for occlusion.
Deviations: not in the paper. Garments are drawn: what holds for them need not hold for photos.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from e2fashion.encoder import load_encoder
from e2fashion.measuring import identity_of
from e2fashion.plots import Point, draw_bars
from e2fashion.tables import summarize
from e2fashion.tasks.localization.measure import SMALL_REGIONS, detail_table, lift_table, measure_selection
from e2fashion.types import ResultRecord
from experiments.common.command import main
from experiments.common.experiment import LOCAL, Experiment, Material
from experiments.common.tables import write_tables

SPLIT = "test"
EVERY_METHOD = ("tokens", "attention", "rollout", "occlusion")
METHODS = {"CLIP-FT": EVERY_METHOD, "E2": EVERY_METHOD}
"""Scorers by row; of the other rows the tokens alone."""


def view(material: Material) -> list[Path]:
    """The table of lifts, the table of every metric, and the lifts of the last block as bars."""
    catalogue = next(iter(material.catalogues.values()))
    records: list[ResultRecord] = [*material.merged]
    for title, folders in material.folders.items():
        for folder in folders:
            run = identity_of(folder.read_record())
            encoder = load_encoder(str(folder.model), name=title)
            methods = METHODS.get(title, ("tokens",))
            records += measure_selection(encoder, catalogue, [SPLIT], methods, run=run, progress=not material.smoke)
    tables = {"": lift_table(records), "_every_metric": detail_table(records)}
    return [
        *write_tables(replace(material, records=records), tables),
        draw_lifts(records, material.output / f"{material.experiment.name}.png"),
    ]


def draw_lifts(records: Sequence[ResultRecord], file: Path) -> Path:
    """A group of bars per entity, a bar per row and method; of several blocks the last. 1 is chance."""
    lifts = [r for r in records if (r.metric, r.extra["regions"]) == ("lift", SMALL_REGIONS)]
    last: dict[tuple[str, str], int] = {}
    for record in lifts:
        where = record.model, record.protocol
        last[where] = max(last.get(where, 0), record.extra["layer"])
    bars: dict[str, dict[str, list[ResultRecord]]] = {}
    for record in lifts:
        if record.extra["layer"] == last[record.model, record.protocol] and shown(record):
            group = bars.setdefault(f"{record.model}: {record.protocol}", {})
            group.setdefault(record.extra["entity"], []).append(record)
    points = {
        series: {entity: spread_point(seeds) for entity, seeds in groups.items()} for series, groups in bars.items()
    }
    return draw_bars(points, file, "lift over chance (1)")


def shown(record: ResultRecord) -> bool:
    """Whether the figure shows it; it holds six bars a group, the table holds the rest."""
    return record.protocol == "tokens" or (record.model == "CLIP-FT" and record.protocol != "rollout")


def spread_point(seeds: Sequence[ResultRecord]) -> Point:
    """The mean, one standard deviation either side where there are several seeds."""
    point = Point.of(0.0, summarize(seeds))
    return point if len(seeds) > 1 else Point(0.0, point.value)


EXPERIMENT = Experiment(
    name="figure_selection_lift",
    title="Do selected patches lie on the tag's true region?",
    rows={
        "CLIP-FT": "clip_ft",
        "E2": "e2",
        "E2, no noise": "e2_no_noise",
        "E2, random patches": "e2_random_patches",
        "E2, faithful selection": LOCAL,
    },
    recipes={"small": {"synthfashion": "quickstart"}},
    view=view,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
