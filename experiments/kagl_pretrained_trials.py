"""What could make E2 better than the paper's recipe, from one small pretrained CLIP; evaluated only on val.

Claim: none of the paper. Ours to find out: its selection (noise, one patch or more, a mixture), where it fuses, how
tokens are inserted, the weight of the regional loss, the learning rate (CLIP-FT gets the same trials of it).
Runs: ``configs/ablation/kagl_pretrained_trials.yaml``.
Protocol: ``full`` on val, first views, text with tags; differences are against E2 with the paper's settings. Test is
not read here: what val chooses goes into ``kagl_pretrained`` first.

Command::

    python -m experiments.kagl_pretrained_trials --data kagl=catalogues/kagl --scale pretrained

Cost: 15 rows, on one core of a server CPU with bf16 arithmetic 8 (CLIP-FT) to 13 (E2) minutes each; ``--reuse`` takes
the runs of ``kagl_pretrained``.
Deviations: those of ``kagl_pretrained``; one seed unless ``--seeds`` says otherwise.
"""

from __future__ import annotations

import sys

from experiments.common.command import main
from experiments.common.experiment import FASHIONGEN, Experiment
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="kagl_pretrained_trials",
    title="Trials from one small pretrained CLIP, on val",
    recipes={"pretrained": FASHIONGEN["pretrained"]},
    ablation="kagl_pretrained_trials",
    baseline="e2",
    splits=("val",),
    view=retrieval_view("full", split="val"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
