from __future__ import annotations

import pytest
import torch

from e2fashion.records import RecordContext
from e2fashion.tasks.retrieval.rankings import Ranking, bounded_groups, frequency_groups, length_groups, recall_by_group
from e2fashion.types import E2FashionError

CONTEXT = RecordContext(run="run", model="clip", split="val")


def ranking(ranks: list[int], product: list[int] | None = None) -> Ranking:
    places = torch.tensor(product if product is not None else list(range(len(ranks))))
    return Ranking("i2t", "text", torch.tensor(ranks), places, torch.full((len(ranks),), 50))


def test_ranges_have_names() -> None:
    name = bounded_groups([0, 1, 10])
    assert [name(number) for number in (0, 1, 9, 10, 99)] == ["0", "1-9", "1-9", "10+", "10+"]
    assert bounded_groups([5])(3) == "<5"


def test_bounds_must_increase() -> None:
    with pytest.raises(E2FashionError, match=r"bounds are \[3, 1\]"):
        bounded_groups([3, 1])


def test_brands_by_what_training_saw() -> None:
    training = ["Nike"] * 10 + ["Puma", None]
    assert frequency_groups(training, ["Nike", "Puma", "Fila", None], (0, 1, 10)) == ["10+", "1-9", "0", "unknown"]


def test_texts_by_their_words() -> None:
    assert length_groups(["a b", "a b c d e f"], (0, 5)) == ["0-4", "5+"]


def test_recall_of_each_group_and_their_mean_is_the_whole() -> None:
    records = recall_by_group([ranking([1, 2, 1, 1])], {"brand": ["0", "0", "10+", "10+"]}, CONTEXT, "full")
    result = {record.extra["group"]: record for record in records}
    assert {group: record.value for group, record in result.items()} == {"0": 50.0, "10+": 100.0}
    assert [record.extra["group"] for record in records] == ["0", "10+"]
    assert sum(record.value * record.queries for record in records) / 4 == 75.0
    assert (result["10+"].low, result["10+"].high) == (100.0, 100.0)
    assert result["0"].low == 0.0


def test_pictures_of_one_product_are_one_unit() -> None:
    record = recall_by_group([ranking([1, 1, 5, 5], [0, 0, 1, 1])], {"all": ["a", "a"]}, CONTEXT, "full")[0]
    assert (record.value, record.queries) == (50.0, 4)
    assert (record.low, record.high) == (0.0, 100.0)


def test_a_division_must_know_every_product() -> None:
    with pytest.raises(E2FashionError, match="'brand' groups 1 products, the ranking has 2"):
        recall_by_group([ranking([1, 1])], {"brand": ["0"]}, CONTEXT, "full")
