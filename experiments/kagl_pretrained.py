"""The paper's situation in small: one pretrained CLIP, and every system fine-tuned from it.

Claim: started from the same CLIP, with the same text, recipe and data, E2 retrieves better than CLIP-FT and FILIP-FT.
The paper makes it for OpenAI's ViT-B/32 on Fashion-Gen (R@1 +7.6 and +9.1 over CLIP-FT).
Runs: ``configs/ablation/kagl_pretrained.yaml``.
Protocol: ``full``, first views, text with tags; differences are against CLIP-FT. Test is read when every run is
finished. Each system has the same recipe; none is tuned.
Side evaluations: R@1 by how often training saw the brand and by the length of the text; zero-shot classification
before and after fine-tuning, and with weights between the two.

Command::

    e2fashion data prepare configs/data/kagl_60x80.yaml path=<images.parquet> output=catalogues/kagl_60x80
    e2fashion data prepare configs/data/kagl.yaml path=<fashion-product-images> output=catalogues/kagl
    e2fashion train configs/run/kagl_pretrain.yaml data=catalogues/kagl_60x80
    python -m experiments.kagl_pretrained --data kagl=catalogues/kagl --seeds 0,1,2 --jobs 2

``--reuse <folder>`` takes finished runs of ``e2fashion ablate`` from there; ``--records
docs/results/kagl_pretrained.jsonl`` keeps the records for the page of results.

Cost: on two cores of a server CPU with bf16 arithmetic 30 minutes to pretrain, 4 (CLIP-FT) to 7 (E2) minutes a run,
six runs a seed; two minutes of measuring.
Deviations: small towers pretrained on names alone, 112 px, the entities that this catalogue has, AdamW, flips, bf16,
1 + 8 epochs. ``--smoke`` starts from nothing, so that it mixes no weights.
"""

from __future__ import annotations

import sys

from experiments.common.command import main
from experiments.common.experiment import FASHIONGEN, Experiment
from experiments.common.side_evaluations import side_evaluations
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="kagl_pretrained",
    title="Fine-tuned from one small pretrained CLIP",
    recipes={"pretrained": FASHIONGEN["pretrained"]},
    ablation="kagl_pretrained",
    baseline="clip_ft",
    splits=("val", "test"),
    view=retrieval_view("full", parameters=True, side=side_evaluations),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
