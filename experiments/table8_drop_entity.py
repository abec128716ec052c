"""Table 8: E2 without one entity at a time: its selection tokens, its region head and its term of the loss go.

Claim: every entity contributes.
Runs: ``configs/ablation/drop_entity.yaml`` on the scale's E2 configuration; entities that it lacks are left out, and
named below the caption.
Protocol: ``full``, first views, text with tags (also those of the entity that is dropped); differences are against E2.

Command::

    python -m experiments.table8_drop_entity --data fashiongen=<catalogue>
    python -m experiments.table8_drop_entity --scale small --data kagl=<catalogue> --seeds 0,1,2

Cost: the paper's scale has not been run here; small on KAGL 5 runs a seed, about 15 minutes each on two cores.
Deviations: ``--scale small`` has the entities of its data set.
"""

from __future__ import annotations

import sys

from experiments.common.command import main
from experiments.common.experiment import Experiment
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="table8_drop_entity",
    title="E2 without one entity at a time",
    table="table8",
    ablation="drop_entity",
    baseline="e2",
    view=retrieval_view("full", parameters=True),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
