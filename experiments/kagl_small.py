"""E2 against CLIP, both trained from scratch on 9,507 real products: the first table of ``docs/results.md``.

Claim: with the same towers, text, recipe and data, E2's regional terms and selection tokens retrieve better than CLIP
alone. The paper makes that claim for a pretrained ViT-B/32 on Fashion-Gen; this is its smallest test on public photos.

Command::

    e2fashion data prepare configs/data/kagl.yaml path=<fashion-product-images> output=catalogues/kagl
    python -m experiments.kagl_small catalogues/kagl

Cost: about 11 (CLIP) and 16 (E2) minutes on two cores of a server CPU with bf16 arithmetic.
Protocol: ``full``, first views, text with tags; a hit is any product with the same text (and, beside it, the same
product). The epoch is chosen on val; test is read once, by this file, when both runs are finished.
Deviations from the paper: towers from scratch and small, 112 px, entities that this catalogue has, AdamW, flips, one
stage, batch 128, one seed; products that share a tag are positives of each other, selection is free of noise, and the
last layer sees the patches (chosen on val).
"""

from __future__ import annotations

import sys
from pathlib import Path

from e2fashion import runner
from e2fashion.config import load_config
from e2fashion.eval.results import append_records, read_records
from e2fashion.schema import EvaluateConfig, RunConfig

RUNS = ("kagl_small_clip_ft", "kagl_small_e2")
CONFIGS = Path("configs") / "run"
RECORDS = Path("docs") / "results" / "kagl_small.jsonl"


def main(catalogue: str, output: str = "runs", records: str | Path = RECORDS) -> None:
    """Train what is not trained yet, read test once per model, and keep the records."""
    folders = []
    for name in RUNS:
        place = [f"data={catalogue}", f"output={output}/{name}"]
        folders.append(runner.train_run(load_config(RunConfig, CONFIGS / f"{name}.yaml", place)))
    kept = []
    for folder, name in zip(folders, RUNS, strict=True):
        if not any(record.split == "test" for record in read_records(folder.results)):
            runner.evaluate(EvaluateConfig(model=str(folder.path), data=catalogue, split="test", name=name))
        kept += read_records(folder.results)
    records = Path(records)
    records.unlink(missing_ok=True)
    append_records(records, kept)
    print(f"records: {records}. Write the page anew: python -m scripts.results_page")


if __name__ == "__main__":
    main(*sys.argv[1:])
