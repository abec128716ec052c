"""``report``: tables and figures from records that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from e2fashion.records import read_records
from e2fashion.report import write_tables
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.probing.figures import add_probe_figures
from e2fashion.types import E2FashionError, ResultRecord


def report(places: Sequence[Path], output: str | Path | None = None) -> str:
    """Tables from the records of several runs or files, and figures of probes where the report is kept."""
    if not places:
        raise E2FashionError("report takes run folders or results.jsonl files and output=<file.md>; got no places.")
    records: list[ResultRecord] = []
    for place in places:
        file = RunFolder(place).results if place.is_dir() else place
        if not file.is_file():
            raise E2FashionError(f"'{place}' holds no records: {file} does not exist. Run `e2fashion evaluate` first.")
        records += read_records(file)
    if output is None:
        return write_tables(records)
    file = Path(output)
    return write_tables(records, file) + add_probe_figures(records, file)
