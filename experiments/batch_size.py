"""The batch size (ours): E2 with four heads of scores against CLIP-FT, from batches of 16 products to 256.

Claim: the paper's, of table 5, for faithful selection: E2's lead over CLIP-FT grows as batches shrink.
Runs: ``configs/ablation/batch_size.yaml`` on the scale's E2 with faithful selection: equal epochs, so smaller batches
take more steps. With batches of 64, the quickstart's, they are ``clip_ft`` and ``heads`` of
``experiments.ablation_selection``.
Protocol: ``full`` and ``full_regions``, first views of test, text with tags; lambda of the regional score is chosen on
val. The figure has the regional score, which for CLIP-FT is the global one. Differences are against CLIP-FT with the
same batch.

Command::

    python -m experiments.batch_size --data synthfashion=<catalogue> --seeds 0,1,2

Cost: ten runs a seed, about four minutes each on two AVX2 cores, more with batches of 16.
Deviations: garments are drawn: what holds there need not hold for photos. The learning rate is not scaled with the
batch.
"""

from __future__ import annotations

import sys

from e2fashion.tasks.retrieval.protocols import COMPARED
from experiments.common.command import main
from experiments.common.experiment import LOCAL, Experiment
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="batch_size",
    title="Batch size, E2 with faithful selection and CLIP-FT",
    ablation="batch_size",
    base=LOCAL,
    baseline={f"e2_{size}": f"clip_ft_{size}" for size in (16, 32, 64, 128, 256)},
    recipes={"small": {"synthfashion": "quickstart"}},
    protocols=COMPARED,
    view=retrieval_view("full_regions", curve=(lambda config: config.loader.batch_size, "batch size")),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
