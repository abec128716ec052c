"""Table 4: captioning without paired training, DeCap and CapDec with and without E2.

Claim: a decoder that was trained on texts alone captions images better when E2 embeds them than when CLIP-FT does.
Runs: ``configs/run/<recipe>_clip_ft.yaml``, ``_e2.yaml`` as encoders; on each the decoders of ``configs/caption``
(``_small`` at that scale): DeCap on embeddings as they are and projected, with noise, CapDec, and for E2 DeCap
prompted with the tags nearest to its regions (beyond the paper).
Protocol: descriptions of test's products, BLEU, METEOR, ROUGE-L and CIDEr-D through ``pycocoevalcap``; epochs of
decoders are chosen by the loss on val's texts; baselines are the most frequent caption of train and the nearest one.

Command::

    python -m experiments.table4_captioning --data fashiongen=<catalogue>
    python -m experiments.table4_captioning --scale small --data kagl=<catalogue>

``--view`` trains no encoder, but decoders that are missing.
Cost: that of table 1's CLIP-FT and E2, whose runs it shares; at the paper's scale decoders have not been trained here,
small ones take about four minutes each on one core. Without Java the tokenizer is `words`, which the
table says, and METEOR is n/a.
Deviations: the language model of CapDec is trained from scratch, and its rows say so; for a pretrained GPT-2 train it
with ``e2fashion caption train configs/caption/capdec.yaml lm=<GPT-2>``. Captions are longer than DeCap's 20 tokens.
On Fashion Product Images captions are names of six words, the encoders and decoders small, and learning rates our own.
The published rows name no split and no tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from e2fashion import load_encoder
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.metrics.captioning import has_java
from e2fashion.options import identity_values
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.captioning.config import CaptionEvaluateConfig, CaptionTrainConfig, Reading
from e2fashion.tasks.captioning.measure import ProductCaption, captions_file, evaluate_captions, read_captions
from e2fashion.tasks.captioning.tables import caption_table, published_caption_rows, sheet_rows, write_sheet
from e2fashion.tasks.captioning.train import train_decoder
from e2fashion.types import ResultRecord
from experiments.common.command import main
from experiments.common.experiment import FASHIONGEN, ROOT, Experiment, Material
from experiments.common.tables import source_notes, write_tables

CONFIGS = ROOT / "configs" / "caption"
SPLIT = "test"
SHEET = "project"
TINY = (
    "accelerator=cpu",
    "logging.to=[]",
    "length=8",
    "model={layers: 1, heads: 2, width: 8}",
    "mapper={length: 2, layers: 1, heads: 2}",
    "train={epochs: 1, batch_size: 16}",
)


@dataclass(frozen=True)
class Variant:
    """A decoder for every encoder: its configuration, changes to it, and the readings to measure.

    ``prompt_from``: tags of all entities, nearest to the regions (encoders without entities are left out) or to the
    image, are the prompt; empty: none.
    """

    config: str
    overrides: tuple[str, ...] = ()
    reading: tuple[Reading, ...] = ("project",)
    prompt_from: Literal["", "regions", "image"] = ""


VARIANTS = (
    Variant("decap", reading=("nearest", "direct", "project")),
    Variant("decap", ("noise_variance=0.016",), reading=("direct", "project")),
    Variant("capdec", reading=("direct",)),
    Variant("decap", prompt_from="regions"),
)


@dataclass(frozen=True)
class Job:
    """One decoder of one encoder, with the title of its row."""

    title: str
    variant: Variant
    config: CaptionTrainConfig


def view(material: Material) -> list[Path]:
    """The table, and the sheet of products to read."""
    catalogue = next(iter(material.catalogues.values()))
    measured, captions = measure_captions(material, VARIANTS)
    records = [*material.merged, *measured]
    table = caption_table(records, published_caption_rows(material.published))
    files = write_tables(replace(material, records=records), {"": table}, source_notes(material.published))
    note = f"{material.caption}\nProducts of {SPLIT} drawn once; image embeddings are projected onto the memory."
    rows = sheet_rows(catalogue, SPLIT, captions)
    return [*files, *write_sheet(rows, material.output / "captions.md", "Captions without paired training", note)]


def measure_captions(
    material: Material, variants: Sequence[Variant]
) -> tuple[list[ResultRecord], dict[str, list[ProductCaption]]]:
    """The records of every variant on every run, whose decoders are trained first, and the first variant's captions.

    Captions are by row; of several seeds they are the first's.
    """
    (name, catalogue), *_ = material.catalogues.items()
    jobs = list(_jobs(material, catalogue, variants, "" if name == "fashiongen" else "_small"))
    for job in jobs:
        train_decoder(job.config, progress=False)
    records: list[ResultRecord] = []
    captions: dict[str, list[ProductCaption]] = {}
    for number, job in enumerate(jobs):
        results, measured = evaluate_captions(_evaluation(job, catalogue, material.smoke, number == 0), False)
        records += [replace(record, model=record.model and job.title) for record in measured]
        if job.variant == variants[0]:
            title = "DeCap" if job.title == "CLIP-FT" else f"DeCap + {job.title}"
            captions.setdefault(title, read_captions(captions_file(results, SPLIT, SHEET)))
    return records, captions


def _jobs(material: Material, catalogue: Catalogue, variants: Sequence[Variant], suffix: str) -> Iterator[Job]:
    runs = [
        (title, folder, load_encoder(str(folder.path)).entities)
        for title, folders in material.folders.items()
        for folder in folders
    ]
    columns = list(dict.fromkeys(entity.column for *_, entities in runs for entity in entities))
    for variant in variants:
        for title, folder, entities in runs:
            tags = [entity.name for entity in entities]
            if variant.prompt_from == "image":
                tags = tags or columns
            if variant.prompt_from and not tags:
                continue
            prompt = [f"prompt_entities={','.join(tags)}"] if variant.prompt_from else []
            yield Job(title, variant, _config(material, catalogue, folder, variant, suffix, prompt))


def _config(
    material: Material, catalogue: Catalogue, folder: RunFolder, variant: Variant, suffix: str, prompt: list[str]
) -> CaptionTrainConfig:
    record = folder.read_record()
    words = [*(TINY if material.smoke else ()), *variant.overrides, *prompt, f"seed={record['seed']}"]
    words += [f"data={catalogue.path}", f"encoder={folder.path}", f"memory={material.output / 'memory'}"]
    config = load_config(CaptionTrainConfig, CONFIGS / f"{variant.config}{suffix}.yaml", words)
    # Named by its settings, data and encoder, so that each decoder has its folder.
    values = [identity_values(config) | {"data": catalogue.fingerprint, "encoder": record["identity"], "memory": ""}]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    return replace(config, output=str(material.output / "decoders" / f"{config.name}-{digest}"))


def _evaluation(job: Job, catalogue: Catalogue, smoke: bool, baselines: bool) -> CaptionEvaluateConfig:
    java = has_java()
    return CaptionEvaluateConfig(
        decoder=job.config.output,
        data=str(catalogue.path),
        split=SPLIT,
        reading=list(job.variant.reading),
        baselines=baselines,
        tokenizer="ptb" if java and not smoke else "words",
        meteor=java and not smoke,
        prompt_from=job.variant.prompt_from or "auto",
        accelerator=job.config.accelerator,
    )


EXPERIMENT = Experiment(
    name="table4_captioning",
    title="Captioning without paired training",
    table="table4",
    rows={"CLIP-FT": "clip_ft", "E2": "e2"},
    recipes=FASHIONGEN,
    baseline="CLIP-FT",
    view=view,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
