"""The SLURM script with stand-ins for SLURM's programs: what it starts, and when it asks to be queued again."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train.sbatch"


@pytest.mark.parametrize(("code", "queued_again"), [(143, True), (0, False), (1, False)])
def test_a_saved_run_is_queued_again(tmp_path: Path, code: int, queued_again: bool) -> None:
    for program, ends in (("srun", code), ("scontrol", 0)):
        file = tmp_path / program
        file.write_text(f'#!/bin/bash\necho "{program} $*" >> {tmp_path}/calls\nexit {ends}\n', encoding="utf-8")
        file.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "4", "SLURM_NTASKS_PER_NODE": "8"}
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", SCRIPT, "c.yaml", "data=a b"], env=slurm | path, check=False)
    assert ended.returncode == code
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert calls[0].endswith("python -m e2fashion train c.yaml data=a b nodes=4 devices=8")
    assert calls[1:] == (["scontrol requeue 7"] if queued_again else [])
