from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from raw_products import ListSource, picture, row

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.text import TextLength
from e2fashion.types import E2FashionError, TokenCounter


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Train: p1 in two views, p2 with p1's text, p3 with p1's first image; test: p4 with p1's text."""
    shared = "Red shirt, cotton"
    rows = [
        row(1, description=shared, split="train"),
        row(11, product_id="p1", view=1, description=shared, split="train"),
        row(2, description=shared.upper(), split="train", tags={"brand": None, "season": "Fall"}),
        row(3, image=picture(1), description="word " * 90, split="train"),
        row(4, description=shared, split="test"),
    ]
    return prepare_catalogue(ListSource(rows), tmp_path / "out", Preparation(val_fraction=0.0), progress=False)


def test_counts_of_a_split(catalogue: Catalogue) -> None:
    train = describe_catalogue(catalogue).splits["train"]
    assert (train.pairs, train.products, train.equal_texts, train.equal_images) == (4, 3, 2, 2)
    assert train.mean_words == pytest.approx((3 + 3 + 90) / 3)


def test_coverage_and_values_of_tags(catalogue: Catalogue) -> None:
    description = describe_catalogue(catalogue)
    train = description.splits["train"]
    assert train.coverage == {"brand": pytest.approx(2 / 3), "season": pytest.approx(1 / 3)}
    assert train.values == {"brand": 2, "season": 1}
    assert description.values == {"brand": 2, "season": 1}


def test_what_crosses_splits(catalogue: Catalogue) -> None:
    description = describe_catalogue(catalogue)
    assert (description.crossing_texts, description.crossing_images) == (1, 0)


def test_long_texts_are_a_lower_bound_without_a_tokenizer(catalogue: Catalogue) -> None:
    description = describe_catalogue(catalogue, TextLength(context_length=77))
    assert description.splits["train"].long_texts == 1
    assert "lower bound" in description.as_text()


def test_long_texts_by_a_tokenizer(catalogue: Catalogue) -> None:
    description = describe_catalogue(
        catalogue, counter=TokenCounter("models/mine", 77, lambda texts: [100] * len(texts))
    )
    train = description.splits["train"]
    assert (train.long_texts, train.long_sentences, train.longest_text) == (3, 3, 100)
    assert "tokens of models/mine, of '{description}'" in description.as_text()


def test_the_length_is_that_of_the_template_s_text(catalogue: Catalogue) -> None:
    seen: list[str] = []

    def lengths(texts: list[str]) -> list[int]:
        seen.extend(texts)
        return [len(text) for text in texts]

    config = TextLength(template="{season}: {description}")
    text = describe_catalogue(catalogue, config, TokenCounter("mine", 30, lengths)).as_text()
    assert "Fall: RED SHIRT, COTTON" in seen
    assert "of '{season}: {description}'" in text
    assert "texts over 30 tokens" in text


def test_what_cannot_be_counted(catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"context_length is 0; give a number of tokens from 1"):
        describe_catalogue(catalogue, TextLength(context_length=0))
    with pytest.raises(E2FashionError, match=r"'\{seson\}'.*Did you mean '\{season\}'"):
        describe_catalogue(catalogue, TextLength(template="{seson} {description}"))
    with pytest.raises(E2FashionError, match=r"tokenizer is 'mine', but no counter is given: pass .*token_counter"):
        describe_catalogue(catalogue, TextLength(tokenizer="mine"))


def test_the_text_is_a_table(catalogue: Catalogue) -> None:
    lines = describe_catalogue(catalogue).as_text().splitlines()
    assert lines[0].split() == ["train", "test"]
    assert lines[1].split() == ["pairs", "4", "1"]
    assert "brand: coverage, values" in lines[10]


def test_a_text_whose_first_sentence_fits_is_told_from_one_that_is_cut(tmp_path: Path) -> None:
    rows = [row(1, description="Red shirt. " + "word " * 90), row(2, description="word " * 90), row(3)]
    rows = [dataclasses.replace(item, split="train") for item in rows]
    catalogue = prepare_catalogue(ListSource(rows), tmp_path / "out", Preparation(val_fraction=0.0), progress=False)
    train = describe_catalogue(catalogue).splits["train"]
    assert (train.long_texts, train.long_sentences, train.longest_text) == (2, 1, 95)
