"""A tiny ablation end to end: two rows, two seeds, one epoch; interrupted, renamed, failing, side by side."""

import csv
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forked import Forked
from omegaconf import OmegaConf
from tiny import TINY

from e2fashion.__main__ import main
from e2fashion.ablation import sweep
from e2fashion.ablation.plan import Ablation, PlannedRun, load_ablation
from e2fashion.ablation.report import RowResult
from e2fashion.ablation.state import FoundRun
from e2fashion.ablation.sweep import describe_ablation, run_ablation
from e2fashion.data.catalogue import Catalogue
from e2fashion.records import read_records
from e2fashion.run_folder import RunFolder
from e2fashion.training.callbacks import RunInterruptedError
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError
from scripts.torture.child import fork_instead_of_starting

ROWS = {"e2": {}, "clip_ft": {"model.entities": {}, "model.fusion_layers": [], "loss.region_weight": 0.0}}


class Sweep:
    """An ablation file in a folder of its own, and a record of what was trained."""

    def __init__(self, folder: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.catalogue = folder, catalogue
        self.trained: list[str] = []
        self.accident: Callable[[RunConfig], None] = lambda config: None
        train = sweep.train

        def watched(config: RunConfig, progress: bool = True) -> RunFolder:
            self.accident(config)
            self.trained.append(f"{config.name}/seed{config.seed}")
            return train(config, progress)

        monkeypatch.setattr(sweep, "train", watched)
        (folder / "base.yaml").write_text("name: base\n", encoding="utf-8")
        self.write(ROWS)

    @property
    def output(self) -> Path:
        return self.folder / "sweep"

    def write(self, rows: dict[str, Any], **settings: Any) -> Path:
        content = {"base": "base.yaml", "rows": rows, "seeds": [0, 1], "baseline": "clip_ft", **settings}
        file = self.folder / "tiny.yaml"
        OmegaConf.save(OmegaConf.create(content), file)
        return file

    @property
    def overrides(self) -> list[str]:
        short = ["train.stages.main.epochs=1", "loader.batch_size=32"]
        usual = [word for word in TINY if not word.startswith("loader.batch_size=")]
        return [f"data={self.catalogue.path}", f"output={self.output}", *usual, *short]

    def run(self, *overrides: str, **options: Any) -> list[RowResult]:
        self.trained = []
        return run_ablation(self.read(*overrides), progress=False, **options)

    def read(self, *overrides: str) -> Ablation:
        return load_ablation(self.folder / "tiny.yaml", [*self.overrides, *overrides])

    def report(self) -> str:
        return (self.output / "report.md").read_text(encoding="utf-8")


@pytest.fixture
def tiny(synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return Sweep(tmp_path, synth_catalogue, monkeypatch)


def test_a_sweep_is_interrupted_continued_reported_and_not_repeated(tiny: Sweep) -> None:
    def stop(config: RunConfig) -> None:
        if len(tiny.trained) == 2:
            raise KeyboardInterrupt

    tiny.accident = stop
    with pytest.raises(RunInterruptedError, match=r"Resume with: e2fashion ablate .*tiny\.yaml data="):
        tiny.run()
    assert tiny.trained == ["e2/seed0", "e2/seed1"]

    tiny.accident = lambda config: None
    e2, clip_ft = tiny.run()
    assert tiny.trained == ["clip_ft/seed0", "clip_ft/seed1"]
    assert (list(e2.folders), e2.errors, clip_ft.added_parameters, e2.patches) == ([0, 1], {}, 0, 16)
    assert e2.added_parameters is not None
    assert e2.added_parameters > 0
    assert clip_ft.changes["loss.region_weight"] == (0.5, 0.0)
    assert {record.model for record in e2.records} == {"e2"}
    assert {record.seed for record in e2.records} == {0, 1}

    report = tiny.report()
    assert "4 of 4 runs finished" in report
    assert report.count(" ± ") >= 28
    table = list(csv.DictReader((tiny.output / "report.csv").read_text(encoding="utf-8").splitlines()))
    sums = [line for line in table if (line["metric"], line["positives"]) == ("SumR", "product")]
    assert [(line["split"], line["row"], line["seeds"], line["n"]) for line in sums[:2]] == [
        (sums[0]["split"], "e2", "2", "2"),
        (sums[0]["split"], "clip_ft", "2", "2"),
    ]
    mean = {
        name: sum(r.value for r in row.records if (r.metric, r.positives) == ("SumR", "product")) / 2
        for name, row in (("e2", e2), ("clip_ft", clip_ft))
    }
    assert float(sums[0]["value"]) == pytest.approx(mean["e2"])
    difference = next(line for line in table if line["metric"] == "SumR difference" and line["positives"] == "product")
    assert float(difference["value"]) == pytest.approx(mean["e2"] - mean["clip_ft"])
    assert float(difference["low"]) <= float(difference["value"]) <= float(difference["high"])
    latex = (tiny.output / "report.tex").read_text(encoding="utf-8")
    assert "; scale: base " in latex
    assert "; seeds: 0, 1; protocol: full" in latex

    before = report
    tiny.run()
    assert tiny.trained == []
    assert tiny.report() == before


def test_a_failed_row_is_reported_and_the_others_go_on(tiny: Sweep) -> None:
    def fail(config: RunConfig) -> None:
        if config.name == "e2":
            raise RuntimeError("out of memory")

    tiny.accident = fail
    assert [list(row.errors) for row in tiny.run("seeds=[0]")] == [[0], []]
    text = tiny.report()
    assert tiny.trained == ["clip_ft/seed0"]
    assert "- e2/seed0: RuntimeError: out of memory" in text
    assert "| e2 | 0 | n/a |" in text
    listed = describe_ablation(tiny.read("seeds=[0]"))
    assert "e2/seed0       failed" in listed

    tiny.accident = lambda config: None
    e2, _ = tiny.run("seeds=[0]")
    assert (tiny.trained, e2.errors) == (["e2/seed0"], {})
    assert "## Failed" not in tiny.report()


def test_a_renamed_row_and_another_sweep_reuse_the_finished_run(tiny: Sweep) -> None:
    tiny.run("seeds=[0]", only=["clip_ft"])
    assert tiny.trained == ["clip_ft/seed0"]
    tiny.write({"all_off": ROWS["clip_ft"]}, baseline=None)
    (row,) = tiny.run("seeds=[0]")
    assert tiny.trained == []
    assert row.folders == {0: tiny.output / "clip_ft" / "seed0"}
    assert {record.model for record in row.records} == {"all_off"}
    (row,) = tiny.run("seeds=[0]", f"reuse=[{tiny.output}]", f"output={tiny.folder / 'other'}")
    assert (tiny.trained, row.folders) == ([], {0: tiny.output / "clip_ft" / "seed0"})


def test_another_split_evaluates_the_finished_runs_and_trains_nothing(
    tiny: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.run("seeds=[0]", only=["clip_ft"])
    monkeypatch.setattr("e2fashion.training.stages.fit_stage", None)
    results = tiny.run("seeds=[0]", "split=val,test", only=["clip_ft"])
    assert {record.split for record in results[1].records} == {"val", "test"}


def test_records_that_a_killed_run_cut_off_are_measured_again(tiny: Sweep) -> None:
    (_, row) = tiny.run("seeds=[0]", only=["clip_ft"])
    results = row.folders[0] / "results.jsonl"
    whole = read_records(results)
    results.write_bytes(results.read_bytes()[:-40])
    with pytest.warns(UserWarning, match=r"results\.jsonl line 22 is damaged"):
        (_, row) = tiny.run("seeds=[0]", only=["clip_ft"])
    assert tiny.trained == ["clip_ft/seed0"]
    assert read_records(results) == whole
    tiny.run("seeds=[0]", only=["clip_ft"])
    assert tiny.trained == []


def test_a_finished_run_whose_model_is_damaged_has_failed(tiny: Sweep) -> None:
    (_, row) = tiny.run("seeds=[0]", only=["clip_ft"])
    (row.folders[0] / "model" / "config.json").write_text("{}")
    (_, row) = tiny.run("seeds=[0]", only=["clip_ft"])
    assert row.folders == {}
    assert "model/config.json is damaged" in row.errors[0]


def test_a_dry_run_lists_what_is_left_and_estimates_it(tiny: Sweep) -> None:
    def listed(*overrides: str) -> str:
        return describe_ablation(tiny.read(*overrides))

    assert "4 of 4 left: no estimate yet" in listed()
    assert not tiny.output.exists()
    tiny.run("seeds=[0]", only=["clip_ft"])
    (tiny.output / "e2/seed0/checkpoints").mkdir(parents=True)
    lines = listed().splitlines()
    assert [line.split("  ")[0].strip() for line in lines[2:6]] == [
        "e2/seed0", "e2/seed1", "clip_ft/seed0", "clip_ft/seed1",
    ]  # fmt: skip
    assert [line[15:].split("  ")[0] for line in lines[2:6]] == ["partly", "missing", "done", "missing"]
    assert "model.fusion_layers=[] loss.region_weight=0.0" in lines[4]
    assert lines[-1] == "3 of 4 left: about 1 min"


def test_a_changed_row_does_not_take_the_place_of_another_run(tiny: Sweep) -> None:
    tiny.run("seeds=[0]", only=["clip_ft"])
    tiny.write({"e2": {}, "clip_ft": {"loss.region_weight": 0.0}})
    with pytest.raises(E2FashionError, match=r"clip_ft/seed0' holds another run .* have changed"):
        tiny.run("seeds=[0]")
    assert (tiny.output / "clip_ft/seed0/model").is_dir()


def sweep_with_forks(words: list[str]) -> int:
    """The program, with forks as the processes of a sweep."""
    fork_instead_of_starting()
    return main(words)


def test_processes_side_by_side_go_on_past_a_failing_one(tiny: Sweep) -> None:
    tiny.write({**ROWS, "diverges": {"train.stages.main.learning_rate": 1e30}}, seeds=[0])
    words = ["ablate", str(tiny.folder / "tiny.yaml"), *tiny.overrides, "--jobs", "3", "--quiet"]
    ended = Forked(sweep_with_forks, words, folder=tiny.folder, environment={"OMP_NUM_THREADS": "1"}).wait()
    assert ended.code == 1
    assert "- diverges/seed0: The loss became nan" in ended.out
    assert {path.name for path in tiny.output.glob("*/seed0/model")} == {"model"}
    assert len(list(tiny.output.glob("*/seed0/model/model.safetensors"))) == 2


def test_an_interrupt_asks_every_process_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(item: Any, jobs: int, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[-1], folder / "log"

    def ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    config = RunConfig(data="catalogue")
    items = [FoundRun(PlannedRun(row, 0, config, row), RunFolder(tmp_path / row), "missing") for row in ("a", "b", "c")]
    monkeypatch.setattr(sweep, "start_process", start)
    monkeypatch.setattr(sweep, "time", SimpleNamespace(sleep=ctrl_c))
    with pytest.raises(KeyboardInterrupt):
        list(sweep.train_in_parallel(items, 2, tmp_path))
    assert [process.returncode for process in started] == [-signal.SIGTERM, -signal.SIGTERM]


def test_flags_of_the_sweep_belong_to_it(tiny: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tiny.folder / "tiny.yaml")
    without_data = [word for word in tiny.overrides if not word.startswith("data=")]
    for words, message in (
        (["ablate", file, *tiny.overrides, "--jobs", "0"], "--jobs is '0'"),
        (["ablate", file, *without_data, "data=gone"], "gone is not a catalogue"),
        (["ablate", file, *tiny.overrides, "--only", "clipft"], "has no row 'clipft'. Did you mean 'clip_ft'?"),
        (["ablate", file, *tiny.overrides, "model.entities.material={}"], "row 'e2': Entity 'material' reads"),
        (["ablate", file, *tiny.overrides, "nodes=2"], "row 'e2': nodes is 2"),
        (["train", file, "--dry-run"], "Unknown flag '--dry-run'. Flags: --quiet, --help"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err
    assert tiny.trained == []
    assert main(["ablate", file, *tiny.overrides, "--dry-run", "--only", "e2,clip_ft/seed1"]) == 0
    assert "3 of 3 left: no estimate yet" in capsys.readouterr().out
