"""Damage of an index's files is detected before they are used; the former format is upgraded."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from stub_encoder import ColorEncoder

from e2fashion.tasks.search import changes, places
from e2fashion.tasks.search.build import add_products, build_index, compact, remove_products, sync_index
from e2fashion.tasks.search.config import EmbedConfig, IndexCompactConfig
from e2fashion.tasks.search.index import ProductIndex, open_index
from e2fashion.tasks.search.places import HINT, INDEX_FILE, check_table
from e2fashion.tasks.search.upgrade import upgrade
from e2fashion.types import E2FashionError

CONFIG = EmbedConfig(commit_rows=3, batch_size=2)
ENCODER: Any = ColorEncoder()
OLD = Path(__file__).resolve().parents[2] / "golden" / "index"


@pytest.fixture
def index(photos: Path, tmp_path: Path) -> ProductIndex:
    """Seven products."""
    return build_index(ENCODER, photos, tmp_path / "index", CONFIG, "colors")


def newest_data(index: ProductIndex) -> Path:
    return max((index.path / "products.lance" / "data").iterdir(), key=lambda file: file.stat().st_mtime_ns)


def damage_vector(index: ProductIndex, file: Path) -> None:
    content = file.read_bytes()
    place = content.index(index.snapshot().vectors[3].half().numpy().tobytes())
    file.write_bytes(content[:place] + b"\0\0" + content[place + 2 :])


def test_damage_is_detected_before_the_table_is_opened(
    index: ProductIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(IndexCompactConfig(str(index.path)))
    files = [file for file in (index.path / "products.lance").rglob("*") if file.is_file() and file.name != HINT]
    assert {file.suffix for file in files} == {".lance", ".manifest", ".txn"}
    with monkeypatch.context() as patched:
        patched.setattr(places, "require_lancedb", lambda: None)
        for file in files:
            content = file.read_bytes()
            middle = len(content) // 2
            file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            for use in (lambda: open_index(index.path), lambda: remove_products(index.path, ["grey"])):
                with pytest.raises(E2FashionError, match=rf"{file.name} is damaged: its content .*Build the index"):
                    use()
            file.write_bytes(content)
    open_index(index.path).snapshot().check()
    min(file for file in files if file.suffix == ".manifest").unlink()
    for change in (open_index, lambda path: sync_index(path, ENCODER, photos)):
        with pytest.raises(
            E2FashionError, match=r"\d\.manifest is missing, the latest version of the table. Build the"
        ):
            change(index.path)


def test_a_damaged_vector_is_detected_unless_that_is_left_out(index: ProductIndex) -> None:
    compact(IndexCompactConfig(str(index.path)))
    newest = newest_data(index)
    opened = open_index(index.path, ENCODER)
    damage_vector(index, newest)
    with pytest.raises(E2FashionError, match=rf"{newest.name} is damaged: its content is not what was written"):
        opened.search("red")
    assert open_index(index.path, ENCODER, verify=False).search("red")


def test_what_a_killed_process_committed_is_compared_and_listed_by_the_next_change(
    index: ProductIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(changes, "list_table", killed)
        with pytest.raises(KeyboardInterrupt):
            add_products(index.path, ENCODER, {"new": photos / "red_1.png"}, CONFIG)
    assert check_table(index.path)
    assert "new" in open_index(index.path).product_ids, "it may be lost, but is there"
    shutil.copytree(index.path, index.path.with_name("damaged"))
    compact(IndexCompactConfig(str(index.path)))
    assert not check_table(index.path)
    damaged = ProductIndex(index.path.with_name("damaged"), index.facts)
    file = newest_data(damaged)
    file.write_bytes(file.read_bytes().replace(b"new", b"now"))
    with pytest.raises(E2FashionError, match=r"rows of the index .* are not what was written"):
        compact(IndexCompactConfig(str(damaged.path)))


def test_an_index_without_a_list_is_compared_by_rows_and_vectors(index: ProductIndex) -> None:
    compact(IndexCompactConfig(str(index.path)))
    (index.path / "checksums.json").unlink()
    newest = newest_data(index)
    content = newest.read_bytes()
    damage_vector(index, newest)
    for use in (lambda: open_index(index.path, ENCODER).search("red"), lambda: remove_products(index.path, ["grey"])):
        with pytest.raises(E2FashionError, match=r"vectors of the index .* are not what was written"):
            use()
    newest.write_bytes(content)
    assert len(remove_products(index.path, ["grey"])) == 6
    assert not check_table(index.path)
    (index.path / "checksums.json").unlink()
    newest = newest_data(index)
    content = newest.read_bytes()
    newest.unlink()
    os.mkfifo(newest)
    with pytest.raises(E2FashionError, match=r"cannot be read \(it is not a regular file\). Build the index again"):
        open_index(index.path)
    newest.unlink()
    newest.write_bytes(content.replace(b"red_1", b"red_9"))
    with pytest.raises(E2FashionError, match=r"are not what was written|cannot be read"):
        open_index(index.path).snapshot().check()


def test_damaged_manifest_is_read_or_refused_without_a_list(index: ProductIndex, photos: Path) -> None:
    compact(IndexCompactConfig(str(index.path)))
    (index.path / "checksums.json").unlink()
    newest = min((index.path / "products.lance" / "_versions").glob("*.manifest"))  # names count down
    content, refused = newest.read_bytes(), 0
    for place in range(0, len(content), len(content) // 40):
        newest.write_bytes(content[:place] + bytes([content[place] ^ 0x1F]) + content[place + 1 :])
        try:
            open_index(index.path, ENCODER).snapshot().check()
            sync_index(index.path, ENCODER, photos, CONFIG)
        except E2FashionError:
            refused += 1
    assert refused
    newest.write_bytes(content)


def test_facts_that_cannot_be_read(index: ProductIndex, tmp_path: Path) -> None:
    file = index.path / INDEX_FILE
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("colors-1", "colors-2"), encoding="utf-8")
    with pytest.raises(E2FashionError, match=r"index.json is damaged or was edited: .* Build the index again"):
        open_index(index.path)
    text = text[: text.rindex(",")] + "\n}"  # as earlier versions wrote it: without a checksum
    file.write_text(text, encoding="utf-8")
    assert len(open_index(index.path)) == 7
    file.write_text(text.replace('"format_version": 2', '"format_version": 3'), encoding="utf-8")
    with pytest.raises(E2FashionError, match="has index format 3; this e2fashion reads up to 2"):
        open_index(index.path)
    file.write_text(text[:100], encoding="utf-8")
    with pytest.raises(E2FashionError, match="is damaged"):
        open_index(index.path)
    for width in (-1, 0, 10**20):
        file.write_text(text.replace('"dimension": 4', f'"dimension": {width}'), encoding="utf-8")
        with pytest.raises(E2FashionError, match=f"is damaged: its vectors have width {width}"):
            open_index(index.path)
    file.write_text(text.replace('"complete": true', '"complete": "yes"'), encoding="utf-8")
    with pytest.raises(E2FashionError, match=r"index.json is damaged \(.*\)"):
        open_index(index.path)
    with pytest.raises(E2FashionError, match="is not an index: it does not exist"):
        open_index(tmp_path / "nothing")
    with pytest.raises(E2FashionError, match=f"it has no {INDEX_FILE}"):
        open_index(tmp_path)
    file.write_text(text, encoding="utf-8")
    shutil.rmtree(index.path / "products.lance")
    with pytest.raises(E2FashionError, match="is missing, the latest version of the table"):
        open_index(index.path)


def test_the_former_format_is_upgraded_in_its_folder(tmp_path: Path) -> None:
    folder = shutil.copytree(OLD, tmp_path / "index")
    with pytest.raises(E2FashionError, match="has the format of an earlier version: 'e2fashion index upgrade"):
        open_index(folder)
    upgrade(folder)
    index = open_index(folder)
    assert {file.name for file in folder.iterdir()} == {INDEX_FILE, "products.lance", "checksums.json"}
    assert len(index.nearest(index.vector_of(index.product_ids[0]), top=3)[0]) == 3
    index.snapshot().check()
    upgrade(folder)
    assert open_index(folder).product_ids == index.product_ids
    shutil.rmtree(folder)
    shutil.copytree(OLD, folder)
    (folder / "00000.arrow").write_bytes(b"broken")
    with pytest.raises(E2FashionError, match=r"00000\.arrow is damaged"):
        upgrade(folder)
