"""``compare``: train several runs on one catalogue and write one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.eval.encoder import Encoder, load_encoder
from e2fashion.eval.report import write_comparison
from e2fashion.run_checks import check_run
from e2fashion.run_folder import RunFolder
from e2fashion.runner.evaluation import results_of
from e2fashion.runner.runs import train_run
from e2fashion.schema import CompareConfig, RunConfig
from e2fashion.training import is_first_process
from e2fashion.types import E2FashionError, ResultRecord


def compare(files: Sequence[Path], overrides: Sequence[str], progress: bool = True) -> str:
    """Train a run per configuration file on one catalogue, evaluate each, and write one report."""
    own = [word for word in overrides if word.partition("=")[0] in ("data", "output", "split", "gallery_products")]
    config = load_config(CompareConfig, None, own)
    shared = [word for word in overrides if word not in own]
    output = Path(config.output)
    catalogue = Catalogue.load(config.data)
    runs = [_run_of(file, shared, config.data, output) for file in files]
    names = [run.name for run in runs]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise E2FashionError(f"Two configurations are called '{doubled}'. Give each a name of its own.")
    for run in runs:
        check_run(run, catalogue)
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
        f"Catalogue `{catalogue.manifest.name}` ({catalogue.fingerprint[:12]}), {split}. The model of the best epoch "
        "on val; hits and candidates as each table says.\n",
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
            f"| {name} | {record['parameters'] / 1e6:.2f} M | {added} | {minutes:.1f} | {stages[-1]['best_epoch']} |"
        )
    return lines


def _run_of(file: Path, overrides: Sequence[str], data: str, output: Path) -> RunConfig:
    name = load_config(RunConfig, file, [*overrides, f"data={data}"]).name
    return load_config(RunConfig, file, [*overrides, f"data={data}", f"output={output / name}"])
