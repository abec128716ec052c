"""Ablation files that no experiment draws: one row of each takes two steps (all rows are read by tests/ablation)."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from e2fashion.ablation.plan import load_ablation
from e2fashion.ablation.sweep import run_ablation
from experiments.common.command import smoke_overrides
from experiments.common.experiment import ABLATIONS, run_config

DRAWN = {
    "batch_size",
    "components",
    "drop_entity",
    "faithful_selection",
    "forgetting",
    "kagl_pretrained",
    "kagl_pretrained_trials",
    "learning_curve",
    "tokens_per_entity",
}
FILES = [file for file in sorted(ABLATIONS.glob("*.yaml")) if file.stem not in DRAWN]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_row_of_an_ablation_smokes(file: Path, smoke_catalogue: Path, tmp_path: Path) -> None:
    paper = "b32" in file.stem
    prefix, scale = ("fashiongen", "paper") if paper else ("quickstart", "small")
    overrides = [
        f"data={smoke_catalogue}",
        f"base={run_config(prefix, 'e2')}",
        f"output={tmp_path}",
        "seeds=[0]",
        *smoke_overrides(prefix, scale),
    ]
    row = list(OmegaConf.load(file).rows)[-1]
    result = next(
        item for item in run_ablation(load_ablation(file, overrides), only=[row], progress=False) if item.name == row
    )
    assert not result.errors
    assert result.records
