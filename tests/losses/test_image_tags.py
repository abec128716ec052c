"""Tags and sets of tags, contrasted with the feature of the whole image."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from e2fashion.losses.contrastive import ContrastiveLoss, WeightedTerm
from e2fashion.losses.functional import info_nce
from e2fashion.losses.terms import ImageTags
from e2fashion.models import E2Output
from e2fashion.types import Batch, E2FashionError


def step(entities: int) -> tuple[E2Output, Batch]:
    """Five products, some of which share a tag or lack one."""
    generator = torch.Generator().manual_seed(0)
    image, text = F.normalize(torch.randn(2, 5, 6, generator=generator), dim=-1)
    tags = F.normalize(torch.randn(5, entities, 6, generator=generator), dim=-1)
    value = torch.tensor([[1, 4, 7], [1, 5, 0], [2, 5, 8], [3, 0, 9], [2, 4, 9]])[:, :entities]
    none = torch.zeros(5, 1, dtype=torch.long)
    batch = Batch(none, none, none, none, none, value, value != 0, value, none[:, 0])
    regions = torch.zeros(5, entities, 6)
    return E2Output(
        image_embeds=image,
        text_embeds=text,
        region_embeds=regions,
        tag_embeds=tags * (value != 0)[..., None],
        logit_scale=torch.tensor(1.0),
    ), batch


def test_it_is_the_regional_term_of_regions_that_are_the_image() -> None:
    output, batch = step(entities=3)
    assert output.image_embeds is not None
    expected = ContrastiveLoss(["a", "b", "c"], 1.0, "same_value")(
        output.image_embeds,
        output.text_embeds,
        torch.stack([output.image_embeds] * 3, 1),
        output.tag_embeds,
        batch.tag_present,
        batch.tag_value,
        output.logit_scale,
    )
    torch.testing.assert_close(ImageTags()(output, batch), expected.total)


def test_it_joins_the_sum_with_its_weight() -> None:
    output, batch = step(entities=2)
    plain = ContrastiveLoss(["a", "b"]).of(output, batch)
    joined = ContrastiveLoss(["a", "b"], terms={"image_tags": WeightedTerm(ImageTags(), 0.5)}).of(output, batch)
    torch.testing.assert_close(joined.total, plain.total + 0.5 * ImageTags()(output, batch))


def test_tags_further_in_the_batch_belong_to_texts() -> None:
    output, batch = step(entities=2)
    wider, further = step(entities=3)
    output.tag_embeds = wider.tag_embeds[:, :2]
    torch.testing.assert_close(ImageTags()(output, batch), ImageTags()(output, further))


def test_subsets_are_the_mean_of_all_sets_of_tags() -> None:
    output, batch = step(entities=3)
    assert output.image_embeds is not None
    assert output.tag_embeds is not None
    losses = []
    for chosen in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
        rows = [row for row in range(5) if all(batch.tag_present[row, entity] for entity in chosen)]
        if len(rows) < 2:
            continue
        values = [tuple(batch.tag_value[row, chosen].tolist()) for row in rows]
        text = torch.stack([F.normalize(sum(output.tag_embeds[row, e] for e in chosen), dim=0) for row in rows])
        groups = torch.tensor([values.index(value) for value in values])
        losses.append(info_nce(output.image_embeds[rows], text, output.logit_scale, value=groups))
    assert len(losses) == 7
    torch.testing.assert_close(ImageTags(subsets=True)(output, batch), torch.stack(losses).mean())


def test_one_entity_has_one_set() -> None:
    output, batch = step(entities=1)
    torch.testing.assert_close(ImageTags(subsets=True)(output, batch), ImageTags()(output, batch))


def test_the_order_of_entities_does_not_matter() -> None:
    output, batch = step(entities=3)
    expected = ImageTags(subsets=True)(output, batch)
    assert output.tag_embeds is not None
    output.tag_embeds = output.tag_embeds[:, [2, 0, 1]]
    batch.tag_present, batch.tag_value = batch.tag_present[:, [2, 0, 1]], batch.tag_value[:, [2, 0, 1]]
    torch.testing.assert_close(ImageTags(subsets=True)(output, batch), expected)


def test_too_many_entities_for_their_subsets_are_refused() -> None:
    output, batch = step(entities=1)
    assert output.tag_embeds is not None
    output.tag_embeds = output.tag_embeds.expand(-1, 9, -1)
    with pytest.raises(E2FashionError, match=r"9 entities have 511: name at most 8"):
        ImageTags(subsets=True)(output, batch)
