"""Several runs on one catalogue with one report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from e2fashion.ablation.config import CompareConfig
from e2fashion.ablation.run import train
from e2fashion.ablation.state import results_of
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.escape import markdown, markdown_code
from e2fashion.report import write_comparison
from e2fashion.run_folder import RunFolder
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.resume import is_first_process
from e2fashion.types import ResultRecord


def compare(config: CompareConfig, runs: Sequence[RunConfig], progress: bool = True) -> list[ResultRecord]:
    """Train and evaluate every run that is not finished, the baseline first, and write ``report.md``.

    Returns:
        The records of all runs on the split of the report; none in the further processes of a distributed run.

    Raises:
        E2FashionError: a run that does not fit the catalogue, before any is trained, or one that fails.
    """
    folder, catalogue = RunFolder(Path(config.output)), Catalogue.load(config.data)
    for run in runs:
        check_run(run, catalogue)
    encoders: list[Encoder] = []
    records: list[ResultRecord] = []
    with folder.locked() if is_first_process() else nullcontext():
        for run in runs:
            trained = train(run, progress)
            if is_first_process():
                encoders.append(load_encoder(str(trained.model), name=run.name))
                records += results_of(trained, encoders[-1], catalogue, run, [config.split], progress)
        if is_first_process():
            lines = _comparison_lines(catalogue, config.split, folder.path, [run.name for run in runs])
            gallery = config.gallery_products
            write_comparison(folder.report, records, encoders, catalogue, config.split, gallery, lines, progress)
    return records


def _comparison_lines(catalogue: Catalogue, split: str, output: Path, names: Sequence[str]) -> list[str]:
    """The catalogue, and the size and training time of each run."""
    lines = [
        f"Catalogue {markdown_code(catalogue.manifest.name)} ({catalogue.fingerprint[:12]}), {split}. Models of the "
        "best epoch on val; hits and candidates as stated in each table.\n",
        "| run | parameters | added by E2 | minutes | best epoch |\n|---|---:|---:|---:|---:|",
    ]
    for name in names:
        record = RunFolder(output / name).read_record()
        stages = [stage for stage in record["stages"].values() if "seconds" in stage]
        minutes = sum(stage["seconds"] for stage in stages) / 60
        added = "n/a"  # of a run that an earlier version trained
        if "added_percent" in record:
            added = f"{record['added_parameters'] / 1e6:.2f} M, + {record['added_percent']:.1f} %"
        lines.append(
            f"| {markdown(name)} "
            f"| {record['parameters'] / 1e6:.2f} M | {added} | {minutes:.1f} | {stages[-1]['best_epoch']} |"
        )
    return lines
