"""The real loggers: the same names and numbers in all, a resumed stage in one piece, no network unless asked for."""

import csv
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from e2fashion.training.loggers import LogSettings, check_loggers, ids_of, mlflow_name, open_loggers, resumed_step
from e2fashion.types import E2FashionError
from tests.faults import kills

NAME = "val/retrieval/i2t/R@1"


def log(settings: LogSettings, folder: Path, values: dict[int, float], known: dict[str, str], step: int = 0) -> dict:
    """Log ``values`` by step under :data:`NAME`; the ids under which that was done."""
    with open_loggers(settings, folder, "main", known, step) as loggers:
        for at, value in values.items():
            for logger in loggers:
                logger.log_metrics({NAME: value}, step=at)
                logger.save()
        ids = ids_of(loggers)
        for logger in loggers:
            logger.finalize("success")
    return ids


def in_csv(folder: Path) -> dict[int, float]:
    (file,) = (folder / "csv").rglob("*.csv")
    with file.open(newline="") as lines:
        return {int(row["step"]): float(row[NAME]) for row in csv.DictReader(lines)}


def in_tensorboard(folder: Path) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / "main"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(NAME)}


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a W&B file: behind seven bytes a LevelDB log, blocks of 32 KiB of which a record may fill more."""
    assert content[:4] == b":W&B"
    at, record = 7, b""
    while at < len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        record = content[at + 7 : at + 7 + length] if kind in (1, 2) else record + content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield record


def in_wandb(folder: Path, run: str) -> dict[int, float]:
    from wandb.proto.wandb_internal_pb2 import Record

    result = {}
    for file in sorted((folder / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb")):
        for data in wandb_records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            row = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            if NAME in row:
                result[int(row["trainer/global_step"])] = float(row[NAME])
    return result


def in_mlflow(folder: Path, run: str) -> dict[int, float]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlflow").as_uri())
    assert client.get_run(run).info.status == "FINISHED"
    return {int(metric.step): metric.value for metric in client.get_metric_history(run, mlflow_name(NAME))}


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """All requests to servers: the proxies of all libraries are one that records them."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(200))

    threading.Thread(target=accept, daemon=True).start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WANDB_BASE_URL"):
        monkeypatch.setenv(variable, address)
        monkeypatch.setenv(variable.lower(), address)
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "")
    yield heard
    server.close()


def test_every_logger_has_the_same_numbers_and_a_resumed_stage_goes_on(tmp_path: Path, listener: list[bytes]) -> None:
    for package in ("tensorboard", "wandb", "mlflow"):
        pytest.importorskip(package)
    settings = LogSettings(("tensorboard", "wandb", "mlflow"), title="mine", values={"seed": 0})
    ids = log(settings, tmp_path, {1: 10.0, 3: 20.0}, {})
    time.sleep(1)  # W&B names the folders of offline runs by the second
    assert log(settings, tmp_path, {5: 30.0}, ids, step=4) == ids
    expected = {1: 10.0, 3: 20.0, 5: 30.0}
    assert in_csv(tmp_path) == expected
    assert in_tensorboard(tmp_path) == expected
    assert in_wandb(tmp_path, ids["wandb"]) == expected
    assert in_mlflow(tmp_path, ids["mlflow"]) == expected
    # What W&B would report of its use at the end of the process; MLflow never does under pytest.
    telemetry = pytest.importorskip("wandb.analytics.opentelemetry.opentelemetry_proxy")
    if (proxy := telemetry.get_open_telemetry_proxy()) is not None:
        proxy.shutdown()
    assert not listener
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "WANDB_MODE" not in os.environ


def test_what_is_logged_again_stands_once(tmp_path: Path) -> None:
    settings = LogSettings(("tensorboard",))
    log(settings, tmp_path, {1: 10.0, 3: 20.0, 5: 99.0}, {})
    time.sleep(1.1)  # TensorBoard orders files by the second in their names, and then by a counter as text: 10 before 9
    log(settings, tmp_path, {5: 30.0, 7: 40.0}, {}, step=4)
    assert in_csv(tmp_path) == in_tensorboard(tmp_path) == {1: 10.0, 3: 20.0, 5: 30.0, 7: 40.0}


def test_a_kill_leaves_every_row_of_the_csv_file_that_was_there(tmp_path: Path) -> None:
    settings = LogSettings()
    log(settings, tmp_path, {1: 10.0, 3: 20.0}, {})
    for _ in kills(lambda: log(settings, tmp_path, {5: 30.0, 7: 40.0}, {}, step=4)):
        rows = in_csv(tmp_path)
        assert {1: 10.0, 3: 20.0}.items() <= rows.items() <= {1: 10.0, 3: 20.0, 5: 30.0, 7: 40.0}.items()
    assert in_csv(tmp_path) == {1: 10.0, 3: 20.0, 5: 30.0, 7: 40.0}
    assert [file.name for file in (tmp_path / "csv/main").iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("content", [b"step\n1,2\n", b"step\nx\n", b"loss\n1\n", b"step\n\xff\n"])
def test_a_damaged_csv_file_begins_anew_with_a_warning(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log(LogSettings(), tmp_path, {1: 10.0}, {})
    (tmp_path / "csv/main/metrics.csv").write_bytes(content)
    log(LogSettings(), tmp_path, {5: 30.0}, {}, step=4)
    assert in_csv(tmp_path) == {5: 30.0}
    assert "metrics.csv cannot be read" in caplog.text


def test_an_mlflow_run_that_is_gone_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("mlflow")
    gone = {"mlflow": "0" * 32}
    ids = log(LogSettings(("mlflow",)), tmp_path, {1: 10.0}, gone)
    assert ids["mlflow"] != gone["mlflow"]
    assert in_mlflow(tmp_path, ids["mlflow"]) == {1: 10.0}
    assert "MLflow run 0000" in caplog.text


@pytest.mark.parametrize(("name", "extra"), [("tensorboard", "logging"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_logger_that_is_not_installed(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(E2FashionError, match=rf"logging.to names {name}.*e2fashion\[{extra}\].*logging.to=\[\] "):
        check_loggers([name], online=False)


def test_a_folder_that_is_called_like_a_package_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(E2FashionError, match="wandb, which is not installed"):
        check_loggers(["wandb"], online=False)


def test_mlflow_online_needs_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(E2FashionError, match="MLFLOW_TRACKING_URI names no MLflow server"):
        check_loggers(["mlflow"], online=True)
    check_loggers(["mlflow"], online=False)


def test_the_step_of_a_checkpoint(tmp_path: Path) -> None:
    assert resumed_step(tmp_path / "last.ckpt") == 0
    torch.save({"global_step": 7, "state_dict": {"weight": torch.ones(3)}}, tmp_path / "last.ckpt")
    assert resumed_step(tmp_path / "last.ckpt") == 7
