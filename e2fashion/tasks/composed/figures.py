"""A figure of text-guided retrieval, drawn from the traces that a measurement keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2fashion.figures import ImageArray, RetrievedRow, draw_retrieved

SHOWN = 5


def read_traces(file: Path) -> list[dict[str, Any]]:
    """One entry per query, in the order of the queries."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def draw_composed(
    traces: Mapping[str, Sequence[Mapping[str, Any]]],
    pictures: Callable[[Sequence[str]], Mapping[str, ImageArray]],
    file: Path,
    queries: int,
    title: str,
    units: Sequence[int] | None = None,
) -> None:
    """A line per query: the reference, what was asked, and the best pictures of every label, hits in green.

    ``traces`` are those of each label (model or arm) of the same queries; ``pictures`` gives pixels by id. The queries
    shown are spread evenly over the units, one each, not chosen by how they turned out.
    """
    first = next(iter(traces.values()))
    rows_of: dict[Any, int] = {}
    for row in range(len(first)):
        rows_of.setdefault(units[row] if units is not None else first[row]["reference"], row)
    candidates = list(rows_of.values())
    number = min(queries, len(candidates))
    chosen = [candidates[place * len(candidates) // number] for place in range(number)]
    shown = min(SHOWN, *(len(own[row]["found"]) for own in traces.values() for row in chosen))
    needed = [first[row]["reference"] for row in chosen]
    needed += [name for own in traces.values() for row in chosen for name in own[row]["found"][:shown]]
    pixels = pictures(list(dict.fromkeys(needed)))
    lines = []
    for row in chosen:
        entry = first[row]
        found = {
            label: [
                (pixels[name], bool(hit))
                for name, hit in list(zip(own[row]["found"], own[row]["hits"], strict=True))[:shown]
            ]
            for label, own in traces.items()
        }
        ranks = {label: int(own[row]["rank"]) for label, own in traces.items()}
        text = " and ".join(entry["instructions"]) or "(no instruction)"
        lines.append(RetrievedRow(f"this, but: {text}", pixels[entry["reference"]], found, ranks))
    draw_retrieved(lines, file, title)
