"""The learning curve (ours): E2 with four heads of scores against CLIP-FT, by the share of the training products.

Claim: none beforehand; the question is whether E2's lead needs much data or little.
Runs: ``configs/ablation/learning_curve.yaml`` on the scale's E2 with faithful selection: equal epochs, so fewer
products take fewer steps.
Protocol: ``full`` and ``full_regions``, first views of test, text with tags; lambda of the regional score is chosen on
val. The figure has the regional score, which for CLIP-FT is the global one. Differences are against CLIP-FT trained on
the same products.

Command::

    e2fashion data prepare configs/data/synthfashion.yaml products=5000 output=<catalogue>
    python -m experiments.learning_curve --data synthfashion=<catalogue>

Cost: eight runs a seed, 1 to 8 minutes each on two AVX2 cores.
Deviations: not in the paper. Garments are drawn: what holds there need not hold for photos.
"""

from __future__ import annotations

import sys

from e2fashion.tasks.retrieval.protocols import COMPARED
from experiments.common.command import main
from experiments.common.experiment import LOCAL, Experiment
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="learning_curve",
    title="Learning curve, E2 and CLIP-FT",
    ablation="learning_curve",
    base=LOCAL,
    baseline={f"heads{share}": f"clip_ft{share}" for share in ("_eighth", "_quarter", "_half", "")},
    recipes={"small": {"synthfashion": "quickstart"}},
    protocols=COMPARED,
    view=retrieval_view(
        "full_regions", curve=(lambda config: config.loader.train_share, "share of the training products")
    ),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
