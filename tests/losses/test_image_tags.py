"""Tags contrasted with images: equal to the regional term of an entity whose region is the image."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from e2fashion.losses import ContrastiveLoss, ImageTags, WeightedTerm
from e2fashion.models import E2Output
from e2fashion.types import Batch


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
