"""Texts with one wrong tag: what is changed and what is not, and the contrast with them one product at a time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.dataset import Item
from e2fashion.data.loader import TagSwap
from e2fashion.data.text import TextTemplate
from e2fashion.losses.terms import SwappedTags
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch, E2FashionError
from tests.losses.steps import module_and_batch

TEMPLATE = TextTemplate("{brand} . {season} . {description}")


def item(number: int, brand: str | None, season: str | None) -> Item:
    tags = {"brand": brand, "season": season}
    text, description = TEMPLATE.render_placed(tags, f"shirt {number}")
    return Item(torch.zeros(3, 4, 4), text, (), f"p{number}", description, tags)


ITEMS = [
    item(0, "Nike", "Summer"),
    item(1, "Puma", None),
    item(2, None, "Summer"),
    item(3, None, " "),
    item(4, "Asics", ""),
]


def test_one_tag_that_is_there_becomes_another_of_the_batch() -> None:
    swap = TagSwap(TEMPLATE)
    changed = swap(ITEMS)
    assert changed == swap(ITEMS)  # a function of the batch
    # One season in the batch: no other value; product 3 states nothing.
    assert [text is None for text in changed] == [False, False, True, True, False]
    brands = {"Nike", "Puma", "Asics"}
    seen: dict[int, set[str]] = {0: set(), 1: set(), 4: set()}
    for salt in range(30):
        for place, text in enumerate(swap([replace(product, product_id=f"p{salt}") for product in ITEMS])):
            if text is not None:
                seen[place].add(text[0])
                assert text[0][slice(*text[1] or ())] == f"shirt {place}"
    assert seen[0] == {f"{brand} . Summer . shirt 0" for brand in brands - {"Nike"}}
    assert seen[1] == {f"{brand} . shirt 1" for brand in brands - {"Puma"}}
    assert seen[4] == {f"{brand} . shirt 4" for brand in brands - {"Asics"}}


def module_of(catalogue: Catalogue, *overrides: str) -> tuple[ContrastiveModule, Batch]:
    return module_and_batch(catalogue, "model.entities={}", "loss.region_weight=0", *overrides)


def test_each_image_tells_its_text_from_the_swapped_one(synth_catalogue: Catalogue) -> None:
    module, batch = module_of(synth_catalogue, "loss.terms.swapped_tags.weight=0.5")
    plain, same = module_of(synth_catalogue)
    assert same.swapped_input_ids is None
    assert torch.equal(same.input_ids, batch.input_ids)
    result = module.compute_loss(batch)
    term = result.terms["swapped_tags"]
    assert torch.equal(result.terms["global"], plain.compute_loss(same).total)
    torch.testing.assert_close(result.total, result.terms["global"] + 0.5 * term)

    assert batch.swapped_input_ids is not None
    assert batch.swapped_attention_mask is not None
    assert batch.swapped_present is not None
    losses = []
    for place in range(len(batch)):
        both = []
        for ids, mask in (
            (batch.input_ids, batch.attention_mask),
            (batch.swapped_input_ids, batch.swapped_attention_mask),
        ):
            picture = batch.pixel_values[place][None]
            output = module.model(pixel_values=picture, input_ids=ids[place][None], attention_mask=mask[place][None])
            both.append(output.logits_per_image[0, 0])
        if batch.swapped_present[place]:
            assert both[0] != both[1]
            losses.append(-torch.stack(both).log_softmax(0)[0])
    assert 0 < len(losses) <= len(batch)
    torch.testing.assert_close(term, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)
    term.backward()
    model = module.model
    for weight in (model.visual_projection.weight, model.text_projection.weight, model.logit_scale):
        assert weight.grad is not None
        assert weight.grad.ne(0).any()


def test_without_any_swapped_text_the_term_is_zero(synth_catalogue: Catalogue) -> None:
    module, batch = module_of(synth_catalogue, "loss.terms.swapped_tags.weight=1")
    none = torch.zeros(len(batch), dtype=torch.bool)
    term = module.compute_loss(replace(batch, swapped_present=none)).terms["swapped_tags"]
    term.backward()
    assert term == 0
    gradient = module.model.text_projection.weight.grad
    assert gradient is not None
    assert not gradient.any()


def test_what_cannot_be_swapped_is_refused(synth_catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"'\{description\}' states none. Name a tag column.*swapped_tags=null"):
        module_of(synth_catalogue, "loss.terms.swapped_tags.weight=1", "text.template={description}")
    batch: Any = SimpleNamespace(swapped_input_ids=None, swapped_present=None)
    with pytest.raises(E2FashionError, match="give CatalogueDataModule swap_tags=True"):
        SwappedTags()(None, batch, None)
    batch = SimpleNamespace(swapped_input_ids=batch, swapped_present=batch)
    with pytest.raises(E2FashionError, match=r"but model.text_entities adds tags to them: remove one"):
        SwappedTags()(None, batch, SimpleNamespace(reads_tags=True))
