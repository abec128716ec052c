"""What an interrupted run leaves behind: its logs go on where they ended, and a second Ctrl-C does not wait."""

import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from interruptions import interrupted_by
from tiny import TINY

from e2fashion.ablation.run import train as train_run
from e2fashion.config import config_of_path, load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.run_folder import RunFolder
from e2fashion.training import stages as training
from e2fashion.training.callbacks import RunInterruptedError
from e2fashion.training.config import RunConfig
from e2fashion.training.loggers import mlflow_name


def run_config(catalogue: Catalogue, output: Path, *overrides: str) -> RunConfig:
    return load_config(RunConfig, None, [f"data={catalogue.path}", f"output={output}", *TINY, *overrides])


def test_a_run_that_goes_on_goes_on_with_its_logs(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracking = pytest.importorskip("mlflow.tracking")
    folder = RunFolder(tmp_path / "run")
    config = run_config(synth_catalogue, folder.path, "logging.to=[tensorboard,mlflow]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_stage", interrupted_by(lambda: signal.raise_signal(signal.SIGINT), ("main", 7)))
        with pytest.raises(RunInterruptedError):
            train_run(config, progress=False)
    begun = folder.read_record()["loggers"]["main"]
    train_run(config_of_path(RunConfig, folder.path, []), progress=False)
    assert folder.read_record()["loggers"]["main"] == begun

    table = pd.read_csv(folder.path / "logs/csv/main/metrics.csv")
    names = {"epoch", "train/loss/total", "train/loss/region/brand", "val/retrieval/i2t/R@1", "val/retrieval/SumR"}
    assert names < set(table.columns)
    events = event_accumulator.EventAccumulator(str(folder.path / "logs/tensorboard/main"))
    events.Reload()
    client = tracking.MlflowClient((folder.path / "logs/mlflow").as_uri())
    assert set(events.Tags()["scalars"]) == set(table.columns) - {"step"}
    assert set(client.get_run(begun["mlflow"]).data.metrics) == {mlflow_name(name) for name in events.Tags()["scalars"]}
    assert client.get_run(begun["mlflow"]).data.params["train.stages.main.epochs"] == "2"
    expected = [5, 11]  # an epoch has six steps, and the second start logged the last
    for name in ("train/loss/total", "val/retrieval/i2t/R@1"):
        rows = table.dropna(subset=[name])
        assert rows["step"].tolist() == [event.step for event in events.Scalars(name)] == expected
        assert rows[name].tolist() == pytest.approx([event.value for event in events.Scalars(name)])
        assert {metric.step for metric in client.get_metric_history(begun["mlflow"], mlflow_name(name))} == {*expected}


def test_a_second_ctrl_c_stops_at_once(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    config = run_config(synth_catalogue, tmp_path / "run")
    previous = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_stage", interrupted_by(twice, ("main", 3)))
        with pytest.raises(SystemExit):
            train_run(config, progress=False)
    signal.signal(signal.SIGINT, previous)
    assert torch.load(tmp_path / "run/checkpoints/main/last.ckpt", weights_only=True)["global_step"] == 2
