"""Reports: their numbers are those of the records, and their images those of the catalogue."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import SETTINGS, build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image
from e2fashion.disk import DamagedError
from e2fashion.encoder import Encoder
from e2fashion.records import append_records, read_records
from e2fashion.report import retrieved_rows, selection_rows, write_comparison, write_tables
from e2fashion.tasks.retrieval.measure import embed_catalogue, measure_retrieval
from e2fashion.training.samples import SHOWN
from e2fashion.types import E2FashionError, ResultRecord

NUMBER = re.compile(r"\d+\.\d")


@pytest.fixture(scope="module")
def regional(synth_catalogue: Catalogue) -> Encoder:
    return replace(build_tiny_encoder(synth_catalogue), name="regional")


@pytest.fixture(scope="module")
def plain(synth_catalogue: Catalogue) -> Encoder:
    off = [setting for setting in SETTINGS if not setting.startswith(("model.entities", "model.fusion_layers"))]
    return replace(build_tiny_encoder(synth_catalogue, off), name="plain")


@pytest.fixture(scope="module")
def records(regional: Encoder, plain: Encoder, synth_catalogue: Catalogue) -> list[ResultRecord]:
    return [
        record
        for encoder in (plain, regional)
        for record in measure_retrieval(encoder, synth_catalogue, "test", progress=False)
    ]


def test_the_numbers_of_a_table_are_those_of_the_records(records: list[ResultRecord]) -> None:
    by_text = [record for record in records if record.positives == "text"]
    (line,) = [line for line in write_tables(by_text).splitlines() if line.startswith("| regional |")]
    wanted = [
        next(r.value for r in by_text if (r.model, r.direction, r.metric) == ("regional", direction, metric))
        for direction, metric in (
            ("i2t", "R@1"),
            ("i2t", "R@5"),
            ("i2t", "R@10"),
            ("t2i", "R@1"),
            ("t2i", "R@5"),
            ("t2i", "R@10"),
            ("both", "SumR"),
        )
    ]
    assert [float(number) for number in NUMBER.findall(line)] == [round(value, 1) for value in wanted]


def test_what_was_measured_differently_is_never_averaged(records: list[ResultRecord]) -> None:
    other_data = [replace(record, data_fingerprint="f" * 64, value=record.value + 1) for record in records]
    other_size = [replace(record, extra={**record.extra, "image_size": 64}) for record in records]
    content = write_tables([*records, *other_data, *other_size])
    assert "±" not in content
    assert content.count("| regional |") == 2  # equal tables are written once
    assert content.count("catalogue ffffffffffff") == 2
    assert content.count("image_size 64") == 2


def test_equal_tables_of_two_notions_of_a_hit_are_written_once(records: list[ResultRecord]) -> None:
    content = write_tables(records)
    assert content.count("| regional |") == 1
    assert "a hit is the same product" in content
    assert "The same values hold for: Protocol `full` on test: " in content
    by_text = [replace(r, value=r.value + (r.positives == "text")) for r in records]
    assert write_tables(by_text).count("| regional |") == 2


def test_seeds_are_averaged(records: list[ResultRecord]) -> None:
    second = [replace(record, seed=1, run="other", config_hash="other") for record in records]
    assert "± 0.0" in write_tables([*records, *second])


def test_without_records_a_table_says_so(tmp_path: Path) -> None:
    write_tables([], tmp_path / "deep" / "table.md")
    assert (tmp_path / "deep" / "table.md").read_text(encoding="utf-8") == "No records that a table is made of.\n"


def test_the_best_image_of_a_query_has_the_highest_score(plain: Encoder, synth_catalogue: Catalogue) -> None:
    (row,) = retrieved_rows([plain], synth_catalogue, "test", 1, progress=False)
    embedded = embed_catalogue(plain, synth_catalogue, "test", progress=False)
    query = next(place for place in range(12) if plain_text(plain, synth_catalogue, place) == row.text)
    scores = embedded.image_embeds[embedded.first_images] @ embedded.text_embeds[embedded.first_texts][query]
    assert len(row.retrieved["plain"]) == SHOWN
    best = synth_catalogue.split("test")[int(scores.argmax()) * 2]["image"]
    shown = row.retrieved["plain"][0][0]
    assert np.array_equal(shown, plain.transform(decode_image(best)).permute(1, 2, 0).numpy())


def plain_text(encoder: Encoder, catalogue: Catalogue, product: int) -> str:
    row = catalogue.split("test")[product * 2]
    return encoder.template.render(row, row["description"])


def test_maps_are_probabilities_and_picks_are_patches(regional: Encoder, synth_catalogue: Catalogue) -> None:
    rows = selection_rows(regional, synth_catalogue, "test", 3)
    assert len(rows) == 3
    for row in rows:
        assert row.maps["brand"].sum() == pytest.approx(1.0, abs=1e-4)
        assert len(row.selected["brand"]) == 2
        assert set(row.selected["brand"]) <= set(range(16))
        assert (row.tags["brand"] is None) or row.boxes["brand"]


def test_the_attention_of_another_model_stands_beside(
    regional: Encoder, plain: Encoder, synth_catalogue: Catalogue
) -> None:
    for row in selection_rows(regional, synth_catalogue, "test", 3, reference=plain):
        assert row.reference is not None
        assert np.array_equal(row.reference.image, row.image)
        assert row.reference.selected == row.reference.heat.argsort()[::-1][:2].tolist()


def test_a_comparison_shows_figures_for_what_can_be_shown(
    records: list[ResultRecord], plain: Encoder, regional: Encoder, synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    write_comparison(report, records, [plain, regional], synth_catalogue, "test", 99, progress=False)
    content = report.read_text(encoding="utf-8")
    assert content.startswith("# plain against regional")
    figures = re.findall(r"\]\((figures/[^)]+)\)", content)
    assert figures == ["figures/retrieved.png", "figures/selected_regional.png"]
    assert all((tmp_path / figure).is_file() for figure in figures)
    assert "regional against plain:" in content
    assert "Difference to plain in percentage points" in content


def record_line(**extra: object) -> str:
    values = {"run": "r", "model": "m", "task": "tags", "metric": "accuracy", "value": 1.0, "split": "test"}
    return json.dumps(values | {"extra": extra}) + "\n"


TAG_EXTRA = {"entity": "brand", "features": "global", "target_accuracy": 90.0}


@pytest.mark.parametrize("lacking", TAG_EXTRA)
def test_a_stored_record_that_lacks_what_its_table_shows_is_named(lacking: str, tmp_path: Path) -> None:
    file, extra = tmp_path / "results.jsonl", dict(TAG_EXTRA)
    file.write_text(record_line(**extra))
    assert "brand" in write_tables(read_records(file))
    del extra[lacking]
    file.write_text("\n" + record_line(**extra))
    with pytest.raises(E2FashionError, match=rf"results\.jsonl line 2 lacks '{lacking}' in extra.*measure again"):
        write_tables(read_records(file))


@pytest.mark.parametrize(
    "extra",
    [{"target_accuracy": "x"}, {"entity": None}, {"features": ["global"]}, {"target_accuracy": float("inf")}],
    ids=str,
)
def test_a_stored_value_of_another_type_is_refused_when_it_is_read(extra: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(record_line(**(TAG_EXTRA | extra)))
    with pytest.raises(DamagedError, match=rf"line 1 is damaged \(extra\.{next(iter(extra))} is .*measure again"):
        read_records(file)


def test_an_error_of_a_table_is_not_taken_for_damage_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> list[str]:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("e2fashion.report.tag_tables", broken)
    with pytest.raises(KeyError, match="a mistake of ours"):
        write_tables([])


def test_what_measurements_write_is_of_the_declared_types(records: list[ResultRecord], tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    append_records(file, records)
    assert read_records(file) == records
