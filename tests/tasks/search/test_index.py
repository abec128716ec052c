"""An index is built, read, changed and refused."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from stub_encoder import ColorEncoder
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import list_files
from e2fashion.tasks.search.build import add_products, build_index, remove_products, update_products
from e2fashion.tasks.search.config import EmbedConfig
from e2fashion.tasks.search.index import ProductIndex, open_index
from e2fashion.tasks.search.sources import open_products
from e2fashion.tasks.search.storage import INDEX_FILE, IndexManifest
from e2fashion.types import E2FashionError
from tests.faults import kills

CONFIG = EmbedConfig(shard_rows=3, batch_size=2)
ENCODER: Any = ColorEncoder()


@pytest.fixture
def index(photos: Path, tmp_path: Path) -> ProductIndex:
    """Seven products in three shards."""
    return build_index(ENCODER, photos, tmp_path / "index", CONFIG, "colors")


def ids(index: ProductIndex, text: str, top: int = 10) -> list[str]:
    return [hit.product_id for hit in index.search(text, top=top)]


def test_images_are_found_by_text_by_image_and_by_both(index: ProductIndex, photos: Path) -> None:
    assert ids(index, "a red dress", 2) == ["red_1", "red_2"]
    assert index.search(image=photos / "blue_1.png", top=1)[0].product_id == "blue_1"
    both = [index.search("green", photos / "red_1.png", weight=weight, top=1)[0].product_id for weight in (0.0, 1.0)]
    assert both == ["red_1", "green_1"]
    assert index.retrieval(["red", "blue"], top=2) == [["red_1", "red_2"], ["blue_1", "blue_2"]]
    hit = index.search(image=photos / "grey.png", top=1)[0]
    assert hit.score == pytest.approx(1.0, abs=1e-3)
    assert (hit.location, hit.origin.kind, hit.tags) == (str(photos / "grey.png"), "files", {})


def test_an_index_describes_itself(index: ProductIndex) -> None:
    values = json.loads((index.path / INDEX_FILE).read_text(encoding="utf-8"))
    assert values["format_version"] == 1
    assert values["encoder"] == {
        "name": "colors",
        "fingerprint": "colors-1",
        "dimension": 4,
        "image_size": 8,
        "resize": "squeeze",
        "source": "colors",
        "relative": "",
        "hub": True,
    }
    assert [shard["rows"] for shard in values["shards"]] == [3, 3, 1]
    assert asdict(IndexManifest.load(index.path)) == values
    assert len(index) == index.manifest.products == 7
    assert not list(index.path.glob(".*"))


def test_a_catalogue_brings_its_tags_and_first_views(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    index = build_index(
        encoder, synth_catalogue, tmp_path / "index", EmbedConfig(split=["val", "test"], shard_rows=7, batch_size=5)
    )
    counts = synth_catalogue.manifest.splits
    assert len(index) == counts["val"]["products"] + counts["test"]["products"]
    row = synth_catalogue.split("val")[0]
    found = index.search(text=row["description"], where={"brand": row["brand"]}, top=100)
    assert {hit.tags["brand"] for hit in found} == {row["brand"]}
    hit = next(hit for hit in found if hit.product_id == row["product_id"])
    assert (hit.description, hit.location) == (row["description"], "val/0")
    image = synth_catalogue.path / "image.png"
    image.write_bytes(row["image"])
    torch.testing.assert_close(
        index.vector_of(row["product_id"]), encoder.embed_images(image), atol=2e-3, rtol=0, msg="first view"
    )
    with_workers = EmbedConfig(split=["val", "test"], shard_rows=7, batch_size=5, workers=1)
    again = build_index(encoder, synth_catalogue.path, tmp_path / "again", with_workers)
    assert again.manifest.shards == index.manifest.shards
    missing = index.search("coat", where={"brand": None}, top=100)
    assert all("brand" not in hit.tags for hit in missing)


def test_an_interrupted_build_goes_on_behind_its_last_shard(photos: Path, tmp_path: Path) -> None:
    class Interrupted(ColorEncoder):
        calls = 0

        def embed_squares(self, squares: torch.Tensor) -> torch.Tensor:
            type(self).calls += 1
            if type(self).calls == 4:
                raise KeyboardInterrupt
            return super().embed_squares(squares)

    encoder: Any = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        build_index(encoder, photos, tmp_path / "index", CONFIG)
    with pytest.raises(E2FashionError, match=r"is unfinished \(3 of 7 products\): go on by repeating the command"):
        open_index(tmp_path / "index")
    with pytest.raises(E2FashionError, match="holds an index of other products: choose another output"):
        build_index(encoder, [photos / "grey.png"], tmp_path / "index", CONFIG)
    index = build_index(encoder, photos, tmp_path / "index", CONFIG)
    assert Interrupted.calls == 7, "two batches of the first shard were not embedded again"
    assert index.manifest.shards == build_index(ENCODER, photos, tmp_path / "whole", CONFIG).manifest.shards
    build_index(encoder, photos, tmp_path / "index", CONFIG)
    assert Interrupted.calls == 7


def test_an_interrupted_addition_leaves_the_index_and_goes_on(index: ProductIndex, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number in range(5):
        Image.new("RGB", (4, 4), (200, 50 * number, 0)).save(more / f"new_{number}.png")
    (more / "new_4.png").write_bytes(b"no image")
    with pytest.raises(E2FashionError, match=r"product 'new_4': .* cannot be read as an image"):
        add_products(index.path, ENCODER, more, CONFIG)
    assert ids(open_index(index.path, ENCODER), "red") == ids(index, "red")
    with pytest.raises(E2FashionError, match=r"an add of .* was interrupted \(3 of 5 products\): finish it"):
        remove_products(index.path, ["grey"])
    grown = add_products(index.path, ENCODER, more, replace(CONFIG, on_error="skip"))
    assert len(grown) == 11
    assert list(grown.manifest.skipped) == ["new_4"]
    assert grown.manifest.pending is None


def test_update_replaces_what_is_there(index: ProductIndex, photos: Path) -> None:
    Image.new("RGB", (12, 16), (255, 0, 0)).save(photos / "grey.png")
    updated = update_products(index.path, ENCODER, [photos / "grey.png"], CONFIG)
    assert len(updated) == 7
    assert ids(updated, "red", 1) == ["grey"]
    assert [len(shard.removed) for shard in updated.manifest.shards] == [0, 1, 0, 0]
    again = update_products(index.path, ENCODER, [photos / "grey.png"], CONFIG)
    assert again.manifest.shards == updated.manifest.shards, "the same image again changes nothing"
    Image.new("RGB", (13, 16), (254, 0, 0)).save(photos / "grey.png")
    again = update_products(index.path, ENCODER, [photos / "grey.png"], CONFIG)
    assert [shard.name for shard in again.manifest.shards] == ["00000", "00001", "00002", "00004"]
    assert not (index.path / "00003.safetensors").exists(), "a shard without a row left is let go"
    (photos / "grey.png").write_bytes(b"broken")
    kept = update_products(index.path, ENCODER, [photos / "red_1.png"], replace(CONFIG, on_error="skip"))
    assert len(kept) == 7
    with pytest.raises(E2FashionError, match="none of the 1 images can be read") as failure:
        build_index(ENCODER, [photos / "grey.png"], index.path.parent / "b", replace(CONFIG, on_error="skip"))
    assert "cannot be read as an image" in str(failure.value)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_added_and_removed_leaves_the_former_results(
    index: ProductIndex, photos: Path, data: st.DataObject
) -> None:
    """Also in the other order: removed first, then added again."""
    before = open_index(index.path, ENCODER)
    there = before.product_ids
    expected = before.search("red blue", top=10)
    chosen = data.draw(st.lists(st.sampled_from(sorted(there)), min_size=1, max_size=len(there) - 1, unique=True))
    smaller = remove_products(index.path, chosen)
    assert sorted(smaller.product_ids) == sorted(set(there) - set(chosen))
    grown = add_products(index.path, ENCODER, {name: photos / f"{name}.png" for name in chosen}, CONFIG)
    found = grown.search("red blue", top=10)
    assert [(hit.product_id, hit.score) for hit in found] == [(hit.product_id, hit.score) for hit in expected]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(3)))
def test_the_order_of_shards_does_not_matter(index: ProductIndex, photos: Path, order: list[int]) -> None:
    expected = index.search("red green", where=None, top=7)
    shuffled = replace(index.manifest, shards=[index.manifest.shards[number] for number in order])
    found = ProductIndex(index.path, shuffled, ENCODER).search("red green", top=7)
    assert [(hit.product_id, hit.score) for hit in found] == [(hit.product_id, hit.score) for hit in expected]


def test_equal_images_are_in_the_order_of_their_ids(photos: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        Image.new("RGB", (12, 16), (250, 5, 5)).save(photos / f"red_{name}.png")
    index = build_index(ENCODER, photos, tmp_path / "equal", CONFIG)
    assert ids(index, "red", 4) == ["red_1", "red_a", "red_b", "red_c"]


def test_an_index_of_another_model_is_refused_with_both_names(index: ProductIndex) -> None:
    other: Any = ColorEncoder(name="other", fingerprint="other-1")
    with pytest.raises(E2FashionError, match=r"was built with 'colors' \(colors-1, 4 wide.* not with 'other'"):
        open_index(index.path, other)
    with pytest.raises(E2FashionError, match="give the former, colors, or build an index with the latter"):
        add_products(index.path, other, index.path.parent / "photos")
    assert len(open_index(index.path)) == 7
    with pytest.raises(E2FashionError, match="was opened without an encoder"):
        open_index(index.path).search("red")


def test_an_encoder_that_compares_tokens_is_refused(photos: Path, tmp_path: Path, index: ProductIndex) -> None:
    filip: Any = ColorEncoder(compares_tokens=True)
    with pytest.raises(E2FashionError, match="'colors' compares tokens"):
        build_index(filip, photos, tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "products"])
def test_a_damaged_shard_is_named(index: ProductIndex, damage: str) -> None:
    file = index.path / ("00001.arrow" if damage == "products" else "00001.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[-1] ^= 255
        file.write_bytes(content[:-7] if damage in ("truncated", "products") else content)
    with pytest.raises(E2FashionError, match=r"00001\.(safetensors|arrow)"):
        open_index(index.path)
    if damage in ("truncated", "products"):
        with pytest.raises(E2FashionError, match=r"shard 00001 of .* cannot be read"):
            open_index(index.path, verify=False)


def test_a_damaged_or_newer_manifest(index: ProductIndex, tmp_path: Path) -> None:
    file = index.path / INDEX_FILE
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"format_version": 1', '"format_version": 2'), encoding="utf-8")
    with pytest.raises(E2FashionError, match="has index format 2; this e2fashion reads up to 1"):
        open_index(index.path)
    file.write_text(text[:100], encoding="utf-8")
    with pytest.raises(E2FashionError, match="is damaged"):
        open_index(index.path)
    for key, value in (("name", "../00000"), ("name", 0), ("removed", [10**6]), ("removed", [[0]]), ("rows", "8")):
        values = json.loads(text)
        values["shards"][0][key] = value
        file.write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(E2FashionError, match=r"index.json is damaged \(.*\)\. Build the index again"):
            open_index(index.path)
    with pytest.raises(E2FashionError, match="is no index: it does not exist"):
        open_index(tmp_path / "nothing")
    with pytest.raises(E2FashionError, match=f"it has no {INDEX_FILE}"):
        open_index(tmp_path)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "nothing to look for"),
        ({"text": "  "}, "text of the query is empty"),
        ({"text": "red", "weight": 1.5}, r"weight is 1\.5; give the text's share"),
        ({"text": "red", "top": 0}, "top is 0"),
        ({"text": "red", "where": {"brand": "Acme"}}, "no tag 'brand' to filter by: this index holds no tags"),
    ],
)
def test_queries_that_mean_nothing(index: ProductIndex, query: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        index.search(**query)


def test_a_list_of_queries(index: ProductIndex) -> None:
    with pytest.raises(E2FashionError, match=r"give a list of texts, as in \['red'\]"):
        index.retrieval("red")
    with pytest.raises(E2FashionError, match="text of the query is empty"):
        index.retrieval(["red", ""])


def test_unknown_tags_and_values_offer_the_nearest(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    index = build_index(encoder, synth_catalogue, tmp_path / "index", EmbedConfig(split=["test"]))
    brand = next(value for value in index.products["brand"].to_pylist() if value)
    with pytest.raises(E2FashionError, match="no tag 'brands' to filter by: choose from 'brand'"):
        index.search("coat", where={"brands": brand})
    with pytest.raises(E2FashionError, match=f"no product has brand '{brand.upper()}x': choose from .*'{brand}'"):
        index.search("coat", where={"brand": [brand, f"{brand.upper()}x"]})
    with pytest.raises(E2FashionError, match="filter on brand names no value"):
        index.search("coat", where={"brand": []})


def test_changes_that_make_no_sense(index: ProductIndex, photos: Path) -> None:
    with pytest.raises(E2FashionError, match=r"1 of 2 products are in .* already, the first is 'grey'"):
        add_products(index.path, ENCODER, {"grey": photos / "grey.png", "new": photos / "grey.png"})
    with pytest.raises(E2FashionError, match=r"not in .*, the first is 'gray' \(near it: 'grey'\)"):
        update_products(index.path, ENCODER, {"gray": photos / "grey.png"})
    with pytest.raises(E2FashionError, match=r"the first is 'red_3' \(near it: 'red_"):
        remove_products(index.path, ["red_1", "red_3"])
    with pytest.raises(E2FashionError, match="'red_1' is to be removed twice"):
        remove_products(index.path, ["red_1", "red_1"])
    with pytest.raises(E2FashionError, match="10000 of 10000 products are not in"):
        remove_products(index.path, [f"x{number}" for number in range(10_000)])
    with pytest.raises(E2FashionError, match="there are no ids to remove"):
        remove_products(index.path, [])
    with pytest.raises(E2FashionError, match="all 7 products would be removed"):
        remove_products(index.path, index.product_ids)
    assert open_index(index.path).product_ids == index.product_ids


CHANGES: dict[str, Callable[[Path, Path], ProductIndex]] = {
    "add": lambda path, more: add_products(path, ENCODER, more, CONFIG),
    "update": lambda path, more: update_products(path, ENCODER, more.parent / "photos", CONFIG),
    "remove": lambda path, more: remove_products(path, ["red_1", "blue_2", "grey"]),
}


@pytest.mark.parametrize("verb", CHANGES)
def test_a_killed_change_can_be_repeated_whatever_moment_the_kill_comes_at(
    verb: str, index: ProductIndex, photos: Path, tmp_path: Path
) -> None:
    more, change, states = tmp_path / "more", CHANGES[verb], set()
    more.mkdir()
    for number in range(4):
        Image.new("RGB", (4, 4), (200, 50 * number, 0)).save(more / f"new_{number}.png")
    before = shutil.copytree(index.path, tmp_path / "before")
    change(shutil.copytree(before, tmp_path / "whole" / "index"), more)
    expected = list_files(tmp_path / "whole")
    folder = shutil.copytree(before, tmp_path / "killed" / "index")
    for _ in kills(lambda: change(folder, more), every=3):
        states.add(tuple(open_index(folder).product_ids))
        change(folder, more)
        assert list_files(folder.parent) == expected
        shutil.rmtree(folder.parent)
        shutil.copytree(before, folder)
    assert states == {tuple(index.product_ids), tuple(open_index(tmp_path / "whole" / "index").product_ids)}


def test_a_killed_build_can_be_repeated_whatever_moment_the_kill_comes_at(photos: Path, tmp_path: Path) -> None:
    def build() -> None:
        build_index(ENCODER, photos, tmp_path / "killed" / "index", CONFIG)

    build_index(ENCODER, photos, tmp_path / "whole" / "index", CONFIG)
    for _ in kills(build):
        build()
        assert list_files(tmp_path / "killed") == list_files(tmp_path / "whole")
        shutil.rmtree(tmp_path / "killed")


def test_the_last_change_is_not_made_again(
    index: ProductIndex, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = {"new": photos / "grey.png"}
    add_products(index.path, ENCODER, new, CONFIG)
    assert len(add_products(index.path, ENCODER, new, CONFIG)) == 8
    assert "the add of these 1 products was made already, nothing is changed" in caplog.text
    remove_products(index.path, ["new", "red_1"])
    assert len(remove_products(index.path, ["red_1", "new"])) == 6
    assert "these 2 products were removed already, nothing is changed" in caplog.text
    with pytest.raises(E2FashionError, match="1 of 1 products are not in"):
        remove_products(index.path, ["new"])
    assert len(add_products(index.path, ENCODER, new, CONFIG)) == 7
    with pytest.raises(E2FashionError, match="1 of 2 products are in"):
        add_products(index.path, ENCODER, new | {"other": photos / "grey.png"}, CONFIG)
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = new | {"new": tmp_path / "bad.png"}
    skip = replace(CONFIG, on_error="skip")
    for _ in range(2):
        assert len(update_products(index.path, ENCODER, bad, skip)) == 7
    with pytest.raises(E2FashionError, match="cannot be read as an image"):
        update_products(index.path, ENCODER, bad, CONFIG)


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
    with pytest.raises(E2FashionError, match=r"the image '.*gone.png' does not exist"):
        build_index(ENCODER, [photos / "gone.png"], tmp_path / "index")
    (photos / "long.txt").write_text("a" * 300, encoding="utf-8")  # longer than a file name can be
    with pytest.raises(E2FashionError, match=r"a{300}' does not exist or is no regular file"):
        build_index(ENCODER, photos / "long.txt", tmp_path / "index")
    (tmp_path / "empty").mkdir()
    with pytest.raises(E2FashionError, match="holds no images"):
        build_index(ENCODER, tmp_path / "empty", tmp_path / "index")
    with pytest.raises(E2FashionError, match="is no index and not empty"):
        build_index(ENCODER, [photos / "grey.png"], photos)
    with pytest.raises(E2FashionError, match="shard_rows is 0; give a number from 1"):
        EmbedConfig(shard_rows=0)


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
    assert {name: message.split(": ", 2)[1].split(",")[0] for name, message in index.manifest.skipped.items()} == {
        "pipe": "no regular file",
        "text": "unreadable image",
        "half": index.manifest.skipped["half"].split(": ", 2)[1].split(",")[0],
        "gone": "missing image",
    }
    assert "hunter2" not in str(index.manifest.skipped)
    listed = build_index(ENCODER, [photos / "grey.png", photos / "lost.png"], tmp_path / "listed", skip)
    assert (listed.product_ids, list(listed.manifest.skipped)) == (["grey"], ["lost"])
    with pytest.raises(E2FashionError, match=r"'.*gone\.webp' does not exist or is no regular file"):
        build_index(ENCODER, photos, tmp_path / "stop", CONFIG)
    assert not (tmp_path / "stop").exists()


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
