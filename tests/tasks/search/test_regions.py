"""An index of images and regions is searched by the regional score; queries without tags have the global one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stub_encoder import ColorEncoder
from tiny_encoder import SETTINGS, build_tiny_encoder

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.search.build import build_index, compact, sync_index
from e2fashion.tasks.search.config import (
    ContentConfig,
    IndexCompactConfig,
    IndexEvaluateConfig,
    RecommendConfig,
    SearchConfig,
)
from e2fashion.tasks.search.index import ProductIndex, open_index, search
from e2fashion.tasks.search.measure import measure_search, search_tables
from e2fashion.tasks.search.recommend import recommend
from e2fashion.tasks.search.tags import tags_in
from e2fashion.tasks.serving.backend import Backend
from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.work import Work
from e2fashion.types import E2FashionError

WEIGHT = 1.5
CONFIG = ContentConfig(split=["val", "test"], similarity="global+regions", region_weight=WEIGHT)
TWO_ENTITIES = (*SETTINGS, "model.entities.season.tokens=1")


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue, TWO_ENTITIES)


@pytest.fixture(scope="module")
def index(synth_catalogue: Catalogue, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> ProductIndex:
    folder = tmp_path_factory.mktemp("regions")
    encoder.save_pretrained(folder / "mine" / "model")
    return build_index(encoder, synth_catalogue, folder / "index", CONFIG, str(folder / "mine"), progress=False)


def tag_of(index: ProductIndex, entity: str) -> str:
    return next(value for value in index.snapshot().column(entity) if value)


def written_out(index: ProductIndex, text: str, tags: dict[str, str], weight: float) -> dict[tuple[str, int], float]:
    """The score of every image: cos(image, text) + weight * mean over the tags of cos(region, tag)."""
    snapshot, encoder = index.snapshot(), index.checked_encoder()
    parts = snapshot.vectors.double().view(len(snapshot.vectors), 3, -1)
    scores = parts[:, 0] @ encoder.embed_texts(text)[0].double()
    for entity, value in tags.items():
        cosine = parts[:, 1 + index.facts.regions.index(entity)] @ encoder.embed_tags(value)[0].double()
        scores = scores + weight / len(tags) * cosine
    products = [snapshot.product_ids[number] for number in snapshot.product_of.tolist()]
    return dict(zip(zip(products, snapshot.views.tolist(), strict=True), scores.tolist(), strict=True))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.sampled_from(["a coat", "red dress", "wool"]),
    tags=st.dictionaries(st.sampled_from(["brand", "season"]), st.sampled_from(["Brisk", "Winter", "x y"]), max_size=2),
    weight=st.none() | st.floats(0, 4),
)
def test_the_score_is_the_written_out_sum(
    index: ProductIndex, text: str, tags: dict[str, str], weight: float | None
) -> None:
    hits = index.search(text, tags=tags, region_weight=weight, top=1000)
    expected = written_out(index, text, tags, WEIGHT if weight is None else weight)
    assert len(hits) == len(index)
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.product_id, hit.view], abs=1e-6)
        assert hit.score >= max(score for (product, _), score in expected.items() if product == hit.product_id) - 1e-6


def test_vectors_are_images_and_regions(index: ProductIndex, encoder: Encoder, synth_catalogue: Catalogue) -> None:
    assert (index.facts.regions, index.facts.region_weight, index.facts.width) == (["brand", "season"], WEIGHT, 3 * 16)
    hit = index.search("a coat", top=1, views="first")[0]
    image, regions = encoder.embed_images_and_regions(hit.image())
    snapshot = index.snapshot()
    stored = snapshot.vectors[snapshot.firsts[snapshot.product(hit.product_id)]].float().view(3, 16)
    torch.testing.assert_close(stored, torch.cat([image, regions[0]]), atol=2e-3, rtol=0)
    torch.testing.assert_close(snapshot.gallery("mean")[0].view(-1, 3, 16).norm(dim=-1), torch.ones(len(index), 3))
    synced = sync_index(index.path, encoder, synth_catalogue, CONFIG, progress=False)
    assert (synced.version, synced.facts.regions) == (index.version, index.facts.regions)


def test_texts_join_the_image_and_not_the_regions(synth_catalogue: Catalogue, encoder: Encoder, tmp_path: Path) -> None:
    config = replace(CONFIG, split=["test"], vector="image_text", text_weight=1.0)
    index = build_index(encoder, synth_catalogue, tmp_path / "index", config, progress=False)
    row = synth_catalogue.split("test")[0]
    text = encoder.embed_texts(encoder.template.render(row, row["description"]))
    torch.testing.assert_close(index.vector_of(row["product_id"]), text, atol=2e-3, rtol=0)


def test_a_plain_text_states_the_tags_that_it_names(index: ProductIndex) -> None:
    brand = tag_of(index, "brand")
    text = f"a coat by  {brand.upper()}, please"
    assert index.stated_tags(text) == {"brand": brand}
    assert index.search(text) == index.search(text, tags={"brand": brand})
    assert index.search(text) != index.search(text, region_weight=0.0)
    assert index.retrieval([text, "a coat"], top=3) == [
        [hit.product_id for hit in index.search(each, top=3)] for each in (text, "a coat")
    ]
    found = search(SearchConfig(text=text, where={"brand": brand}, top=3), index)
    assert found.tags == {"brand": brand}
    assert found.hits == index.search(text, where={"brand": brand}, top=3)


@pytest.mark.parametrize("text", ["a coat", "zebra"])
def test_a_text_is_read_for_tags_once(index: ProductIndex, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(text: str, values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        read.append(text)
        return tags_in(text, values)

    monkeypatch.setattr("e2fashion.tasks.search.index.tags_in", counted)
    found = search(SearchConfig(text=text, top=3), index)
    assert (read, found.tags) == ([text], {})
    assert found.hits == index.search(text, top=3)


def test_without_tags_the_score_is_global(index: ProductIndex) -> None:
    hits = index.search("zebra", top=1000)
    expected = written_out(index, "zebra", {}, 0.0)
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.product_id, hit.view] for hit in hits], abs=1e-6)
    image = hits[0].image()
    assert index.search(image=image, top=1)[0].score == pytest.approx(1.0, abs=2e-3)
    by_tag = index.search(image=image, tags={"brand": "Brisk"}, top=1)[0]
    assert by_tag.score != pytest.approx(1.0, abs=2e-3)
    path = recommend(RecommendConfig(product=hits[0].product_id, text="a red coat", support=3), index)
    assert all(-1.0 <= item.hit.score <= 1.0 and item.similarity <= 1.0 for item in path.hits)


def test_inverted_lists_hold_regions(index: ProductIndex) -> None:
    compact(IndexCompactConfig(str(index.path), lists=True))
    brand = {"brand": tag_of(index, "brand")}
    exact, lists = (index.search("a coat", tags=brand, top=3, engine=each) for each in ("exact", "approximate"))  # type: ignore[arg-type]
    assert [(hit.product_id, hit.score) for hit in lists] == [(hit.product_id, hit.score) for hit in exact]


def test_it_is_measured_as_it_is_searched(index: ProductIndex) -> None:
    records = measure_search(index, IndexEvaluateConfig(columns=["brand"], min_products=2, resamples=5))
    assert {record.extra["region_score_weight"] for record in records} == {WEIGHT}
    values = [value for value in index.snapshot().column("brand") if value]
    asked = sorted(value for value in set(values) if values.count(value) >= 2)
    firsts = [index.search(value, top=1, views="first")[0].tags.get("brand") for value in asked]
    expected = 100 * sum(first == value for first, value in zip(firsts, asked, strict=True)) / len(asked)
    assert next(record.value for record in records if record.metric == "P@1") == pytest.approx(expected)
    records += measure_search(index, IndexEvaluateConfig(region_weight=0.0, resamples=5))
    captions = [table.caption for table in search_tables(records)]
    assert ["(weight 1.5)" in caption for caption in captions] == [True, True, True, False, False]
    assert "under the regional score (weight 0)" in captions[-1]


def test_the_service_and_the_command_search_alike(index: ProductIndex, capsys: pytest.CaptureFixture[str]) -> None:
    brand = tag_of(index, "brand")
    backend = Backend(index.checked_encoder(), index, None, ServeConfig(model="tiny"))
    options = {"weight": 0.5, "where": {}, "top": 3, "thumbnail": 0}
    works = [
        Work("search", (f"a {brand} coat",), {**options, "tags": {}, "region_weight": None}),
        Work("search", ("a coat",), {**options, "tags": {"brand": "Brisk"}, "region_weight": 0.5}),
        Work("search", ("a coat",), {**options, "tags": {"colour": "red"}, "region_weight": None}),
    ]
    read, given_, wrong = backend.answer(works)
    expected = (
        index.search(f"a {brand} coat", top=3),
        index.search("a coat", tags={"brand": "Brisk"}, region_weight=0.5, top=3),
    )
    for answer, hits, tags in zip((read, given_), expected, ({"brand": brand}, {"brand": "Brisk"}), strict=True):
        assert answer.result["tags"] == tags
        assert [hit["id"] for hit in answer.result["hits"]] == [hit.product_id for hit in hits]
        assert [hit["score"] for hit in answer.result["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    assert (wrong.status, "has no entity 'colour'" in str(wrong.error)) == (422, True)
    assert main(["search", str(index.path), "text=a coat", "tags.brand=Brisk", "tags.season=Winter", "top=2"]) == 0
    assert capsys.readouterr().out.startswith("'a coat' with brand Brisk, season Winter among ")
    assert main(["index", "describe", str(index.path)]) == 0
    assert "vectors of image and regions (brand, season), which weigh 1.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a PUMA shoe", {"brand": "Puma"}),
        ("pumas", {}),
        ("line 9 of Line #9,summer", {"brand": "Line #9", "season": "Summer"}),
        ("red bull racing", {"brand": "Red Bull"}),
        ("red,Puma", {"brand": "Puma", "colour": "red"}),
        ("Nike or Puma", {"brand": "Nike"}),
        ("early   SUMMER sale", {"season": "early summer"}),
        ("winter", {"brand": "Winter", "season": "winter"}),
        ("ÄRMEL'N.", {"brand": "Ärmel'n"}),
        ("", {}),
    ],
)
def test_tags_in_a_text(text: str, expected: dict[str, str]) -> None:
    known = {
        "brand": ["Puma", "Nike", "Line", "Line #9", "Red Bull", "Winter", "Ärmel'n", ""],
        "colour": ["red"],
        "season": ["Summer", "early summer", "winter"],
    }
    values = {entity: {name.casefold(): name for name in names} for entity, names in known.items()}
    assert tags_in(text, values) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"tags": {"brands": "x"}}, "has no entity 'brands': did you mean 'brand'\\?"),
        ({"tags": {"brand": " "}}, "tags.brand is ' '; give one tag as text"),
        ({"tags": {"brand": ["Puma", "Nike"]}}, r"tags.brand is \['Puma', 'Nike'\]; give one tag as text"),
        ({"tags": {"brand": None}}, "tags.brand is None; give one tag as text"),
        ({"region_weight": -1.0}, r"region_weight is -1\.0; give a number from 0"),
        ({"region_weight": float("nan")}, "region_weight is nan"),
    ],
)
def test_tags_that_mean_nothing(index: ProductIndex, query: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        index.search("a coat", **query)
    with pytest.raises(E2FashionError, match="queries of width 17 for an index of width 16"):
        index.nearest(torch.ones(1, 17))


def test_what_has_no_regions(
    index: ProductIndex, synth_catalogue: Catalogue, encoder: Encoder, photos: Path, tmp_path: Path
) -> None:
    colors: Any = ColorEncoder()
    plain = build_index(colors, photos, tmp_path / "plain", progress=False)
    for query in ({"tags": {"brand": "x"}}, {"region_weight": 1.0}):
        with pytest.raises(E2FashionError, match=r"needs regions, and the vectors of .* have none: build it with"):
            plain.search("red", **query)  # type: ignore[arg-type]
    clip = build_tiny_encoder(synth_catalogue, (*SETTINGS, "model.entities.brand=null", "model.fusion_layers=[]"))
    with pytest.raises(E2FashionError, match="'tiny' has no regions: build the index with similarity=global"):
        build_index(clip, photos, tmp_path / "index", CONFIG, progress=False)
    with pytest.raises(E2FashionError, match="'tiny' has no stored weight of the regional score: give region_weight="):
        build_index(encoder, photos, tmp_path / "index", replace(CONFIG, region_weight=None), progress=False)
    assert not (tmp_path / "index").exists()
    with pytest.raises(E2FashionError, match="was built with another similarity than global: choose another output"):
        build_index(
            encoder,
            synth_catalogue,
            index.path,
            replace(CONFIG, similarity="global", region_weight=None),
            progress=False,
        )
    with pytest.raises(E2FashionError, match=rf"was built with region_weight={WEIGHT:g}, not 3: choose another output"):
        build_index(encoder, synth_catalogue, index.path, replace(CONFIG, region_weight=3.0), progress=False)
    with pytest.raises(E2FashionError, match="region_weight is 1, but similarity=global compares no regions"):
        ContentConfig(region_weight=1.0)
    with pytest.raises(E2FashionError, match="region_weight is -1"):
        ContentConfig(region_weight=-1)
    assert open_index(index.path, encoder).facts.regions


def test_files_have_no_tags_to_read_but_may_be_asked_for_some(encoder: Encoder, photos: Path, tmp_path: Path) -> None:
    index = build_index(encoder, photos, tmp_path / "index", replace(CONFIG, split=["all"]), progress=False)
    assert index.stated_tags("a Brisk coat") == {}
    assert index.search("a coat", tags={"brand": "Brisk"}) != index.search("a coat")
