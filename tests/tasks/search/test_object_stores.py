"""An index at the address of an object store is what it is in a folder; moto speaks S3's protocol on this machine."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pyarrow import fs
from stub_encoder import ColorEncoder
from tiny_encoder import build_tiny_encoder

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import DamagedError
from e2fashion.disk.stores import Store, StoreError
from e2fashion.tasks.search.build import add_products, build_index, compact, remove_products, sync_index
from e2fashion.tasks.search.config import EmbedConfig, IndexCompactConfig
from e2fashion.tasks.search.index import open_index
from e2fashion.tasks.search.places import place_of, read_values
from e2fashion.tasks.search.upgrade import upgrade
from e2fashion.types import E2FashionError

ENCODER: Any = ColorEncoder()
CONFIG = EmbedConfig(commit_rows=3, batch_size=2)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@dataclass
class Bucket:
    """A bucket of a server of this machine."""

    endpoint: str
    name: str = "indexes"

    def __truediv__(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    @property
    def files(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(endpoint_override=self.endpoint, region="us-east-1", allow_bucket_creation=True)

    def allow(self, requests: str) -> None:
        """Let this many requests through before credentials must be known: ``inf`` for all."""
        address, kind = f"{self.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        with urllib.request.urlopen(urllib.request.Request(address, requests.encode(), kind)) as answer:
            answer.read()


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    moto = pytest.importorskip("moto.server", reason="needs a server of S3's protocol: pip install 'moto[server]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    host, port = server.get_host_and_port()
    bucket = Bucket(f"http://{host}:{port}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        bucket.files.create_dir(bucket.name)
    yield bucket
    server.stop()


@pytest.fixture
def store(server: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """With the environment of its user: endpoint and credentials, no region, no configuration in files."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for file in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):  # not HOME, where Ray keeps a token
        monkeypatch.setenv(file, str(tmp_path / "none"))
    return server


def names(store: Bucket, key: str) -> set[str]:
    return {entry.base_name for entry in store.files.get_file_info(fs.FileSelector(f"{store.name}/{key}"))}


@pytest.mark.slow
def test_an_index_at_an_address_is_what_it_is_in_a_folder(store: Bucket, photos: Path, tmp_path: Path) -> None:
    there = build_index(ENCODER, photos, store / "mine", CONFIG, "colors")
    here = build_index(ENCODER, photos, tmp_path / "index", CONFIG, "colors")
    assert names(store, "mine") == {"index.json", "products.lance"}, "no list of files, no turn that is left over"
    assert there.facts.encoder.relative == ""
    reader = open_index(store / "mine", ENCODER)
    assert str(reader.path) == store / "mine"
    for query in ("red", "blue green"):
        found = [(hit.product_id, hit.score, hit.location) for hit in reader.search(query)]
        assert found == [(hit.product_id, hit.score, hit.location) for hit in here.search(query)]
    assert reader.snapshot().content == here.snapshot().content == there.facts.origin.content
    version = reader.version
    sync_index(store / "mine", ENCODER, photos, CONFIG)
    assert open_index(store / "mine").version == version, "nothing had changed"

    (photos / "grey.png").unlink()
    Image.new("RGB", (12, 16), "white").save(photos / "blue_1.png")
    Image.new("RGB", (12, 16), "yellow").save(photos / "yellow.png")
    sync_index(store / "mine", ENCODER, photos, CONFIG)
    sync_index(tmp_path / "index", ENCODER, photos, CONFIG)
    assert reader.search("white")[0].product_id == "blue_1", "seen by an index that was opened before"
    add_products(store / "mine", ENCODER, {"new": photos / "red_1.png"}, CONFIG)
    remove_products(store / "mine", ["new", "red_2"])
    remove_products(tmp_path / "index", ["red_2"])
    compact(IndexCompactConfig(store / "mine", lists=True))
    assert reader.snapshot().content == here.snapshot().content
    assert len(reader.snapshot().table.list_indices()) == 1
    reader.snapshot().check()


@pytest.mark.slow
def test_an_index_is_copied_to_an_address_and_back(store: Bucket, photos: Path, tmp_path: Path) -> None:
    build_index(ENCODER, photos, tmp_path / "index", CONFIG, "colors")
    fs.copy_files(str(tmp_path / "index"), f"{store.name}/copied", destination_filesystem=store.files)
    assert len(remove_products(store / "copied", ["grey"])) == 6
    fs.copy_files(f"{store.name}/copied", str(tmp_path / "copy"), source_filesystem=store.files)
    copy = open_index(tmp_path / "copy", ENCODER)
    assert [hit.product_id for hit in copy.search("red", top=2)] == ["red_1", "red_2"]
    assert len(remove_products(copy.path, ["red_1"])) == 5


@pytest.mark.slow
def test_a_killed_build_goes_on_behind_what_was_written(store: Bucket, photos: Path) -> None:
    script = """
import os, signal, sys
from stub_encoder import ColorEncoder
from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import EmbedConfig

class Killed(ColorEncoder):
    done = 0
    def embed_squares(self, squares):
        Killed.done += len(squares)
        if Killed.done > 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed_squares(squares)

build_index(Killed(), sys.argv[1], sys.argv[2], EmbedConfig(commit_rows=3, batch_size=1), "colors", False)
"""
    embedded = []

    class Counted(ColorEncoder):
        def embed_squares(self, squares: Any) -> Any:
            embedded.append(len(squares))
            return super().embed_squares(squares)

    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = subprocess.run([sys.executable, "-c", script, photos, store / "killed"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert any(name.startswith(".build-") for name in names(store, "killed"))
    with pytest.raises(E2FashionError, match="the index s3://indexes/killed is unfinished: go on by repeating"):
        open_index(store / "killed")
    counted: Any = Counted()
    begun = time.monotonic()
    assert len(build_index(counted, photos, store / "killed", CONFIG, "colors")) == 7
    assert sum(embedded) == 4, "three were written"
    assert time.monotonic() - begun < 60, "a process of this machine that has ended is not waited for"
    assert names(store, "killed") == {"index.json", "products.lance"}


@pytest.mark.slow
def test_two_writers_lose_nothing(store: Bucket, photos: Path) -> None:
    build_index(ENCODER, photos, store / "two", CONFIG, "colors")
    failed = []

    def add(writer: int) -> None:
        try:
            for number in range(3):
                source = {f"{writer}-{number}": photos / "red_1.png", f"both-{number}": photos / "red_2.png"}
                add_products(store / "two", ENCODER, source, EmbedConfig(commit_rows=1), progress=False)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    index = open_index(store / "two")
    added = {f"{writer}-{number}" for writer in (0, 1, "both") for number in range(3)}
    assert added <= set(index.product_ids)
    assert len(index.snapshot().row_ids) == len(index) == 7 + 9, "every product once"


@pytest.mark.slow
def test_actors_of_ray_build_at_an_address(
    store: Bucket, photos: Path, tmp_path: Path, synth_catalogue: Catalogue
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'e2fashion[ray]'")
    torch.set_num_threads(1)
    encoder = build_tiny_encoder(synth_catalogue)
    config = EmbedConfig(engine="ray", workers=1, commit_rows=3, batch_size=2)
    there = build_index(encoder, photos, store / "ray", config)
    here = build_index(encoder, photos, tmp_path / "index", CONFIG)
    assert there.snapshot().content == here.snapshot().content


@pytest.mark.slow
def test_commands_take_an_address(store: Bucket, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_index(ENCODER, photos, store / "named", CONFIG, "colors")
    assert main(["index", "describe", store / "named"]) == 0
    assert "s3://indexes/named: 7 products" in capsys.readouterr().out
    assert main(["index", "remove", store / "named", "ids=grey"]) == 0
    assert "s3://indexes/named: 6 products" in capsys.readouterr().out
    assert main(["index", "describe", store / "missing"]) == 1
    assert "'s3://indexes/missing' is not an index: it has no index.json. Make one with" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_store_refuses_is_said_in_one_line(store: Bucket, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(ENCODER, photos, store / "closed", CONFIG, "colors")
    opened = open_index(store / "closed", ENCODER)
    opened.search("red")

    def refused(message: str) -> None:
        for use in (
            lambda: open_index(store / "closed"),
            lambda: opened.search("red"),
            lambda: opened.vector_of("grey"),
        ):
            with pytest.raises(StoreError, match=message) as caught:
                use()
            assert "\n" not in str(caught.value)

    with pytest.raises(E2FashionError, match="'s3://nobody-has-it/mine': the bucket does not exist: create it"):
        build_index(ENCODER, photos, "s3://nobody-has-it/mine", CONFIG)
    store.allow("0")
    try:
        refused("'s3://indexes/closed': access is denied: set AWS_ACCESS_KEY_ID")
    finally:
        store.allow("inf")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(E2FashionError, match=r"'s3://indexes/closed': the store does not answer at http://127.0.0.1:9"):
        open_index(store / "closed")


@pytest.mark.slow
def test_without_credentials_that_is_said(store: Bucket, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    with pytest.raises(E2FashionError, match="'s3://indexes/nobody': there are no credentials: set AWS_ACCESS_KEY_ID"):
        build_index(ENCODER, photos, store / "nobody", CONFIG)


def test_what_is_no_address_of_an_index_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("gs://bucket/mine", "memory://mine", "foo://bucket/mine"):
        with pytest.raises(E2FashionError, match=rf"'{address}' cannot be an index: give a folder, or s3://"):
            build_index(ENCODER, photos, address)
    for address in ("s3://bucket", "s3:///mine", "s3://bucket/mine?region=eu"):
        with pytest.raises(E2FashionError, match="is no address of an index: give s3://<bucket>/<index>, and endpoint"):
            open_index(address)
    with pytest.raises(E2FashionError, match="'s3://bucket/mine' is an address: copy the index into a folder"):
        upgrade(place_of("s3://bucket/mine"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["photos"]


def test_an_address_of_a_file_system_is_a_folder(photos: Path, tmp_path: Path) -> None:
    assert place_of(f"file://{tmp_path}/index") == tmp_path / "index"
    assert place_of(Path("s3://bucket/mine")) == Store("s3://bucket/mine"), "which a Path writes with one slash"
    assert place_of("s3://bucket/mine/") == Store("s3://bucket/mine")
    index = build_index(ENCODER, photos, f"file://{tmp_path}/index", CONFIG, "colors")
    assert index.path == tmp_path / "index"


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [b'{"a": 1', b"\xff\x00", b'{"a": 1}']
    monkeypatch.setattr(Store, "read", lambda *_: contents.pop(0))
    assert read_values(Store("s3://bucket/mine"), "index.json") == {"a": 1}
    contents += [b"no JSON"] * 3
    with pytest.raises(DamagedError, match=r"s3://bucket/mine/index.json is damaged .*Build the index again"):
        read_values(Store("s3://bucket/mine"), "index.json")


def test_what_is_not_known_of_a_store_is_said_as_it_says_it() -> None:
    store = Store("s3://bucket/mine")
    message = r"'s3://bucket/mine': the store refuses \(MOVED \(301\): elsewhere\): check the address, AWS_ENDPOINT_URL"
    with pytest.raises(StoreError, match=message), store.reaching():
        raise OSError("When getting key 'mine': AWS Error MOVED (301): elsewhere")
    with pytest.raises(OSError, match="full"), store.reaching():
        raise OSError("the disk is full")


def test_endpoint_and_region_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert Store("s3://bucket/mine").options == {"aws_region": "eu-central-1"}
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://store.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://10.0.0.1:9000")
    expected = {"aws_endpoint": "http://10.0.0.1:9000", "aws_region": "eu-west-1", "allow_http": "true"}
    assert Store("s3://bucket/mine").options == expected
