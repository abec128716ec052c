"""One run trained by several processes, on one machine and as on several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import e2fashion, on_two_machines
from tiny import TINY

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.records import read_records
from e2fashion.run_folder import RunFolder
from e2fashion.training.build import resolve_arithmetic
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import run_identity

STAGES = [
    "train.stages.main=null",
    "train.stages.new_parameters={epochs: 1, learning_rate: 0.01, parameters: new}",
    "train.stages.everything={epochs: 1, learning_rate: 0.01}",
]

#: A key may be given once.
USUAL = [word for word in TINY if not word.startswith("loader.batch_size=")]


@pytest.mark.slow
def test_two_processes_train_one_run(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    """SumR that two processes gathered on val is that of one process with the same weights."""
    (tmp_path / "run.yaml").write_text("name: together\n", encoding="utf-8")
    place = ["train", "run.yaml", f"data={synth_catalogue.path}", "output=run", "devices=2", "--quiet"]
    short = ["loader.batch_size=8", "logging={to: [tensorboard], figures_every: 1}", *STAGES]
    usual = [word for word in USUAL if not word.startswith(("logging=", "train.stages.main="))]
    command = [sys.executable, "-m", "e2fashion", *place, *usual, *short]
    alone = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")}
    done = subprocess.run(
        command, cwd=tmp_path, env={**alone, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: best model in run/model") == 1
    folder = RunFolder(tmp_path / "run")
    sums = [record for record in read_records(folder.results, latest=False) if record.metric == "SumR"]
    assert [record.positives for record in sums] == ["product", "text"]
    stages = folder.read_record()["stages"]
    assert sums[1].value == pytest.approx(max(stage["best"] for stage in stages.values()), abs=1e-3)
    assert folder.log.read_text(encoding="utf-8").count("epoch 1: SumR") == 2
    drawn = sorted(str(file.relative_to(folder.figures)) for file in folder.figures.rglob("*.png"))
    assert drawn == [f"{stage}/{kind}_001.png" for stage in sorted(stages) for kind in ("retrieved", "selected")]
    assert len(list((folder.path / "logs" / "tensorboard").rglob("events.*"))) == 2  # of the first process, two stages


def machine(rank: int, words: list[str]) -> int:
    """The program on one of several machines."""
    del rank
    return e2fashion(words)


def test_two_machines_train_one_run(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    """As torchrun starts them, here on one machine."""
    (tmp_path / "run.yaml").write_text("name: together\n", encoding="utf-8")
    place = ["train", "run.yaml", f"data={synth_catalogue.path}", "output=run", "nodes=2", "--quiet"]
    short = ["loader.batch_size=8", "train.stages.main.epochs=1"]
    printed = on_two_machines(machine, [*place, *USUAL, *short], folder=tmp_path)
    assert [ended.code for ended in printed] == [0, 0], printed
    assert [ended.out.count("run: best model in run/model") for ended in printed] == [1, 0]
    folder = RunFolder(tmp_path / "run")
    assert folder.log.read_text(encoding="utf-8").count("epoch 1: SumR") == 1
    given = [f"data={synth_catalogue.path}", f"output={folder.path}", *USUAL, "devices=2", *short]
    together, _ = resolve_arithmetic(load_config(RunConfig, None, given))
    assert folder.read_record()["identity"] == run_identity(together, synth_catalogue.fingerprint)
