"""Where encoders look: true patches through the transform, what each method counts, records and tables."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_encoder import SETTINGS, build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image
from e2fashion.data.storage import decode_regions
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.encoder import Encoder
from e2fashion.evaluation import measure
from e2fashion.options import Inference
from e2fashion.records import RunIdentity, append_records, latest_records, read_records
from e2fashion.tables import to_markdown
from e2fashion.tasks.localization import measure as selection
from e2fashion.tasks.localization.attribution import SCORERS, Attribution
from e2fashion.tasks.localization.measure import (
    ALL_ENTITIES,
    ALL_REGIONS,
    METRICS,
    SMALL_REGIONS,
    measure_selection,
    region_batches,
    region_entities,
    selection_tables,
)
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.types import E2FashionError, Entity, ResultRecord

SMALL = Inference(batch_size=7)
TWO_BLOCKS = ["model.fusion_layers=[1,2]" if word.startswith("model.fusion_layers") else word for word in SETTINGS] + [
    "model.entities.season.tokens=1"
]
PLAIN = [word for word in SETTINGS if not word.startswith(("model.entities", "model.fusion_layers"))]


@pytest.fixture(scope="module")
def regional(synth_catalogue: Catalogue) -> Encoder:
    return replace(build_tiny_encoder(synth_catalogue, TWO_BLOCKS), name="regional")


@pytest.fixture(scope="module")
def plain(synth_catalogue: Catalogue) -> Encoder:
    return replace(build_tiny_encoder(synth_catalogue, PLAIN), name="plain")


@pytest.fixture(scope="module")
def records(regional: Encoder, synth_catalogue: Catalogue) -> list[ResultRecord]:
    run = RunIdentity("abc", "commit", 5)
    return measure_selection(regional, synth_catalogue, ["test"], config=SMALL, run=run, progress=False)


def value(records: list[ResultRecord], metric: str, entity: str, layer: int, regions: str = ALL_REGIONS) -> Any:
    (record,) = [
        r
        for r in records
        if (r.metric, r.extra["entity"], r.extra["layer"], r.extra["regions"]) == (metric, entity, layer, regions)
    ]
    return record


def slow_share(encoder: Encoder, catalogue: Catalogue, block: int, tokens: slice, column: str) -> tuple[float, float]:
    """Share and chance in percent, one product and one patch after the other, points instead of areas."""
    encoder.model.eval()
    shares, chances = [], []
    for sample in catalogue.samples("test"):
        if sample.view or not (boxes := (sample.regions or {}).get(column)):
            continue
        points = [(step + 0.5) / 20 for step in range(20)]
        covered = [
            sum(
                any(b.left < (x + px) / 4 < b.right and b.top < (y + py) / 4 < b.bottom for b in boxes)
                for px in points
                for py in points
            )
            for y in range(4)
            for x in range(4)
        ]
        true = {patch for patch, count in enumerate(covered) if count and count >= 0.5 * max(covered)}
        square = encoder.transform(decode_image(sample.image))[None]
        pixels = normalize(square, encoder.transform.mean, encoder.transform.std)
        with torch.no_grad():
            output: Any = encoder.model.get_image_features(pixels, output_selection_maps=True)
        picked = output.selected_patches[0, block, tokens].flatten().tolist()
        shares.append(sum(patch in true for patch in picked) / len(picked))
        chances.append(len(true) / 16)
    return 100 * sum(shares) / len(shares), 100 * sum(chances) / len(chances)


@pytest.mark.parametrize(("block", "layer"), [(0, 1), (1, 2)])
def test_the_share_of_a_block_equals_a_slow_count(
    regional: Encoder, synth_catalogue: Catalogue, records: list[ResultRecord], block: int, layer: int
) -> None:
    share, chance = slow_share(regional, synth_catalogue, block, slice(0, 2), "brand")
    found = value(records, "share", "brand", layer)
    # Points at a patch's half decide a patch now and then.
    assert found.value == pytest.approx(share, abs=6)
    assert found.extra["chance"] == pytest.approx(chance, abs=1.5)


def test_every_metric_is_there_for_every_block_and_entity(records: list[ResultRecord]) -> None:
    found = {(r.metric, r.extra["entity"], r.extra["layer"]) for r in records if r.extra["regions"] == ALL_REGIONS}
    entities = ("brand", "season", ALL_ENTITIES)
    assert found == {(metric, entity, layer) for metric in METRICS for entity in entities for layer in (1, 2)}
    for record in records:
        assert record.low is not None
        assert record.high is not None
        assert record.low - 1e-9 <= record.value <= record.high + 1e-9


def test_records_say_what_was_measured_how_and_on_what(records: list[ResultRecord], synth_catalogue: Catalogue) -> None:
    assert {(r.run, r.commit, r.seed, r.model, r.task, r.split) for r in records} == {
        ("abc", "commit", 5, "regional", "selection", "test")
    }
    assert {(r.extra["image_size"], r.extra["resize"], r.candidates) for r in records} == {(32, "squeeze", 16.0)}
    brand = value(records, "share", "brand", 1)
    unknown = sum(s.tags["brand"] is None for s in synth_catalogue.samples("test") if not s.view)
    assert (brand.extra["unknown"], brand.extra["cropped"]) == (unknown, 0)
    assert brand.queries + unknown == synth_catalogue.manifest.splits["test"]["products"]


def test_lift_is_share_over_chance(records: list[ResultRecord]) -> None:
    for regions in (ALL_REGIONS, SMALL_REGIONS):
        share, lift = (value(records, metric, "brand", 2, regions) for metric in ("share", "lift"))
        assert lift.value == pytest.approx(share.value / share.extra["chance"])
        assert share.extra["area"] < 15 or regions == ALL_REGIONS


def test_nothing_overwrites_another_measurement(records: list[ResultRecord], tmp_path: Path) -> None:
    assert latest_records(records) == records
    append_records(tmp_path / "r.jsonl", records)
    assert read_records(tmp_path / "r.jsonl") == records


def test_two_measurements_are_equal_and_batches_do_not_matter(
    regional: Encoder, synth_catalogue: Catalogue, records: list[ResultRecord]
) -> None:
    regional.model.train()  # noise belongs to training, whatever mode the model was left in
    again = measure_selection(
        regional,
        synth_catalogue,
        ["test"],
        run=RunIdentity("abc", "commit", 5),
        progress=False,
    )
    assert regional.model.training
    regional.model.eval()
    assert [r.value for r in again] == pytest.approx([r.value for r in records])


def test_a_method_that_knows_the_region_scores_one(
    regional: Encoder, synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,) = region_batches(synth_catalogue, "test", regional.entities, regional.transform, side=4)

    def oracle(*_: Any) -> list[Attribution]:
        return [Attribution(0, batch.coverage, tuple(batch.coverage[:, e].argmax(-1, keepdim=True) for e in range(2)))]

    monkeypatch.setitem(SCORERS, "tokens", replace(SCORERS["tokens"], attribute=oracle))
    found = measure_selection(regional, synth_catalogue, ["test"], progress=False)
    assert {round(r.value, 6) for r in found if r.metric in ("share", "pointing", "iou")} == {100.0}


def test_picks_of_no_patch_are_off_the_region_and_counted(
    regional: Encoder, synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,) = region_batches(synth_catalogue, "test", regional.entities, regional.transform, side=4)
    best = batch.coverage.argmax(-1)

    def half(*_: Any) -> list[Attribution]:
        return [Attribution(0, batch.coverage, tuple(F.pad(best[:, [e]], (0, 1), value=-1) for e in range(2)))]

    monkeypatch.setitem(SCORERS, "tokens", replace(SCORERS["tokens"], attribute=half))
    found = measure_selection(regional, synth_catalogue, ["test"], progress=False)
    assert {(round(r.value, 6), r.extra["null"]) for r in found if r.metric == "share"} == {(50.0, 50.0)}


def test_a_random_map_scores_chance(
    regional: Encoder, synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flat(encoder: Encoder, pixels: torch.Tensor, *_: Any) -> list[Attribution]:
        return [Attribution(0, torch.ones(len(pixels), 1, 16))]

    monkeypatch.setitem(SCORERS, "attention", replace(SCORERS["attention"], attribute=flat))
    found = measure_selection(regional, synth_catalogue, ["test"], ["attention"], SMALL, progress=False)
    for record in found:
        assert record.value == pytest.approx(record.extra["chance"])


def test_attention_and_occlusion_look_for_all_known_regions_of_a_plain_clip(
    plain: Encoder, synth_catalogue: Catalogue
) -> None:
    found = measure_selection(
        plain, synth_catalogue, ["test"], ["tokens", "attention", "occlusion"], SMALL, progress=False
    )
    assert {(r.protocol, r.extra["layer"]) for r in found} == {("attention", 2), ("occlusion", 0)}
    assert {r.extra["entity"] for r in found} == {*synth_catalogue.tag_columns, ALL_ENTITIES}
    assert latest_records(found) == found


def test_tokens_say_nothing_about_a_plain_clip(plain: Encoder, synth_catalogue: Catalogue) -> None:
    assert measure_selection(plain, synth_catalogue, ["test"], config=SMALL, progress=False) == []


def test_an_unknown_method_is_refused(plain: Encoder, synth_catalogue: Catalogue) -> None:
    with pytest.raises(
        E2FashionError, match="selection is 'atention'; choose among tokens, attention, rollout, occlusion"
    ):
        measure_selection(plain, synth_catalogue, ["test"], ["atention"])


def test_attention_of_a_siglip_is_refused_before_anything_is_measured(
    plain: Encoder, synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Encoder, "backbone", "siglip")
    monkeypatch.setattr("e2fashion.evaluation.measure_retrieval", None)
    for method in ("attention", "rollout"):
        settings = EvaluateConfig(model="plain", data="catalogue", selection=["occlusion", method])
        with pytest.raises(E2FashionError, match=f"selection is '{method}', but 'plain' is a SigLIP, .* choose occl"):
            measure(plain, synth_catalogue, settings, RunIdentity(), tmp_path, None, progress=False)


@pytest.mark.parametrize("at_random", ["model.selection=random", "model.entities.brand.fixed=true"])
def test_places_without_scores_are_counted_once(at_random: str, synth_catalogue: Catalogue) -> None:
    """However many heads of scores there are, attention chooses as many patches as there are such places."""
    found = []
    for heads in (1, 4):
        encoder = build_tiny_encoder(synth_catalogue, [*TWO_BLOCKS, at_random, f"model.score_heads={heads}"])
        records = measure_selection(encoder, synth_catalogue, ["test"], ["attention"], SMALL, progress=False)
        found.append([record for record in records if record.extra["entity"] == "brand"])
    assert found[0]
    assert found[0] == found[1]


def test_a_catalogue_without_regions_is_said_once(
    regional: Encoder, synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(selection, "has_regions", lambda *_: False)
    with caplog.at_level(logging.INFO, "e2fashion"):
        assert measure_selection(regional, synth_catalogue, ["val", "test"], progress=False) == []
    assert [message.count("has no regions") for message in caplog.messages] == [1]


def test_an_entity_that_the_catalogue_lacks_is_left_out_and_named(
    regional: Encoder, synth_catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    entities = [{"name": "maker", "column": "maker", "tokens": 2}, {"name": "season", "column": "season", "tokens": 1}]
    before = regional.vision_config.entities
    regional.vision_config.entities = entities
    try:
        with caplog.at_level(logging.INFO, "e2fashion"):
            found = measure_selection(regional, synth_catalogue, ["test"], config=SMALL, progress=False)
    finally:
        regional.vision_config.entities = before
    assert "no tags for maker" in caplog.text
    assert {r.extra["entity"] for r in found} == {"season", ALL_ENTITIES}


def test_regions_go_through_the_transform(synth_catalogue: Catalogue) -> None:
    entities = region_entities(synth_catalogue, "test")
    assert [entity.name for entity in entities] == list(synth_catalogue.tag_columns)
    (whole,) = region_batches(synth_catalogue, "test", entities, ImageTransform(32, "squeeze"), side=8)
    row = synth_catalogue.split("test")[0]
    for number, entity in enumerate(entities):
        boxes = decode_regions(row["regions"]).get(entity.column, ())
        assert bool(whole.known[0, number]) == bool(boxes)
        if len(boxes) == 1:
            assert float(whole.coverage[0, number].mean()) == pytest.approx(boxes[0].area)


def test_a_region_that_was_cropped_away_is_counted(synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageTransform, "map_box", lambda *_: None)
    (batch,) = region_batches(synth_catalogue, "test", [Entity("brand", "brand")], ImageTransform(32), side=4)
    assert not batch.known.any()
    assert int(batch.cropped.sum()) == sum(
        "brand" in (s.regions or {}) for s in synth_catalogue.samples("test") if not s.view
    )


def test_tables_show_the_numbers_of_the_records(records: list[ResultRecord], plain: Encoder) -> None:
    first, second = selection_tables(records)
    lift = value(records, "lift", "brand", 2, SMALL_REGIONS)
    assert f"{lift.value:.2f} [{lift.low:.2f}, {lift.high:.2f}]" in to_markdown(first)
    assert [row[0].text for row in first.rows] == ["regional: tokens, layer 1", "regional: tokens, layer 2"]
    share = value(records, "share", "season", 1)
    (row,) = [row for row in second.rows if (row[0].text, row[1].text) == ("regional: tokens, layer 1", "season")]
    assert [row[5].text, row[6].text] == [f"{share.value:.1f}", f"{share.extra['chance']:.1f}"]


def test_a_table_shows_what_a_missing_metric_leaves(records: list[ResultRecord]) -> None:
    rest = [record for record in records if record.metric not in ("share", "iou")]
    for row in selection_tables(rest)[1].rows:
        assert [row[place].text for place in (5, 6, 9, 10)] == ["n/a"] * 4


def test_seeds_are_averaged_and_settings_are_not(records: list[ResultRecord]) -> None:
    seeds = selection_tables([*records, *(replace(r, seed=6, run="other") for r in records)])
    assert len(seeds) == 2
    assert "± 0.00" in to_markdown(seeds[0])
    larger = [replace(r, extra={**r.extra, "image_size": 64}) for r in records]
    assert len(selection_tables([*records, *larger])) == 4
    assert selection_tables([]) == []
