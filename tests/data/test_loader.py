import functools
import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2fashion.data.dataset import Item
from e2fashion.data.loader import Collator, EpochSampler
from e2fashion.data.text import stable_id
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.types import E2FashionError

TEXTS = ["a red cotton shirt", "blue jeans", "a red cotton shirt", "a very long text " * 20]
TAGS: list[tuple[str | None, ...]] = [("Nike", "Summer"), (None, "Winter"), ("Adidas", "Summer"), (None, None)]
TOKENIZER = train_tokenizer([*TEXTS, "Nike Adidas Summer Winter"], kind="bpe", vocabulary=600)


def items(tags: list[tuple[str | None, ...]] = TAGS) -> list[Item]:
    return [
        Item(torch.full((3, 4, 4), place, dtype=torch.uint8), text, tags[place], f"p{place}")
        for place, text in enumerate(TEXTS)
    ]


def collator(entities: int = 2) -> Collator:
    return Collator(TOKENIZER, context_length=16, entities=entities)


def test_texts_are_what_the_tokenizer_gives() -> None:
    expected = TOKENIZER(TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt")
    batch = collator()(items())
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])


def test_texts_are_padded_to_the_longest_of_the_batch_only() -> None:
    batch = collator()(items()[1:2])
    assert batch.input_ids.shape == (1, len(TOKENIZER("blue jeans")["input_ids"]))
    assert batch.attention_mask.all()


def test_distinct_tags_stand_once_in_order_of_appearance() -> None:
    batch = collator()(items())
    expected = TOKENIZER(["Nike", "Summer", "Winter", "Adidas"], padding=True, return_tensors="pt")
    assert torch.equal(batch.tag_input_ids, expected["input_ids"])
    assert torch.equal(batch.tag_attention_mask, expected["attention_mask"])
    assert batch.tag_index.tolist() == [[0, 1], [0, 2], [3, 1], [0, 0]]
    assert batch.tag_present.tolist() == [[True, True], [False, True], [True, True], [False, False]]


def test_tag_values_identify_the_tag_and_are_zero_where_absent() -> None:
    values = collator()(items()).tag_value
    assert values.tolist()[0] == [stable_id("Nike"), stable_id("Summer")]
    assert values[0, 1] == values[2, 1]
    assert values[3].tolist() == [0, 0]


def test_text_group_tells_equal_texts() -> None:
    group = collator()(items()).text_group
    assert group[0] == group[2]
    assert len(set(group.tolist())) == 3


def test_pictures_and_products_keep_their_order() -> None:
    batch = collator()(items())
    assert batch.pixel_values.shape == (4, 3, 4, 4)
    assert batch.pixel_values.dtype == torch.uint8
    assert batch.pixel_values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert batch.product_ids == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize(("tags", "entities"), [([(None, None)] * 4, 2), ([()] * 4, 0)])
def test_no_tag_at_all_is_an_empty_table(tags: list[tuple[str | None, ...]], entities: int) -> None:
    batch = collator(entities)(items(tags))
    assert batch.tag_input_ids.shape == batch.tag_attention_mask.shape == (0, 1)
    assert batch.tag_index.shape == batch.tag_present.shape == batch.tag_value.shape == (4, entities)
    assert not batch.tag_present.any()


def test_each_text_is_tokenised_once() -> None:
    calls: list[str] = []

    def count(texts: list[str], **options: object) -> object:
        calls.extend(texts)
        return TOKENIZER(texts, **options)

    collate = collator()
    collate.fit.tokenizer = type(
        "Counting", (), {"__call__": staticmethod(count), "pad_token_id": TOKENIZER.pad_token_id}
    )()
    first, second = collate(items()), collate(items())
    assert len(calls) == len(set(calls)) == 7
    assert torch.equal(first.input_ids, second.input_ids)


def test_long_text_keeps_its_end_token() -> None:
    ids = collator()(items()).input_ids[3]
    assert len(ids) == 16
    assert ids[-1] == TOKENIZER.eos_token_id


def test_tokenizer_without_pad_token_is_an_error() -> None:
    tokenizer = train_tokenizer(TEXTS, kind="word")
    tokenizer.pad_token = None
    with pytest.raises(E2FashionError, match="no pad token"):
        Collator(tokenizer, 16, 0)


def test_context_length_without_room_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="context_length is 2"):
        Collator(TOKENIZER, 2, 0)


def seen(sampler: EpochSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [[index for index, _ in batch] for batch in sampler]


def test_every_index_once() -> None:
    assert sorted(functools.reduce(operator.iadd, seen(EpochSampler(103, 10)), [])) == list(range(103))


def test_every_index_comes_with_its_epoch() -> None:
    sampler = EpochSampler(8, 4)
    sampler.set_epoch(5)
    assert {epoch for batch in sampler for _, epoch in batch} == {5}


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = seen(EpochSampler(50, 7, seed=1), epoch=2)
    assert seen(EpochSampler(50, 7, seed=1), epoch=2) == first
    assert seen(EpochSampler(50, 7, seed=2), epoch=2) != first
    assert seen(EpochSampler(50, 7, seed=1), epoch=3) != first


def test_order_stays_the_same_over_versions() -> None:
    assert seen(EpochSampler(6, 6, seed=3), epoch=1) == [[2, 5, 3, 1, 0, 4]]


@pytest.mark.parametrize("shuffle", [True, False])
def test_shares_are_the_same_in_all_epochs_and_nested(shuffle: bool) -> None:
    def used(share: float, epoch: int = 0) -> set[int]:
        batches = seen(EpochSampler(50, 7, seed=1, shuffle=shuffle, share=share), epoch)
        return set(functools.reduce(operator.iadd, batches, []))

    assert len(used(0.2)) == 10
    assert used(0.2) == used(0.2, epoch=1) < used(0.4)
    assert used(1.0) == set(range(50))
    assert len(used(0.001)) == 1


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(E2FashionError, match=f"loader.train_share is {share}; give a number above 0 and up to 1"):
        EpochSampler(50, 7, share=share)


def test_unshuffled_order_is_that_of_the_catalogue() -> None:
    assert seen(EpochSampler(5, 2, shuffle=False), epoch=4) == [[0, 1], [2, 3], [4]]


def test_start_batch_skips_and_the_length_stays() -> None:
    sampler = EpochSampler(20, 3, seed=1)
    whole = seen(sampler, epoch=2)
    sampler.start_batch = 4
    assert seen(sampler, epoch=2) == whole[4:]
    assert len(sampler) == len(whole)


def test_another_epoch_starts_at_its_beginning() -> None:
    sampler = EpochSampler(20, 3)
    sampler.start_batch = 4
    sampler.set_epoch(1)
    assert sampler.start_batch == 0


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.booleans(), st.booleans())
def test_length_is_the_number_of_batches(
    length: int, batch_size: int, world_size: int, drop_last: bool, even: bool
) -> None:
    for rank in range(world_size):
        sampler = EpochSampler(length, batch_size, rank=rank, world_size=world_size, drop_last=drop_last, even=even)
        batches = seen(sampler)
        assert len(batches) == len(sampler)
        assert all(batches)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_ranks_have_equal_batches_and_cover_everything(
    length: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    ranks = [
        seen(EpochSampler(length, batch_size, rank=rank, world_size=world_size, drop_last=drop_last))
        for rank in range(world_size)
    ]
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1
    covered = {index for batches in ranks for batch in batches for index in batch}
    if not drop_last or length < batch_size * world_size:
        assert covered == set(range(length))
    else:
        assert len(covered) == length - length % (batch_size * world_size)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5))
def test_uneven_ranks_count_nothing_twice(length: int, batch_size: int, world_size: int) -> None:
    ranks = [
        seen(EpochSampler(length, batch_size, rank=rank, world_size=world_size, even=False))
        for rank in range(world_size)
    ]
    assert sorted(index for batches in ranks for batch in batches for index in batch) == list(range(length))


def test_ranks_together_see_the_batches_of_one_process() -> None:
    one = seen(EpochSampler(50, 8, drop_last=True))
    left, right = (seen(EpochSampler(50, 4, rank=rank, world_size=2, drop_last=True)) for rank in (0, 1))
    assert [a + b for a, b in zip(left, right, strict=True)] == one


def test_a_set_smaller_than_a_batch_is_kept() -> None:
    assert len(seen(EpochSampler(5, 64, drop_last=True))[0]) == 5


def test_an_empty_set_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="nothing to load"):
        EpochSampler(0, 4)


def test_batch_size_zero_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="batch_size is 0"):
        EpochSampler(4, 0)


def test_rank_outside_the_world_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="rank is 2; give a number from 0 to world_size - 1 = 1"):
        EpochSampler(4, 1, rank=2, world_size=2)
