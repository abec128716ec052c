"""Text-guided retrieval with CLIP-FT and E2: another color of a product line, and FashionIQ.

Claim: an encoder that E2 trained serves text-guided retrieval better than CLIP-FT, in the same query modes. The paper
puts its encoder into CIReVL (mean R@10 28.3 -> 31.7 on FashionIQ); here the captioner is the nearest training text, and
rules replace the language model, so that nothing else is pretrained.
Runs: CLIP-FT and E2 of table 1; FILIP-FT has no single vector per image.
Protocol: the reference stays in the gallery; the weight of `sum` is chosen on val (FashionIQ: train); R@k on test
(FashionIQ: val, both galleries). Differences to CLIP-FT by paired bootstrap over product lines or reference images.

Command::

    python -m experiments.composed_retrieval --data fashiongen=<catalogue> --data fashioniq=<its folder>
    python -m experiments.composed_retrieval --scale small --data kagl=<catalogue> --records docs/results/composed.jsonl

Cost: that of table 1, whose runs it shares; another color on KAGL takes about a minute a model on two cores, FashionIQ
embeds about 15,000 images a model.
Deviations: no CIReVL: its captioner and its language model are not here. Without `--data fashioniq=` its table is left
out; a catalogue without a column `colour` has no other colors (drawn garments: other seasons).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.tables import Table
from e2fashion.tasks.composed.compose import compose
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.tasks.composed.measure import COMPOSED, DIFFERENCES
from e2fashion.tasks.composed.tables import composed_difference_table, composed_table, known_composed_rows
from e2fashion.types import E2FashionError, ResultRecord
from experiments.common.command import main
from experiments.common.experiment import FASHIONGEN, Experiment, Material
from experiments.common.tables import by_seed, source_notes, write_tables

PUBLISHED_GALLERY = "fashion_iq_original"


def view(material: Material) -> list[Path]:
    """A table and its differences per task and gallery, and a figure of a few queries per task."""
    catalogue = next(iter(material.catalogues.values()))
    records: list[ResultRecord] = [*material.merged]
    figures: list[Path] = []
    for config in tasks(material, catalogue):
        made, drawn = measure_rows(material, config, config.task)
        records += made
        figures += drawn
    tables: dict[str, Table] = {}
    for protocol in dict.fromkeys(record.protocol for record in records):
        measured = [record for record in records if (record.task, record.protocol) == (COMPOSED.task, protocol)]
        compared = [record for record in records if (record.task, record.protocol) == (DIFFERENCES.task, protocol)]
        known = material.published if protocol == PUBLISHED_GALLERY else ()
        tables[f"_{protocol}"] = composed_table(measured, known_composed_rows(known))
        if compared:
            tables[f"_{protocol}_differences"] = composed_difference_table(compared)
    notes = source_notes(material.published) if PUBLISHED_GALLERY in {record.protocol for record in records} else []
    return [*write_tables(replace(material, records=records), tables, notes), *figures]


def measure_rows(material: Material, config: ComposeConfig, name: str) -> tuple[list[ResultRecord], list[Path]]:
    """The records of a task for every seed, and its figures; ``name`` is that of its folder.

    Differences are of the seeds that have a run of the baseline.
    """
    baseline = material.experiment.baseline
    titles = sorted(material.folders, key=lambda title: title != baseline)
    rows = {title: by_seed(material.folders[title]) for title in titles}
    records: list[ResultRecord] = []
    figures: list[Path] = []
    for seed in sorted({seed for runs in rows.values() for seed in runs}):
        folders = {title: runs[seed] for title, runs in rows.items() if seed in runs}
        output = material.output / name / f"seed{seed}"
        models = [str(folder.path) for folder in folders.values()]
        of_seed = replace(config, model=models, name=list(folders), output=str(output))
        results = compose(of_seed, progress=not material.smoke)
        records += [*results.records, *(results.differences if baseline in folders else [])]
        figures += sorted((output / "figures").glob("*.png"))
    return records, figures


def tasks(material: Material, catalogue: Catalogue) -> list[ComposeConfig]:
    """The tasks that the data allow."""
    shared = ComposeConfig(data=str(catalogue.path), resamples=50 if material.smoke else 1000)
    configs = []
    if "colour" in catalogue.tag_columns:
        same: list[str] = [column for column in ("brand", "gender", "article_type") if column in catalogue.tag_columns]
        configs.append(replace(shared, line_columns=same))
    elif material.smoke:
        configs.append(replace(shared, line_columns=["sub_category"], line_name=False, colour_column="season"))
    if "fashioniq" in material.raw:
        folder = str(material.raw["fashioniq"])
        configs.append(replace(shared, task="fashion_iq", data=folder, memory=str(catalogue.path)))
    if not configs:
        raise E2FashionError(
            f"{catalogue.path} has no column 'colour', and FashionIQ was not given: there is no task. Give it with "
            "--data fashioniq=<its folder>."
        )
    return configs


EXPERIMENT = Experiment(
    name="composed_retrieval",
    title="Text-guided retrieval",
    rows={"CLIP-FT": "clip_ft", "E2": "e2"},
    recipes=FASHIONGEN,
    baseline="CLIP-FT",
    table="fashioniq",
    raw=("fashioniq",),
    view=view,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
