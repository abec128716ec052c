"""Texts and prompts of products, tables of captions, and the sheet of products."""

from dataclasses import replace
from pathlib import Path

import pytest

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.published import PublishedRow
from e2fashion.report import write_tables
from e2fashion.tables import to_markdown
from e2fashion.tasks.captioning.measure import ProductCaption, read_captions, save_captions
from e2fashion.tasks.captioning.memory import product_texts, training_tags
from e2fashion.tasks.captioning.tables import (
    caption_table,
    caption_tables,
    published_caption_rows,
    sheet_rows,
    write_sheet,
)
from e2fashion.types import E2FashionError, ResultRecord

DESCRIPTION = TextTemplate("{description}")


def record(metric: str, value: float, model: str = "E2", reading: str = "project", **extra: object) -> ResultRecord:
    given = {"caption_method": "DeCap", "caption_tokenizer": "ptb", "implementation": "pycocoevalcap 1.2"}
    given |= {"noise_variance": 0.0, **extra}
    return ResultRecord(
        run="a", model=model, task="captioning", metric=metric, value=value, split="test", protocol=reading,
        text="{description}", queries=10, extra=given,
    )  # fmt: skip


def test_products_have_texts_captions_and_prompts(synth_catalogue: Catalogue) -> None:
    text = TextTemplate("{brand} . {description}")
    products = product_texts(synth_catalogue, "test", DESCRIPTION, text, ["brand", "season"])
    assert len(products) == synth_catalogue.manifest.splits["test"]["products"]
    rows = {row["product_id"]: row for row in synth_catalogue.split("test") if row["view"] == 0}
    first = rows[products[0].product_id]
    assert products[0].captions[0] == first["description"]
    assert products[0].entries[0].text == f"{first['brand']} . {first['description']}"
    assert products[0].prompt == ", ".join(tag for tag in (first["brand"], first["season"]) if tag)
    with pytest.raises(E2FashionError, match="The prompt reads the column 'fit', which the catalogue"):
        product_texts(synth_catalogue, "test", DESCRIPTION, text, ["fit"])


def test_training_tags_are_distinct_and_sorted(synth_catalogue: Catalogue) -> None:
    (brands,) = training_tags(synth_catalogue, {"brand": "brand"}).values()
    assert brands == sorted({brand for brand in synth_catalogue.split("train")["brand"] if brand})


def test_saved_captions_are_read_again(tmp_path: Path) -> None:
    captions = [ProductCaption("1", ("a", "b"), "c", "Nike"), ProductCaption("2", ("ä",), "")]
    save_captions(tmp_path / "captions" / "x.jsonl", captions)
    assert read_captions(tmp_path / "captions" / "x.jsonl") == captions
    with pytest.raises(E2FashionError, match="there are no captions at"):
        read_captions(tmp_path / "y.jsonl")


def test_a_table_has_intervals_best_values_and_what_is_missing() -> None:
    records = [
        replace(record("CIDEr", 50.0), low=45.0, high=55.0),
        record("BLEU@4", 12.0),
        replace(record("CIDEr", 40.0, model="CLIP-FT"), low=35.0, high=45.0),
    ]
    values = {"BLEU@4": 16.9, "CIDEr": None}
    row = PublishedRow(("t",), "DeCap", "d", "captioning", "n/a", "s", values, title="Fashion-Gen")
    shown = to_markdown(caption_table(records, published_caption_rows([row])))
    assert "| DeCap (Fashion-Gen, published) |  |  |  |  | n/a | n/a | n/a | 16.9 | n/a | n/a | n/a |" in shown
    assert "| DeCap | E2 | project | 0 |  | n/a | n/a | n/a | 12.0 | n/a | n/a | **50.0 [45.0, 55.0]** |" in shown
    assert "N = 10 products; tokenizer `ptb`, pycocoevalcap 1.2; CIDEr is CIDEr-D" in shown
    assert "| DeCap | E2 | project | 0 |" in write_tables(records)


def test_seeds_are_averaged_and_settings_are_not() -> None:
    seeds = [record("CIDEr", 50.0), record("CIDEr", 54.0)]
    other = [record("CIDEr", 10.0, temperature=20.0), record("CIDEr", 11.0, beams=5)]
    shown = to_markdown(caption_table([*seeds, *other]))
    assert "**52.0 ± 2.8**" in shown
    assert "| project, temperature 20 |" in shown
    assert "| project, beams 5 |" in shown
    memories = [record("CIDEr", 1.0, memory_size=10), record("CIDEr", 2.0, memory_size=20)]
    assert "project, memory size 20" in to_markdown(caption_table(memories))


def test_tokenizers_and_catalogues_have_separate_tables() -> None:
    records = [record("CIDEr", 50.0), record("CIDEr", 60.0, caption_tokenizer="words")]
    records += [replace(records[0], data_fingerprint="other")]
    assert len(caption_tables(records)) == 3
    scored = record("CLIPScore", 70.0, clip_score_encoder="judge", caption_tokenizer="")
    (table,) = caption_tables([records[0], scored])
    assert table.header[-1] == "CLIPScore"
    assert table.caption.endswith("CLIPScore by judge.")
    assert caption_tables([]) == []


def test_a_sheet_shows_the_same_products_of_all(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    ids = list(dict.fromkeys(synth_catalogue.split("test")["product_id"]))
    captions = {
        name: [ProductCaption(product, (f"truth {product}",), f"{name} | made") for product in ids]
        for name in ("A", "B")
    }
    rows = sheet_rows(synth_catalogue, "test", captions, products=5)
    again = sheet_rows(synth_catalogue, "test", captions, products=5)
    assert [row.product_id for row in rows] == [row.product_id for row in again]
    assert len({row.product_id for row in rows}) == 5
    assert dict(rows[0].texts) == {"truth": f"truth {rows[0].product_id}", "A": "A | made", "B": "B | made"}
    files = write_sheet(rows, tmp_path / "sheet.md", "Captions", "A note.")
    content = files[0].read_text()
    assert f"| {rows[0].product_id} | truth {rows[0].product_id} | A \\| made | B \\| made |" in content
    assert files[1].stat().st_size > 10_000
    with pytest.raises(E2FashionError, match="must be of the same products"):
        sheet_rows(synth_catalogue, "test", {"A": captions["A"], "B": captions["B"][1:]})
    with pytest.raises(E2FashionError, match="no captions for a sheet"):
        sheet_rows(synth_catalogue, "test", {})
