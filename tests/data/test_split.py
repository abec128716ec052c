from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2fashion.data.split import SplitKeys, assign_splits, connected_components, decide_splits
from e2fashion.types import E2FashionError, Split

FRACTIONS: dict[Split, float] = {"val": 0.1, "test": 0.1}


def keys(product: int, text: int, image: int, group: int | None = None) -> SplitKeys:
    return SplitKeys(f"p{product}", None if group is None else f"g{group}", bytes([text]), bytes([image]))


small = st.integers(0, 12)
tables = st.lists(st.builds(keys, small, small, small, st.none() | small), min_size=1, max_size=40)


def single(count: int) -> list[SplitKeys]:
    """Rows that nothing ties together."""
    return [SplitKeys(f"p{number}", None, b"t%d" % number, b"i%d" % number) for number in range(count)]


@given(rows=tables, seed=st.integers(0, 5))
def test_nothing_that_two_rows_share_crosses_splits(rows: list[SplitKeys], seed: int) -> None:
    splits = assign_splits(rows, seed, FRACTIONS).splits
    for field in ("product_id", "group", "text", "image"):
        seen: dict[object, str] = {}
        for row, split in zip(rows, splits, strict=True):
            value = getattr(row, field)
            if value is not None:
                assert seen.setdefault(value, split) == split


@given(rows=tables, seed=st.integers(0, 5), shuffle=st.integers())
def test_the_order_of_the_rows_does_not_matter(rows: list[SplitKeys], seed: int, shuffle: int) -> None:
    order = list(range(len(rows)))
    random.Random(shuffle).shuffle(order)
    splits = assign_splits(rows, seed, FRACTIONS).splits
    shuffled = assign_splits([rows[index] for index in order], seed, FRACTIONS).splits
    assert shuffled == [splits[index] for index in order]


@given(rows=tables, seed=st.integers(0, 5))
def test_three_components_fill_three_splits(rows: list[SplitKeys], seed: int) -> None:
    components = len(set(connected_components(rows)))
    assert len(set(assign_splits(rows, seed, FRACTIONS).splits)) == min(components, 3)


@given(rows=tables)
def test_components_equal_a_slow_closure(rows: list[SplitKeys]) -> None:
    def tied(first: SplitKeys, second: SplitKeys) -> bool:
        return (
            first.product_id == second.product_id
            or first.text == second.text
            or first.image == second.image
            or (first.group is not None and first.group == second.group)
        )

    labels = list(range(len(rows)))
    changed = True
    while changed:
        changed = False
        for i in range(len(rows)):
            for j in range(len(rows)):
                if tied(rows[i], rows[j]) and labels[i] > labels[j]:
                    labels[i] = labels[j]
                    changed = True
    result = connected_components(rows)
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (result[i] == result[j]) == (labels[i] == labels[j])


def test_shares_are_met_when_nothing_is_tied() -> None:
    counts = Counter(assign_splits(single(1000), 0, {"val": 0.1, "test": 0.2}).splits)
    assert counts == {"train": 700, "val": 100, "test": 200}


def test_seed_changes_the_splits() -> None:
    rows = single(100)
    assert assign_splits(rows, 0, FRACTIONS).splits != assign_splits(rows, 1, FRACTIONS).splits


def test_a_component_larger_than_a_split_stays_in_train_and_is_reported() -> None:
    rows = [*single(50), *[keys(200 + number, 1, number) for number in range(50)]]
    assignment = assign_splits(rows, 0, FRACTIONS)
    assert set(assignment.splits[50:]) == {"train"}
    assert "has 50 of 100 rows (smallest product id p200)" in assignment.notes[0]


def test_too_few_components_are_reported() -> None:
    assert "Split 'test' is empty" in assign_splits(single(2), 0, FRACTIONS).notes[-1]


@pytest.mark.parametrize("fractions", [{"val": 0.5, "test": 0.5}, {"val": -0.1, "test": 0.1}])
def test_impossible_fractions(fractions: dict[Split, float]) -> None:
    with pytest.raises(E2FashionError, match=r"val_fraction=.*leave room for train"):
        assign_splits(single(3), 0, fractions)


def test_given_splits_are_kept() -> None:
    given: list[Split | None] = ["test", "val", "train"]
    assert decide_splits(single(3), given, 0, FRACTIONS).splits == given


def test_val_is_carved_out_of_train_where_it_is_missing() -> None:
    given: list[Split | None] = ["train"] * 80 + ["test"] * 20
    assignment = decide_splits(single(100), given, 0, FRACTIONS)
    assert Counter(assignment.splits) == {"train": 72, "val": 8, "test": 20}
    assert assignment.splits[80:] == ["test"] * 20
    assert "val carved out of train" in assignment.rule


def test_some_rows_without_a_split() -> None:
    with pytest.raises(E2FashionError, match=r"'split' is empty for product p1 \(one of 1 such rows\)"):
        decide_splits(single(3), ["train", None, "test"], 0, FRACTIONS)
