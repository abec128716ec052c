"""Figure: linear probing of CLIP, CLIP-FT, FILIP-FT and E2 on brand, season, sub-category and composition.

Claim: E2's image features separate an entity's values better than those of CLIP, CLIP-FT and FILIP-FT.
Runs: those of table 1. Global image features, logistic regression fitted on train, regularization chosen on val,
accuracy on test with its 95 % interval (several seeds: mean and standard deviation).

Command::

    python -m experiments.figure_probing --data fashiongen=<catalogue>
    python -m experiments.figure_probing --scale small --data kagl=<catalogue>
    python -m experiments.figure_probing --scale pretrained --data kagl=<catalogue> --seeds 0,1,2

Cost: that of table 1, whose runs it shares; a probe of ten thousand products takes about a minute on two cores.
Deviations: classes with fewer than ten products in train are left out, and counted in the table; compositions are
classed by their dominant fibre. How the paper did either could not be read, nor could its values.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from e2fashion.tasks.probing.config import ProbeConfig
from e2fashion.tasks.probing.probe import probe
from e2fashion.tasks.probing.tables import draw_probes, probe_table
from e2fashion.types import ResultRecord
from experiments.common.command import main
from experiments.common.experiment import SYSTEMS, Experiment, Material
from experiments.common.tables import write_tables

ENTITIES = ("brand", "season", "sub_category", "composition")


def view(material: Material) -> list[Path]:
    """The bars, and the table with intervals and with what was left out."""
    catalogue = next(iter(material.catalogues.values()))
    entities = [entity for entity in ENTITIES if entity in catalogue.tag_columns]
    records: list[ResultRecord] = [*material.merged]
    for title, folders in material.folders.items():
        for folder in folders:
            config = ProbeConfig(model=str(folder.path), data=str(catalogue.path), entity=entities)
            if material.smoke:
                config = replace(config, min_examples=2, strengths=[1.0, 0.1], resamples=50)
            records += [replace(item, model=title) for item in probe(config, progress=False)[1]]
    files = write_tables(replace(material, records=records), {"": probe_table(records)})
    return [*files, draw_probes(records, material.output / f"{material.experiment.name}.png")]


EXPERIMENT = Experiment(name="figure_probing", title="Linear probing", rows=SYSTEMS, baseline="CLIP-FT", view=view)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
