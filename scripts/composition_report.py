"""How much of a table's compositions is understood: a Markdown report of every column, with the rest by its kind.

Command: ``python -m scripts.composition_report <table.csv> <column> ...``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from e2fashion.data.composition import KINDS, Composition, parse_composition
from e2fashion.escape import markdown

SHOWN_CHARACTERS = 100


def report(column: str, texts: Sequence[str]) -> str:
    """The section of one column: counts by kind, then every text that is not understood, with its number of rows."""
    parsed = [parse_composition(text) for text in texts if text.strip()]
    counts = Counter(composition.kind for composition in parsed)
    understood = sum(composition.is_understood for composition in parsed)
    share = f"{understood / len(parsed):.1%}" if parsed else "n/a"
    lines = [f"## {column}", "", f"{understood:,} of {len(parsed):,} understood ({share}).", ""]
    lines += ["| kind | rows |", "|---|---:|", *(f"| {kind} | {counts[kind]:,} |" for kind in KINDS)]
    rest = Counter(composition for composition in parsed if not composition.is_understood)
    for kind in KINDS:
        of_kind = [(composition, rows) for composition, rows in rest.most_common() if composition.kind == kind]
        if of_kind:
            lines += ["", f"### {kind}", "", "| rows | text | read as |", "|---:|---|---|"]
            lines += [
                f"| {rows:,} | {_shown(composition)} | {str(composition) or '-'} |" for composition, rows in of_kind
            ]
    return "\n".join(lines) + "\n"


def _shown(composition: Composition) -> str:
    text = " ".join(composition.text.split())
    return markdown(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m scripts.composition_report", description=__doc__)
    parser.add_argument("table", type=Path, help="a CSV file")
    parser.add_argument("columns", nargs="+", help="columns of compositions")
    parser.add_argument("--encoding", default="utf-8")
    given = parser.parse_args(arguments)
    with given.table.open(encoding=given.encoding, newline="") as file:
        rows = list(csv.DictReader(file))
    for column in given.columns:
        if not rows or column not in rows[0]:
            parser.error(f"{given.table} has no column '{column}': {', '.join(rows[0]) if rows else 'it has no rows'}")
        print(report(column, [row[column] or "" for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
