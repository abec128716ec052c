"""E2 against CLIP, both trained from scratch on 9,507 real products: the first table of ``docs/results.md``.

Claim: with the same towers, text, recipe and data, E2's regional terms and selection tokens retrieve better than CLIP
alone. The paper makes that claim for a pretrained ViT-B/32 on Fashion-Gen; this is its smallest test on public photos.
Runs: ``configs/run/kagl_small_clip_ft.yaml``, ``kagl_small_e2.yaml``.
Protocol: ``full``, first views, text with tags; a hit is any product with the same text (a second table: the
same product). The epoch is chosen on val; test is read when both runs are finished.

Command::

    e2fashion data prepare configs/data/kagl.yaml path=<fashion-product-images> output=catalogues/kagl
    python -m experiments.kagl_small --data kagl=catalogues/kagl --records docs/results/kagl_small.jsonl

Cost: about 11 (CLIP) and 16 (E2) minutes on two cores of a server CPU with bf16 arithmetic.
Deviations: towers from scratch and small, 112 px, entities that this catalogue has, AdamW, flips, one stage, batch 128,
one seed; products that share a tag are positives of each other, selection is free of noise, and the last layer sees the
patches (chosen on val).
"""

from __future__ import annotations

import sys

from experiments.common.command import main
from experiments.common.experiment import Experiment
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="kagl_small",
    title="E2 against CLIP from scratch on real products",
    rows={"CLIP-FT": "clip_ft", "E2": "e2"},
    recipes={"small": {"kagl": "kagl_small"}},
    baseline="CLIP-FT",
    splits=("val", "test"),
    view=retrieval_view("full"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
