"""Write ``docs/results.md`` from the committed records in ``docs/results/``: every number of the page comes from them.

Command: ``python -m scripts.results_page`` (``--check`` only says whether the page is up to date).
"""

from __future__ import annotations

import sys
from pathlib import Path

from e2fashion.records import read_records
from e2fashion.report import interval_lines
from e2fashion.tables import to_markdown
from e2fashion.tasks.retrieval.tables import retrieval_table
from scripts.results_sections import SECTIONS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "results.md"

HEADER = """# Results

Every table below is made by `python -m scripts.results_page` from the records in `docs/results/`; no number is typed
in. Values are percent; brackets are 95 % bootstrap intervals over queries. The epoch was chosen on val; test was read
once, after the configurations were fixed.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEADER]
    for section in SECTIONS:
        records = read_records(DOCS / "results" / section.records)
        parts.append(f"## {section.title}\n\n{section.before}")
        for split, positives in section.views:
            parts.append(to_markdown(retrieval_table(records, split=split, protocol="full", positives=positives)))
        if section.views and section.intervals:
            parts.append(interval_lines(records))
        parts += [to_markdown(table) for table in section.tables(records)]
        parts.append(section.after)
    return "\n".join(part for part in parts if part)


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
