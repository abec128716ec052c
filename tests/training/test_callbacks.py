"""The callbacks alone: when the best model is replaced, when a checkpoint is written, whose signals they are."""

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from e2fashion.training.callbacks import BestModel, ResumeCheckpoint, RunInterruptedError, StageBar, Throughput


def trainer(**state: Any) -> Any:
    usual: dict[str, Any] = {
        "sanity_checking": False,
        "callback_metrics": {"SumR": 10.0},
        "current_epoch": 0,
        "is_global_zero": True,
        "world_size": 1,
        "is_last_batch": False,
        "global_step": 1,
        "save_checkpoint": lambda path, weights_only: Path(path).write_text("checkpoint"),
    }
    return SimpleNamespace(**{**usual, **state})


def saved(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model").write_text("weights")


MODULE: Any = None


def test_the_best_model_is_replaced_when_more_is_reached(tmp_path: Path) -> None:
    written: list[Path] = []
    best = BestModel(tmp_path / "best", lambda folder: (written.append(folder), saved(folder))[0], "SumR")
    for epoch, value in enumerate([10.0, 9.0, 10.0, 11.0]):
        best.on_validation_end(trainer(callback_metrics={"SumR": value}, current_epoch=epoch), MODULE)
    assert (best.best, best.best_epoch) == (11.0, 3)
    assert len(written) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_stage_must_beat_the_one_before(tmp_path: Path) -> None:
    best = BestModel(tmp_path / "best", saved, "SumR", best=20.0)
    best.on_validation_end(trainer(), MODULE)
    assert not (tmp_path / "best").exists()
    assert (best.best, best.best_epoch) == (20.0, -1)


def test_a_broken_write_leaves_the_former_best(tmp_path: Path) -> None:
    best = BestModel(tmp_path / "best", saved, "SumR")
    best.on_validation_end(trainer(), MODULE)

    def fail(folder: Path) -> None:
        saved(folder)
        raise OSError("disk full")

    best.save = fail
    with pytest.raises(OSError, match="disk full"):
        best.on_validation_end(trainer(callback_metrics={"SumR": 30.0}), MODULE)
    assert (tmp_path / "best" / "model").read_text() == "weights"


def test_other_processes_know_the_best_but_write_nothing(tmp_path: Path) -> None:
    best = BestModel(tmp_path / "best", saved, "SumR")
    best.on_validation_end(trainer(is_global_zero=False), MODULE)
    assert best.best == 10.0
    assert not (tmp_path / "best").exists()


def test_the_value_to_beat_survives_a_resume(tmp_path: Path) -> None:
    first, second = (BestModel(tmp_path / "best", saved, "SumR") for _ in range(2))
    first.on_validation_end(trainer(), MODULE)
    second.load_state_dict(first.state_dict())
    assert (second.best, second.best_epoch) == (first.best, first.best_epoch)


@pytest.mark.parametrize(("step", "last", "written"), [(1, False, False), (4, False, True), (4, True, False)])
def test_a_checkpoint_every_four_steps_but_not_before_validation(
    tmp_path: Path, step: int, last: bool, written: bool
) -> None:
    callback = ResumeCheckpoint(tmp_path / "last.ckpt", every_steps=4)
    callback.on_train_batch_end(trainer(global_step=step, is_last_batch=last), MODULE, None, None, 0)
    assert (tmp_path / "last.ckpt").exists() == written


def test_every_epoch_ends_with_a_checkpoint(tmp_path: Path) -> None:
    ResumeCheckpoint(tmp_path / "last.ckpt", every_steps=100).on_train_epoch_end(trainer(), MODULE)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_signal_stops_behind_the_batch_and_the_second_at_once(tmp_path: Path) -> None:
    previous = signal.getsignal(signal.SIGINT)
    callback = ResumeCheckpoint(tmp_path / "last.ckpt", every_steps=100)
    callback.on_fit_start(trainer(), MODULE)
    try:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(RunInterruptedError):
            callback.on_train_batch_end(trainer(), MODULE, None, None, 0)
    finally:
        callback.teardown(trainer(), MODULE, "fit")
    assert (tmp_path / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is previous


def test_processes_agree_on_stopping(tmp_path: Path) -> None:
    asked: list[bool] = []

    def any_of(decision: bool, all: bool) -> bool:
        asked.append(decision)
        return True

    callback = ResumeCheckpoint(tmp_path / "last.ckpt", every_steps=100)
    together = trainer(world_size=2, strategy=SimpleNamespace(reduce_boolean_decision=any_of), is_global_zero=False)
    with pytest.raises(RunInterruptedError):
        callback.on_train_batch_end(together, MODULE, None, None, 0)
    assert asked == [False]


def test_another_thread_cannot_take_the_signals_and_trains_anyway(tmp_path: Path) -> None:
    callback = ResumeCheckpoint(tmp_path / "last.ckpt", every_steps=1)
    previous = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=callback.on_fit_start, args=(trainer(), MODULE))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is previous


def test_throughput_counts_the_images_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0])
    monkeypatch.setattr("e2fashion.training.callbacks.time.perf_counter", lambda: next(clock))
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(log=lambda name, value, **_: logged.update({name: value}))
    callback = Throughput()
    callback.on_train_epoch_start(trainer(), module)
    callback.on_train_batch_end(trainer(world_size=2), module, None, [0] * 8, 0)
    callback.on_train_batch_end(trainer(world_size=2, is_last_batch=True), module, None, [0] * 8, 1)
    assert logged == {"train/images_per_second": 16.0}


def test_the_bar_tells_the_time_that_is_left_for_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("e2fashion.training.callbacks.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("pytorch_lightning.callbacks.TQDMProgressBar.on_train_start", lambda *_: None)
    monkeypatch.setattr("pytorch_lightning.callbacks.TQDMProgressBar.get_metrics", lambda *_: {"v_num": "main"})
    bar = StageBar("main")
    bar.on_train_start(trainer(global_step=4), MODULE)
    # Six steps in ten seconds; of three epochs of ten steps, twenty are left.
    assert bar.get_metrics(trainer(global_step=10, num_training_batches=10, max_epochs=3), MODULE) == {"left": "00:33"}
