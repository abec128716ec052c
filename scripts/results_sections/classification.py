"""Zero-shot classification and tag prediction by the small encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from e2fashion.published import load_published, of_benchmark
from e2fashion.tables import Table
from e2fashion.tasks.classification.tables import classification_tables, tag_tables
from e2fashion.types import ResultRecord
from scripts.results_sections.section import Section

PUBLISHED = Path(__file__).resolve().parents[2] / "experiments" / "published.yaml"
BENCHMARKS = {"article_type": "F1 KAGL", "label": "F1 FMNIST"}
"""Column, and the benchmark among the published values that stands beside it."""


def tables(records: Sequence[ResultRecord]) -> list[Table]:
    """A table per column, the published values beside ours where there are some, and one of the tags."""
    rows = [row for row in load_published(PUBLISHED) if row.task == "zero_shot"]
    found = []
    for column in dict.fromkeys(record.extra["entity"] for record in records if record.task == "zero_shot"):
        own = [record for record in records if record.task == "zero_shot" and record.extra["entity"] == column]
        found += classification_tables(own, of_benchmark(rows, BENCHMARKS[column]) if column in BENCHMARKS else [])
    return found + tag_tables(records)


SECTIONS = (
    Section(
        title="Zero-shot classification and tags",
        records="classification.jsonl",
        before="""The two small encoders of the first section, trained from nothing on 9,507 products, each once (one
seed): they are no rivals of the published systems, which were trained on hundreds of millions of pictures. Commands:
`e2fashion classify <run> data=<catalogue> column=sub_category features=global,region,both`, the configurations of
`configs/classify/`, and `e2fashion tags fit <run> data=<catalogue> columns=sub_category,article_type,brand,season`
([classification.md](classification.md)).
""",
        tables=tables,
        after="""What it says: by the regions of its entities E2 names sub-categories and article types far better
than by the whole picture, and than CLIP-FT. That comparison is not even: E2's regions were trained on the tags of
these very columns, so their names are new to no region; CLIP-FT read article types, brands and seasons within its
texts and sub-categories never. In the strict sense only the rows of `global` features on sub-categories are zero-
shot, and there E2 is ahead by less than `region` makes it look, and both are below always naming the most frequent
class. `both` gives the region the share that val chose: all of it for the tags it was trained on, none of it on
Fashion-MNIST, so that it is never better than the better of its parts here. A template that neither encoder met in
training costs both. Fashion-MNIST (28 px, grey, inverted) is far from what these encoders saw, and some of its names
are not in their vocabulary.
Tags: what val allows holds on test within a few points where many products are
answered; of brands hardly any is answered, and CLIP-FT reaches the share that was asked for nowhere.
""",
    ),
)
