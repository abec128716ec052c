"""An index is copied to an object store and back as it is; an address in the place of a folder is refused."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from pyarrow import fs
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import EmbedConfig
from e2fashion.tasks.search.index import open_index
from e2fashion.types import E2FashionError


@pytest.fixture
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """An address on this machine: moto speaks S3's protocol."""
    moto = pytest.importorskip("moto.server", reason="needs a server of S3's protocol: pip install 'moto[server]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        host, port = server.get_host_and_port()
        options = {"endpoint_override": f"{host}:{port}", "scheme": "http", "region": "us-east-1"}
        fs.S3FileSystem(**options, allow_bucket_creation=True).create_dir("indexes")
        yield f"s3://indexes/mine?{urlencode(options)}"
        server.stop()


@pytest.mark.slow
def test_an_index_is_searched_after_its_way_over_a_store(
    store: str, encoder: Encoder, photos: Path, tmp_path: Path
) -> None:
    index = build_index(encoder, photos, tmp_path / "index", EmbedConfig(commit_rows=3))
    fs.copy_files(str(tmp_path / "index"), store)
    fs.copy_files(store, str(tmp_path / "copy"))
    copy = open_index(tmp_path / "copy", encoder)
    assert copy.snapshot().content == index.snapshot().content
    assert [hit.product_id for hit in copy.search("red")] == [hit.product_id for hit in index.search("red")]


def test_an_address_is_refused_with_what_to_do(encoder: Encoder, photos: Path, tmp_path: Path) -> None:
    message = "'s3://bucket/mine' is an address, but an index is a folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(E2FashionError, match=message):
            build_index(encoder, photos, "s3://bucket/mine")
        with pytest.raises(E2FashionError, match=message):
            open_index("s3://bucket/mine", encoder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["photos"]
