"""Write ``docs/results.md`` from the committed records in ``docs/results/``: every number of the page comes from them.

Its text stands in ``scripts/results_page.md``. A line ``<!-- <records>: <table> -->`` there becomes the tables that
:data:`TABLES` makes of ``docs/results/<records>.jsonl`` (several files: their names with ``+`` in between); what
follows the name of a table are its arguments.

Command: ``python -m scripts.results_page`` (``--check`` only compares the page).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from e2fashion.published import load_published, of_benchmark
from e2fashion.records import read_records
from e2fashion.report import interval_lines
from e2fashion.tables import Table, to_markdown
from e2fashion.tasks.captioning.tables import caption_tables
from e2fashion.tasks.classification.tables import classification_tables, tag_tables
from e2fashion.tasks.composed.measure import COMPOSED
from e2fashion.tasks.composed.tables import composed_tables
from e2fashion.tasks.localization.agreement import AGREEMENT, agreement_table
from e2fashion.tasks.localization.measure import SELECTION, detail_table, lift_table
from e2fashion.tasks.probing.tables import probe_table
from e2fashion.tasks.retrieval.tables import difference_table, retrieval_table
from e2fashion.tasks.search.measure import search_tables
from e2fashion.types import ResultRecord
from experiments.common.experiment import PUBLISHED
from experiments.common.side_evaluations import side_tables
from experiments.forgetting import forgetting_table

Records = Sequence[ResultRecord]

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "results.md"
TEXT = Path(__file__).with_suffix(".md")

BENCHMARKS = {"article_type": "F1 KAGL", "label": "F1 FMNIST"}
"""The benchmark among the published values that a column of labels is compared with."""


def zero_shot(records: Records) -> list[Table]:
    """A table per column, with published values where there are some."""
    rows = [row for row in load_published(PUBLISHED) if row.task == "zero_shot"]
    tables: list[Table] = []
    for column in dict.fromkeys(record.extra["entity"] for record in records if record.task == "zero_shot"):
        of_column = [record for record in records if (record.task, record.extra["entity"]) == ("zero_shot", column)]
        published = of_benchmark(rows, BENCHMARKS[column]) if column in BENCHMARKS else []
        tables += classification_tables(of_column, published)
    return tables


#: By the name in the text: records and arguments to tables, or to Markdown.
TABLES: dict[str, Callable[..., Sequence[Table | str]]] = {
    "retrieval": lambda records, split, positives, protocol="full": [
        retrieval_table(records, split=split, protocol=protocol, positives=positives)
    ],
    "intervals": lambda records: [interval_lines(records)],
    "differences": lambda records, protocol="full": [
        difference_table(
            [record for record in records if (record.task, record.protocol) == ("retrieval_difference", protocol)],
            "text",
        )
    ],
    "side_evaluations": lambda records: list(side_tables(records).values()),
    "zero_shot": zero_shot,
    "tags": tag_tables,
    "captions": caption_tables,
    "composed": composed_tables,
    "composed_recalls": lambda records: composed_tables([record for record in records if record.task == COMPOSED.task]),
    "forgetting": lambda records: [forgetting_table(records)],
    "search": search_tables,
    "probes": lambda records: [probe_table(records)],
    "selection": lambda records: [lift_table(records), detail_table(records)],
    "agreement": lambda records: [agreement_table([one for one in records if one.task == AGREEMENT.task])],
    "lift": lambda records: [lift_table([record for record in records if record.task == SELECTION.task])],
}


@cache
def _records(name: str) -> Records:
    return [record for part in name.split("+") for record in read_records(DOCS / "results" / f"{part}.jsonl")]


def page() -> str:
    """The whole page as Markdown."""

    def tables(match: re.Match[str]) -> str:
        name, *arguments = match["table"].split()
        made = TABLES[name](_records(match["records"]), *arguments)
        return "\n".join(part if isinstance(part, str) else to_markdown(part) for part in made).removesuffix("\n")

    return re.sub(
        r"^<!-- (?P<records>[\w+]+): (?P<table>.+) -->$", tables, TEXT.read_text(encoding="utf-8"), flags=re.M
    )


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare it."""
    content = page()
    if "--check" in arguments:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != content)
    PAGE.write_text(content, encoding="utf-8")
    print(f"wrote {PAGE.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
