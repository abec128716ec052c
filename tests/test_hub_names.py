"""Folders never turn into hub names, and a hub that does not answer costs one question."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import pytest

from e2fashion import hub
from e2fashion.data.sources.hub import open_splits
from e2fashion.encoder import load_encoder
from e2fashion.hub import StoredSource, checked_hub_name, fetch, hub_options, source_options
from e2fashion.types import E2FashionError


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every address that a socket of this process connects to."""
    result: list[object] = []
    connect = socket.socket.connect

    def counted(self: socket.socket, address: object) -> None:
        result.append(address)
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", counted)
    return result


@contextmanager
def endpoint(monkeypatch: pytest.MonkeyPatch, listening: bool) -> Iterator[int]:
    """The hub at a local port without a server, or with one that never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = int(server.getsockname()[1])
        if listening:
            server.listen()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
        _, _, path = template.partition("://")[2].partition("/")
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"http://127.0.0.1:{port}/{path}")
        yield port


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", {})
    monkeypatch.setattr(hub, "from_cache", set())
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def test_an_unreachable_hub_is_asked_once_and_named_in_one_line(
    connections: list[object], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(monkeypatch, listening=False) as port, pytest.raises(E2FashionError) as result:
        load_encoder("nobody/no-such-clip")
    assert connections == [("127.0.0.1", port)]
    assert len(str(result.value).splitlines()) == 1
    assert "'nobody/no-such-clip' is not a folder, so it was taken for a hub name" in str(result.value)
    assert "model.checkpoint=<folder>" in str(result.value)


def test_a_hub_that_stays_silent_is_waited_for_no_longer_than_it_may_take(
    connections: list[object], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ANSWER_WITHIN", 0.2)
    with endpoint(monkeypatch, listening=True), pytest.raises(E2FashionError, match="does not answer"):
        hub_options("nobody/no-such-clip")
    assert len(connections) == 1
    assert hub.ANSWER_WITHIN == 0.2


def test_a_look_up_of_a_host_that_hangs_is_not_waited_for(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(hub, "ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(60) and [])
    with endpoint(monkeypatch, listening=False), pytest.raises(E2FashionError, match=r"no answer within 0\.05 s"):
        hub_options("nobody/no-such-clip")
    released.set()


def test_a_data_set_of_an_unreachable_hub_costs_one_question_too(
    connections: list[object], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        endpoint(monkeypatch, listening=False),
        pytest.raises(E2FashionError, match=r"path=<folder>.*HF_HUB_OFFLINE=1"),
    ):
        open_splits("nobody/no-such-set")
    assert len(connections) == 1


def test_offline_nothing_is_asked(
    connections: list[object], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(E2FashionError, match=r"does not answer \(HF_HUB_OFFLINE is set\)"):
        hub_options("nobody/no-such-clip")
    assert connections == []


def in_cache(cache: Path, name: str) -> None:
    """Put a configuration where the hub's client keeps it."""
    commit = "0" * 40
    snapshot = cache / f"models--{name.replace('/', '--')}" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)


def test_the_cache_is_used_where_the_hub_does_not_answer(
    connections: list[object], empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_cache(empty_cache, "some/clip")
    with endpoint(monkeypatch, listening=False):
        for _ in range(3):  # the parts of a model
            assert hub_options("some/clip") == {"local_files_only": True}
    assert len(connections) == 1
    assert caplog.text.count("its cache is used") == 1


def test_a_model_is_fetched_into_the_folder_that_is_named(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cache(tmp_path / "mine", "some/clip")
    with endpoint(monkeypatch, listening=False):
        result = Path(fetch("some/clip", tmp_path / "mine"))
        assert result.is_relative_to(tmp_path / "mine")
        assert (result / "config.json").is_file()
        with pytest.raises(E2FashionError, match="the hub does not answer"):
            fetch("some/clip", tmp_path / "other")
    with pytest.raises(E2FashionError, match="is not a folder; give a model's folder"):
        fetch("runs/mine", tmp_path / "mine")


def test_a_folder_costs_no_request(connections: list[object], tmp_path: Path) -> None:
    assert source_options(tmp_path) == {"local_files_only": True}
    assert connections == []


@pytest.mark.parametrize(
    "name", ["runs/mine", "models/clip", "exports/x", "./mine", "/mine", "~/mine", "a/b/c", "..", "a\\b", ""]
)
def test_a_name_that_looks_like_a_path_never_goes_to_the_hub(name: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="is not a folder; give a model's folder or a name on the hub"):
        checked_hub_name(name, "model")
    assert checked_hub_name("openai/clip-vit-base-patch32", "model") == "openai/clip-vit-base-patch32"


def stored_run(root: Path) -> tuple[Path, Path, StoredSource]:
    """A model folder, an index next to it, and what the index stores of the model, written from ``root``."""
    model, index = root / "runs" / "mine", root / "indexes" / "shop"
    model.mkdir(parents=True)
    index.mkdir(parents=True)
    return model, index, StoredSource.of("runs/mine", "indexes/shop")


def test_a_stored_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    model, index, source = stored_run(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert source.find(index, "the model", "give it") == str(model)
    (tmp_path / "project").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "indexes" / "shop"
    assert source.find(moved, "the model", "give it") == str(tmp_path / "moved" / "runs" / "mine")


def test_a_stored_folder_that_is_gone_names_both_folders(
    connections: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, _, source = stored_run(tmp_path)
    model.rmdir()
    other = tmp_path / "copy" / "of" / "index"
    tried = f"tried {model} and {tmp_path}/copy/runs/mine"
    with pytest.raises(E2FashionError, match=rf"^the model is not where it was: {tried}\. Give model=<folder>\.$"):
        source.find(other, "the model", "Give model=<folder>.")
    assert connections == []


@pytest.mark.parametrize("source", ["runs/mine", "someone/mine", "mine"])
def test_a_source_of_an_older_file_is_a_folder_or_nothing(
    source: str, connections: list[object], empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did not say whether it means a folder: the hub is not used for what may be one."""
    monkeypatch.chdir(tmp_path)
    stored = StoredSource.read({"source": source})
    with pytest.raises(E2FashionError, match=f"tried {tmp_path}/{source} and {tmp_path}/index/{source}"):
        stored.find("index", "the model", "Give it.")
    assert connections == []
    (tmp_path / source).mkdir(parents=True)
    assert stored.find("index", "the model", "Give it.") == str(tmp_path / source)


def test_an_older_file_still_names_a_hub_model_that_was_fetched(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    in_cache(empty_cache, "openai/clip-vit-base-patch32")
    assert StoredSource("openai/clip-vit-base-patch32").find("i", "m", "r") == "openai/clip-vit-base-patch32"
    new = StoredSource.of("laion/CLIP-ViT-B-32", "i")
    assert (new.source, new.relative, new.hub) == ("laion/CLIP-ViT-B-32", "", True)
    assert new.find("i", "m", "r") == "laion/CLIP-ViT-B-32"


def test_a_run_goes_on_with_the_checkpoint_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "mine"
    (tmp_path / "models" / "clip").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    record = StoredSource.remembered("models/clip", run)
    (tmp_path / "elsewhere" / "models" / "clip").mkdir(parents=True)  # another one of that name
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert StoredSource.recall("models/clip", record, run, "the checkpoint") == str(tmp_path / "models" / "clip")
    assert StoredSource.recall("other/clip", record, run, "the checkpoint") == "other/clip"
    assert StoredSource.recall("models/clip", None, run, "the checkpoint") == "models/clip"
    (tmp_path / "models" / "clip").rmdir()
    assert StoredSource.recall("models/clip", record, run, "the checkpoint") == "models/clip"
    (tmp_path / "elsewhere" / "models" / "clip").rmdir()
    with pytest.raises(E2FashionError, match="the checkpoint is not where it was"):
        StoredSource.recall("models/clip", record, run, "the checkpoint")
