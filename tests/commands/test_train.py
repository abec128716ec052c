"""``train``: what it prints at the end."""

from pathlib import Path

import pytest
from tiny import TINY

from e2fashion.data.catalogue import Catalogue
from tests.command_line import Capture, done


def test_a_run_may_end_without_an_evaluation(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("name: short\n", encoding="utf-8")
    words = [word for word in TINY if not word.startswith("train.stages.main=")]
    words += ["train.stages.main={epochs: 1, learning_rate: 0.01}", "evaluate_splits=[]"]
    printed = done(capsys, "train", "run.yaml", f"data={synth_catalogue.path}", "output=run", *words)
    assert printed.startswith("run: best model in run/model\n\nNo records")
    assert not (tmp_path / "run" / "results.jsonl").exists()
    assert (tmp_path / "run" / "report.md").is_file()
