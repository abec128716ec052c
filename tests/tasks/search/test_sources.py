"""Which images become products, and which are refused or skipped."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from stub_encoder import ColorEncoder

from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import EmbedConfig
from e2fashion.tasks.search.sources import open_products
from e2fashion.types import E2FashionError

CONFIG = EmbedConfig(commit_rows=3, batch_size=2)
ENCODER: Any = ColorEncoder()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_images_in_every_encoding(encoding: str, end: str, photos: Path) -> None:
    (photos / "list.txt").write_bytes(f"grey.png{end}{end} red_1.png {end}".encode(encoding))
    assert open_products(photos / "list.txt").ids.to_pylist() == ["grey", "red_1"]


def test_sources_that_cannot_be_indexed(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "grey.jpg")
    with pytest.raises(E2FashionError, match="are both product 'grey'"):
        build_index(ENCODER, photos, tmp_path / "index")
    with pytest.raises(E2FashionError, match=r"'.*nowhere' does not exist: give a catalogue, a folder"):
        build_index(ENCODER, tmp_path / "nowhere", tmp_path / "index")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    with pytest.raises(E2FashionError, match=r"'.*loop\.txt' does not exist: give a catalogue, a folder"):
        open_products(str(tmp_path / "loop.txt"))
    with pytest.raises(E2FashionError, match=r"the image '.*gone.png' does not exist"):
        build_index(ENCODER, [photos / "gone.png"], tmp_path / "index")
    (photos / "long.txt").write_text("a" * 300, encoding="utf-8")  # longer than a file name can be
    with pytest.raises(E2FashionError, match=r"a{300}' does not exist or is no regular file"):
        build_index(ENCODER, photos / "long.txt", tmp_path / "index")
    (tmp_path / "empty").mkdir()
    with pytest.raises(E2FashionError, match="holds no images"):
        build_index(ENCODER, tmp_path / "empty", tmp_path / "index")
    with pytest.raises(E2FashionError, match="is not an index and not empty"):
        build_index(ENCODER, [photos / "grey.png"], photos)
    with pytest.raises(E2FashionError, match="commit_rows is 0; give a number from 1"):
        EmbedConfig(commit_rows=0)


def test_a_text_file_lists_images(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("photos/red_1.png\n\nphotos/grey.png\n", encoding="utf-8")
    index = build_index(ENCODER, tmp_path / "list.txt", tmp_path / "index", CONFIG)
    assert index.product_ids == ["red_1", "grey"]


def test_every_unreadable_file_is_skipped_and_listed(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (photos / "text.jpg").write_text("password=hunter2")
    (photos / "half.png").write_bytes((photos / "grey.png").read_bytes()[:60])
    Image.new("RGB", (6, 6), (250, 250, 0)).save(photos / "yellow.jfif", "JPEG")
    (photos / "gone.webp").symlink_to(photos / "nowhere.webp")
    skip = replace(CONFIG, on_error="skip")
    index = build_index(ENCODER, photos, tmp_path / "index", skip)
    assert {"yellow", "grey"} <= set(index.product_ids)
    assert {name: message.split(": ", 2)[1].split(",")[0] for name, message in index.facts.skipped.items()} == {
        "pipe": "no regular file",
        "text": "unreadable image",
        "half": index.facts.skipped["half"].split(": ", 2)[1].split(",")[0],
        "gone": "missing image",
    }
    assert "hunter2" not in str(index.facts.skipped)
    listed = build_index(ENCODER, [photos / "grey.png", photos / "lost.png"], tmp_path / "listed", skip)
    assert (listed.product_ids, list(listed.facts.skipped)) == (["grey"], ["lost"])
    with pytest.raises(E2FashionError, match=r"'.*gone\.webp' does not exist or is no regular file"):
        build_index(ENCODER, photos, tmp_path / "stop", CONFIG)
    assert not (tmp_path / "stop").exists()
    (photos / "gone.webp").unlink()
    (photos / "pipe.jpg").unlink()
    with pytest.raises(E2FashionError, match=r"^product '(text|half)': .*; or leave such images out"):
        build_index(ENCODER, photos, tmp_path / "stop", CONFIG)


def test_other_files_of_a_folder_are_counted(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = [file.stem for file in photos.iterdir()]
    Image.new("RGB", (6, 6), (250, 250, 0)).save(photos / "yellow.tif")
    (photos / "notes.txt").write_text("hello")
    linked = tmp_path / "elsewhere"
    linked.mkdir()
    Image.new("RGB", (6, 6), (0, 250, 250)).save(linked / "cyan.bmp")
    (photos / "linked").symlink_to(linked)
    index = build_index(ENCODER, photos, tmp_path / "index", CONFIG)
    assert set(index.product_ids) == {*before, "yellow", "linked/cyan"}
    assert "1 ignored (1 .txt)" in caplog.text
