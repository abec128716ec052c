"""Batches of one group: against a slow count of what a group fills, over epochs, ranks and interruptions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_catalogue import stub_catalogue

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.loader import EpochSampler, GroupedSampler
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError

TOKENIZER = train_tokenizer(["a shirt number 1 2 3"], kind="bpe", vocabulary=560)


def batches_of(sampler: EpochSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [[index for index, _ in batch] for batch in sampler]


@given(st.lists(st.sampled_from(["coat", "bag", "shoe", None]), min_size=1, max_size=60), st.integers(1, 7))
def test_every_product_once_and_as_many_whole_batches_as_its_group_fills(groups: list[Any], size: int) -> None:
    found = batches_of(GroupedSampler(groups, size))
    plain = batches_of(EpochSampler(len(groups), size))
    assert [len(batch) for batch in found] == [len(batch) for batch in plain]
    full = len(groups) // size
    # The batch that is not full, which may be left out, is that of an epoch without groups.
    assert found[full:] == plain[full:]
    used = sorted(index for batch in found[:full] for index in batch)
    assert used == sorted(index for batch in plain[:full] for index in batch)
    pure = Counter(groups[batch[0]] for batch in found[:full] if len({groups[index] for index in batch}) == 1)
    for group, count in Counter(groups[index] for index in used).items():
        assert pure[group] >= count // size


def test_order_comes_from_seed_and_epoch() -> None:
    groups = ["coat"] * 20 + ["bag"] * 7
    first = batches_of(GroupedSampler(groups, 4, seed=1, drop_last=True), 2)
    assert batches_of(GroupedSampler(groups, 4, seed=1, drop_last=True), 2) == first
    assert batches_of(GroupedSampler(groups, 4, seed=2, drop_last=True), 2) != first
    assert batches_of(GroupedSampler(groups, 4, seed=1, drop_last=True), 3) != first
    kinds = [groups[batch[0]] for batch in first]
    assert kinds != sorted(kinds) != kinds[::-1]  # groups take turns


def test_ranks_together_have_one_group_and_the_batches_of_one_process() -> None:
    groups = [number % 3 for number in range(50)]
    one = batches_of(GroupedSampler(groups, 8, drop_last=True))
    left, right = (batches_of(GroupedSampler(groups, 4, rank=rank, world_size=2, drop_last=True)) for rank in (0, 1))
    assert [a + b for a, b in zip(left, right, strict=True)] == one


def test_a_resumed_epoch_goes_on_and_a_share_keeps_its_products() -> None:
    groups = [number % 3 for number in range(50)]
    sampler = GroupedSampler(groups, 4, seed=1, drop_last=True)
    whole = batches_of(sampler, 3)
    sampler.start_batch = 5
    assert batches_of(sampler, 3) == whole[5:]
    used = {i for batch in batches_of(GroupedSampler(groups, 4, seed=1, share=0.4)) for i in batch}
    assert len(used) == 20


def test_the_loader_groups_by_a_column_with_missing_tags() -> None:
    data = CatalogueDataModule(stub_catalogue(), TOKENIZER, batch_size=3, group_by="season")  # type: ignore[arg-type]
    loader = data.train_dataloader()
    assert isinstance(loader.epoch_sampler, GroupedSampler)
    assert loader.epoch_sampler.groups == [None if product % 3 == 2 else "Summer" for product in range(12)]
    assert not isinstance(data.val_dataloader().epoch_sampler, GroupedSampler)


def test_a_column_that_is_not_there_is_refused(synth_catalogue: Catalogue) -> None:
    words = [f"data={synth_catalogue.path}", "train.stages.main={epochs: 1, learning_rate: 0.1}"]
    config = load_config(RunConfig, None, [*words, "loader.group_by=kind"])
    with pytest.raises(E2FashionError, match=r"loader.group_by is 'kind'.*Its tag columns: .*brand.*group_by=null"):
        check_run(config, synth_catalogue)
    config = load_config(RunConfig, None, [*words, "loader.group_by=brand", f"stream=[{synth_catalogue.path}]"])
    with pytest.raises(E2FashionError, match=r"stream is read in its order: set loader.group_by=null"):
        check_run(config, synth_catalogue)
