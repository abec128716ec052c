"""An index is built, kept in step with its source, searched and refused."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
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
from e2fashion.tasks.search import changes
from e2fashion.tasks.search import snapshot as snapshots
from e2fashion.tasks.search.build import add_products, build_index, compact, remove_products, sync_index
from e2fashion.tasks.search.changes import FRAGMENTS
from e2fashion.tasks.search.config import ContentConfig, EmbedConfig, IndexCompactConfig, SearchConfig
from e2fashion.tasks.search.index import ProductIndex, open_index, search
from e2fashion.tasks.search.places import INDEX_FILE, check_table
from e2fashion.tasks.search.tags import Conditions
from e2fashion.types import E2FashionError

CONFIG = EmbedConfig(commit_rows=3, batch_size=2)
ENCODER: Any = ColorEncoder()


class CountingEncoder(ColorEncoder):
    """Counts the images that it embeds."""

    images = 0

    def embed_squares(self, squares: torch.Tensor) -> torch.Tensor:
        type(self).images += len(squares)
        return super().embed_squares(squares)


@pytest.fixture
def index(photos: Path, tmp_path: Path) -> ProductIndex:
    """Seven products."""
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
    assert (hit.location, hit.source, hit.tags, hit.view) == (str(photos / "grey.png"), "", {}, 0)
    assert hit.image().size == (12, 16)
    (photos / "grey.png").unlink()
    with pytest.raises(E2FashionError, match=r"the image of product 'grey' is not at .* any more"):
        hit.image()


def test_an_index_describes_itself(index: ProductIndex) -> None:
    values = json.loads((index.path / INDEX_FILE).read_text(encoding="utf-8"))
    assert (values["format_version"], values["complete"], values["origin"]["kind"]) == (2, True, "files")
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
    assert len(index) == 7
    assert not list(index.path.glob(".*"))


def test_a_catalogue_brings_its_tags_and_all_views(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    config = EmbedConfig(split=["val", "test"], commit_rows=7, batch_size=5)
    index = build_index(encoder, synth_catalogue, tmp_path / "index", config)
    counts = synth_catalogue.manifest.splits
    assert len(index) == counts["val"]["products"] + counts["test"]["products"]
    assert len(index.snapshot().row_ids) == counts["val"]["images"] + counts["test"]["images"]
    row = synth_catalogue.split("val")[0]
    found = index.search(text=row["description"], where={"brand": row["brand"].upper()}, top=100, views="first")
    assert {hit.tags["brand"] for hit in found} == {row["brand"]}
    hit = next(hit for hit in found if hit.product_id == row["product_id"])
    assert (hit.description, hit.location, hit.source) == (row["description"], "val/0", str(synth_catalogue.path))
    torch.testing.assert_close(
        index.vector_of(row["product_id"]), encoder.embed_images(hit.image()), atol=2e-3, rtol=0, msg="first view"
    )
    missing = index.search("coat", where={"brand": None}, top=100)
    assert all("brand" not in hit.tags for hit in missing)


def test_texts_join_the_vectors_on_request(synth_catalogue: Catalogue, photos: Path, tmp_path: Path) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    config = ContentConfig(split=["test"], vector="image_text")
    index = build_index(encoder, synth_catalogue, tmp_path / "index", config)
    assert 0.0 <= index.facts.text_weight < 1.0
    with pytest.raises(E2FashionError, match="text_weight is 2; give the text's share, from 0 to 1"):
        ContentConfig(vector="image_text", text_weight=2)
    with pytest.raises(E2FashionError, match=r"text_weight is 0\.5, but vector=image has no text"):
        ContentConfig(text_weight=0.5)
    alone = build_index(encoder, synth_catalogue, tmp_path / "alone", replace(config, text_weight=1.0))
    row = synth_catalogue.split("test")[0]
    text = encoder.template.render(row, row["description"])
    torch.testing.assert_close(alone.vector_of(row["product_id"]), encoder.embed_texts(text), atol=2e-3, rtol=0)
    assert sync_index(alone.path, encoder, synth_catalogue, config).version == alone.version
    for other in (replace(config, text_weight=0.5), ContentConfig(split=["test"])):
        with pytest.raises(E2FashionError, match="was built with text_weight=1: choose another output"):
            build_index(encoder, synth_catalogue, alone.path, other)
    with pytest.raises(E2FashionError, match=r"text_weight cannot be chosen on .*, which has no val split: give it"):
        build_index(ENCODER, photos, tmp_path / "files", ContentConfig(vector="image_text"))


@pytest.mark.slow
def test_images_are_decoded_by_other_processes(photos: Path, tmp_path: Path, index: ProductIndex) -> None:
    again = build_index(ENCODER, photos, tmp_path / "again", replace(CONFIG, workers=1))
    assert again.facts.origin == index.facts.origin


def test_an_interrupted_build_goes_on_behind_what_was_written(photos: Path, tmp_path: Path) -> None:
    class Interrupted(CountingEncoder):
        def embed_squares(self, squares: torch.Tensor) -> torch.Tensor:
            if type(self).images == 5:
                type(self).images += 1
                raise KeyboardInterrupt
            return super().embed_squares(squares)

    encoder: Any = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        build_index(encoder, photos, tmp_path / "index", CONFIG)
    with pytest.raises(E2FashionError, match="is unfinished: go on by repeating the command"):
        open_index(tmp_path / "index")
    with pytest.raises(E2FashionError, match="holds an index of other products"):
        build_index(encoder, [photos / "grey.png"], tmp_path / "index", CONFIG)
    shutil.copytree(tmp_path / "index", tmp_path / "synced")
    assert len(sync_index(tmp_path / "synced", ENCODER, photos, CONFIG)) == 7
    index = build_index(encoder, photos, tmp_path / "index", CONFIG)
    assert Interrupted.images == 6 + 4, "what was written is not embedded again"
    whole = build_index(ENCODER, photos, tmp_path / "whole", CONFIG)
    assert index.snapshot().content == whole.snapshot().content
    build_index(encoder, photos, tmp_path / "index", CONFIG)
    assert Interrupted.images == 10


def test_sync_makes_an_index_equal_to_its_source(index: ProductIndex, photos: Path) -> None:
    encoder: Any = CountingEncoder()
    version = index.version
    assert sync_index(index.path, encoder, photos, CONFIG).version == version, "nothing changed, nothing is written"
    Image.new("RGB", (12, 16), (255, 0, 0)).save(photos / "grey.png")
    Image.new("RGB", (12, 16), (0, 0, 200)).save(photos / "new.png")
    (photos / "blue_2.png").unlink()
    synced = sync_index(index.path, encoder, photos, CONFIG)
    assert sorted(synced.product_ids) == sorted(file.stem for file in photos.iterdir())
    assert ids(synced, "red", 1) == ["grey"]
    assert CountingEncoder.images == 2
    assert sync_index(index.path, encoder, photos, CONFIG).version == synced.version
    assert synced.snapshot().content == build_index(ENCODER, photos, index.path.parent / "b").snapshot().content


def test_an_open_index_sees_what_others_change(index: ProductIndex, photos: Path) -> None:
    reader = open_index(index.path, ENCODER)
    former = reader.snapshot()
    assert ids(reader, "red", 1) == ["red_1"]
    remove_products(index.path, ["red_1"])
    assert ids(reader, "red", 1) == ["red_2"]
    assert not reader.reload()
    add_products(index.path, ENCODER, {"red_1": photos / "red_1.png"})
    assert reader.reload()
    compact(IndexCompactConfig(str(index.path)))
    assert len(former.hits([0, 1], [1.0, 0.5])) == 2, "a version that is held stays readable"
    shutil.rmtree(index.path)
    with pytest.raises(E2FashionError, match=r"the index .* cannot be read .*Build the index again"):
        reader.search("red")


def test_add_refuses_what_differs_and_skips_what_is_there(index: ProductIndex, photos: Path) -> None:
    more = {"grey": photos / "grey.png", "new": photos / "blue_1.png"}
    assert len(add_products(index.path, ENCODER, more, CONFIG)) == 8
    version = open_index(index.path).version
    assert add_products(index.path, ENCODER, more, CONFIG).version == version
    Image.new("RGB", (12, 16), (255, 0, 0)).save(photos / "grey.png")
    with pytest.raises(E2FashionError, match=r"1 products are in .* already and differ, the first is 'grey': replace="):
        add_products(index.path, ENCODER, more, CONFIG)
    replaced = add_products(index.path, ENCODER, more, CONFIG, replace=True)
    assert (len(replaced), ids(replaced, "red", 1)) == (8, ["grey"])


def test_remove_says_what_is_not_there(index: ProductIndex, caplog: pytest.LogCaptureFixture) -> None:
    assert len(remove_products(index.path, ["red_1", "red_3", "red_1"])) == 6
    assert "1 of 2 products are not in" in caplog.text
    assert "the first is 'red_3': did you mean 'red_2'" in caplog.text
    assert len(remove_products(index.path, [f"x{number}" for number in range(5_000)])) == 6
    with pytest.raises(E2FashionError, match="there are no ids to remove"):
        remove_products(index.path, [])
    empty = remove_products(index.path, open_index(index.path).product_ids)
    assert (len(empty), open_index(index.path, ENCODER).search("red")) == (0, [])


def test_many_changes_leave_few_files(index: ProductIndex, photos: Path) -> None:
    for number in range(FRAGMENTS + 2):
        add_products(index.path, ENCODER, {f"new_{number}": photos / "grey.png"}, CONFIG, progress=False)
    assert open_index(index.path).snapshot().table.stats()["fragment_stats"]["num_fragments"] <= FRAGMENTS


def test_old_versions_are_removed_also_where_no_fragments_join(
    index: ProductIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "OLD_VERSIONS", 5)
    versions = index.path / "products.lance" / "_versions"
    for product in ("red_1", "red_2", "green_1", "green_2", "blue_1"):
        remove_products(index.path, [product])
    assert len(list(versions.glob("*.manifest"))) > 8, "a reader may use them"
    monkeypatch.setattr(changes, "KEPT_VERSIONS", timedelta(microseconds=1))
    index = remove_products(index.path, ["blue_2"])
    assert index.product_ids == ["grey"]
    assert len(list(versions.glob("*.manifest"))) <= 2
    assert not check_table(index.path)


def test_inverted_lists_find_what_exact_search_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shades").mkdir()
    for number in range(300):
        color = (number % 256, 255 - number % 200, 3 * number % 256)
        Image.new("RGB", (8, 8), color).save(tmp_path / "shades" / f"shade_{number}.png")
    index = build_index(ENCODER, tmp_path / "shades", tmp_path / "index")
    with pytest.raises(E2FashionError, match="approximate search needs views=best, and inverted lists"):
        index.search("red", engine="approximate")
    described = compact(IndexCompactConfig(str(index.path), lists=True)).facts.approximation
    assert described is not None
    assert (described.queries, described.of) == (200, "vectors of images")
    assert described.recall > 0.9
    expected, found = (index.search("red blue", top=3, engine=engine) for engine in ("exact", "approximate"))  # type: ignore[arg-type]
    assert [hit.product_id for hit in found] == [hit.product_id for hit in expected]
    assert not index.snapshot().is_approximate()
    monkeypatch.setattr(snapshots, "APPROXIMATE_ROWS", 100)
    assert index.snapshot().is_approximate()
    result = search(SearchConfig(text="red", top=2), index)
    assert result.method.startswith("approximate: finds ")
    with pytest.raises(E2FashionError, match="engine is 'fast'; choose auto, exact or approximate"):
        index.search("red", engine="fast")  # type: ignore[arg-type]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_removed_and_added_again_leaves_the_former_results(
    index: ProductIndex, photos: Path, data: st.DataObject
) -> None:
    before = open_index(index.path, ENCODER)
    expected = before.search("red blue", top=10)
    chosen = data.draw(st.lists(st.sampled_from(sorted(before.product_ids)), min_size=1, max_size=6, unique=True))
    remove_products(index.path, chosen)
    grown = add_products(index.path, ENCODER, {name: photos / f"{name}.png" for name in chosen}, CONFIG)
    found = grown.search("red blue", top=10)
    assert [(hit.product_id, hit.score) for hit in found] == [(hit.product_id, hit.score) for hit in expected]


def test_equal_images_are_in_the_order_of_their_ids(photos: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        Image.new("RGB", (12, 16), (250, 5, 5)).save(photos / f"red_{name}.png")
    index = build_index(ENCODER, photos, tmp_path / "equal", CONFIG)
    assert ids(index, "red", 4) == ["red_1", "red_a", "red_b", "red_c"]


def test_a_folder_of_a_product_holds_its_views(tmp_path: Path) -> None:
    for name, *colors in (("mixed", (255, 0, 0), (0, 0, 255)), ("plain", (200, 40, 40), (200, 40, 40))):
        (tmp_path / "shop" / name).mkdir(parents=True)
        for view, color in enumerate(colors):
            Image.new("RGB", (8, 8), color).save(tmp_path / "shop" / name / f"{view}.png")
    by_folder = replace(CONFIG, product="folder")
    index = build_index(ENCODER, tmp_path / "shop", tmp_path / "index", by_folder)
    assert (index.product_ids, len(index.snapshot().row_ids)) == (["mixed", "plain"], 4)
    found = {views: index.search("blue", top=2, views=views) for views in ("best", "mean", "first")}
    assert [(hit.product_id, hit.view) for hit in found["best"]] == [("mixed", 1), ("plain", 0)]
    assert [hit.product_id for hit in index.search("red", top=1, views="mean")] == ["plain"]
    assert found["best"][0].score > found["mean"][0].score > found["first"][0].score
    with pytest.raises(E2FashionError, match="views is 'all'; choose best, mean or first"):
        index.search("blue", views="all")  # type: ignore[arg-type]
    (tmp_path / "shop" / "mixed" / "1.png").unlink()
    assert len(sync_index(index.path, ENCODER, tmp_path / "shop", CONFIG).snapshot().row_ids) == 3
    Image.new("RGB", (8, 8)).save(tmp_path / "shop" / "loose.png")
    with pytest.raises(E2FashionError, match=r"loose.png' is in no folder of a product"):
        sync_index(index.path, ENCODER, tmp_path / "shop", by_folder)


def test_an_index_of_another_model_is_refused_with_both_names(
    index: ProductIndex, photos: Path, tmp_path: Path
) -> None:
    other: Any = ColorEncoder(name="other", fingerprint="other-1")
    with pytest.raises(E2FashionError, match=r"was built with 'colors' \(colors-1, 4 wide.* not with 'other'"):
        open_index(index.path, other)
    for change in (add_products, sync_index):
        with pytest.raises(E2FashionError, match="give the former, colors, or build an index with the latter"):
            change(index.path, other, photos)
    with pytest.raises(E2FashionError, match="was opened without an encoder"):
        open_index(index.path).search("red")
    with pytest.raises(E2FashionError, match="queries of width 5 for an index of width 4"):
        index.nearest(torch.ones(1, 5))
    filip: Any = ColorEncoder(compares_tokens=True)
    with pytest.raises(E2FashionError, match="'colors' compares tokens"):
        build_index(filip, photos, tmp_path / "tokens")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "nothing to look for"),
        ({"text": "  "}, "text of the query is empty"),
        ({"text": "red", "weight": 1.5}, r"weight is 1\.5; give the text's share"),
        ({"text": "red", "top": 0}, "top is 0"),
        ({"text": "red", "where": {"brand": "Acme"}}, "no tag 'brand' to filter by: the index has none"),
        ({"text": "red", "where": Conditions(filter="price <")}, "'.*price <.*' is no condition in SQL"),
        ({"text": "red", "where": Conditions(filter="view = 0; view = 1")}, "give one condition in SQL"),
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
