"""``compare``: train several runs on one catalogue and write one report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from e2fashion.ablation.config import CompareConfig
from e2fashion.ablation.measured import results_of
from e2fashion.ablation.run import train_run
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.escape import markdown, markdown_code
from e2fashion.report import write_comparison
from e2fashion.run_folder import RunFolder
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.stages import is_first_process
from e2fashion.types import ResultRecord


def compare(config: CompareConfig, runs: Sequence[RunConfig], progress: bool = True) -> str:
    """Train several runs on one catalogue, evaluate each, and write one report."""
    output = Path(config.output)
    catalogue = Catalogue.load(config.data)
    for run in runs:
        check_run(run, catalogue)
    with RunFolder(output).locked() if is_first_process() else nullcontext():
        return _compare_alone(config, catalogue, runs, progress)


def _compare_alone(config: CompareConfig, catalogue: Catalogue, runs: Sequence[RunConfig], progress: bool) -> str:
    """Train, evaluate and report as the only writer of the folder."""
    output, names = Path(config.output), [run.name for run in runs]
    encoders: list[Encoder] = []
    records: list[ResultRecord] = []
    for run in runs:
        folder = train_run(run, progress)
        if is_first_process():
            encoders.append(load_encoder(str(folder.model), name=run.name))
            records += results_of(folder, encoders[-1], catalogue, run, [config.split], progress)
    file = RunFolder(output).report
    if not is_first_process():
        return ""
    lines = _comparison_lines(catalogue, config.split, output, names)
    write_comparison(file, records, encoders, catalogue, config.split, config.gallery_products, lines, progress)
    return file.read_text(encoding="utf-8")


def _comparison_lines(catalogue: Catalogue, split: str, output: Path, names: Sequence[str]) -> list[str]:
    """What was compared on what, and what it cost."""
    lines = [
        f"Catalogue {markdown_code(catalogue.manifest.name)} ({catalogue.fingerprint[:12]}), {split}. The model of "
        "the best epoch on val; hits and candidates as each table says.\n",
        "| run | parameters | of these E2's | minutes | best epoch |\n|---|---:|---:|---:|---:|",
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
