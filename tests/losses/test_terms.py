"""Further terms of the loss: their weights, what they are given, and how a configuration names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.config import load_config
from e2fashion.losses.contrastive import ContrastiveLoss, WeightedTerm
from e2fashion.models import E2Output
from e2fashion.training import build
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import run_identity
from e2fashion.types import Batch, E2FashionError

WORDS = ["data=d", "model.entities={brand: {}}", "train.stages.main={epochs: 1, learning_rate: 0.1}"]


@dataclass
class Closeness:
    """How far images and texts are apart, to a power."""

    power: float = 2.0
    reads_regions: ClassVar[bool] = False

    def __call__(self, output: E2Output, batch: Batch) -> Tensor:
        assert output.region_embeds is None
        assert output.image_embeds is not None
        return (output.image_embeds - output.text_embeds).abs().pow(self.power).mean()


@dataclass
class Regional:
    """The mean of what the entities of products without a tag look like."""

    reads_regions: ClassVar[bool] = True

    def __call__(self, output: E2Output, batch: Batch) -> Tensor:
        assert output.region_embeds is not None
        return output.region_embeds[~batch.tag_present].mean()


@pytest.fixture(autouse=True)
def terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.LOSS_TERMS, "closeness", Closeness)
    monkeypatch.setitem(build.LOSS_TERMS, "regional", Regional)


def one_step() -> tuple[E2Output, Batch]:
    generator = torch.Generator().manual_seed(0)
    image, text = F.normalize(torch.randn(2, 4, 6, generator=generator), dim=-1)
    region, tag = F.normalize(torch.randn(2, 4, 1, 6, generator=generator), dim=-1)
    output = E2Output(
        image_embeds=image, text_embeds=text, region_embeds=region, tag_embeds=tag, logit_scale=torch.tensor(1.0)
    )
    empty, present = torch.zeros(4, 0, dtype=torch.int64), torch.tensor([[True], [True], [False], [True]])
    value = torch.arange(4)[:, None]
    return output, Batch(empty, empty, empty, empty, empty, value, present, value, value[:, 0])


def loss_of(*words: str) -> ContrastiveLoss:
    return build.build_loss(load_config(RunConfig, None, [*WORDS, *words]))


def test_terms_of_several_origins_are_added_by_weight() -> None:
    output, batch = one_step()
    plain = loss_of().of(output, batch)
    found = loss_of("loss.terms={closeness: {weight: 0.5, options: {power: 3}}, regional: {}}").of(output, batch)
    assert output.image_embeds is not None
    closeness = (output.image_embeds - output.text_embeds).abs().pow(3).mean()
    assert output.region_embeds is not None
    regional = output.region_embeds[2].mean()
    assert list(found.terms) == ["global", "region/brand", "closeness", "regional"]
    torch.testing.assert_close(found.total, plain.total + 0.5 * closeness + regional)
    torch.testing.assert_close(found.terms["closeness"], closeness)


def test_regions_are_read_where_a_term_says_so() -> None:
    assert not loss_of("loss.region_weight=0").reads_regions
    assert not loss_of("loss.region_weight=0", "loss.terms.closeness={}").reads_regions
    assert loss_of("loss.region_weight=0", "loss.terms.regional={}").reads_regions


def test_null_leaves_a_term_out_and_the_identity_of_runs_without_terms_alone() -> None:
    def identity(*words: str) -> str:
        return run_identity(load_config(RunConfig, None, [*WORDS, *words]), "f")

    assert loss_of("loss.terms.closeness=null").terms == {}
    assert identity() == identity("loss.terms={}") == identity("loss.terms.closeness=null")
    weights = {identity(f"loss.terms.closeness.weight={weight}") for weight in (1, 2)}
    assert len({identity(), *weights}) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("loss.terms.closenes={}", r"loss.terms names 'closenes', which is not a loss term. .* closeness, .*regional"),
        ("loss.terms.closeness.options.powr=3", r"loss term 'closeness' has no key 'powr'. Did you mean: 'power'\?"),
        ("loss.terms.closeness.options.power=much", r"loss term 'closeness', key 'power': .*'much'"),
    ],
)
def test_what_does_not_exist_is_named(words: str, said: str) -> None:
    with pytest.raises(E2FashionError, match=said):
        loss_of(words)


@pytest.mark.parametrize("name", ["global", "region/brand"])
def test_a_term_is_not_called_like_one_of_the_loss(name: str) -> None:
    with pytest.raises(E2FashionError, match=f"'{name}' has the name of a built-in term"):
        ContrastiveLoss(terms={name: WeightedTerm(Closeness())})
