"""Embedding a split: normalized, each distinct text once, views numbered, the model left as it was."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD, normalize
from e2fashion.embedding import EmbeddedSplit, embed_split
from e2fashion.types import Batch, E2FashionError


class Model(nn.Module):
    """CLIP's two methods on a image's mean color and a text's sum of ids; counts the texts that it reads."""

    def __init__(self, as_output: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
        self.as_output = as_output
        self.texts = 0
        self.modes: list[bool] = []

    def _wrap(self, features: Tensor) -> Any:
        return SimpleNamespace(pooler_output=features) if self.as_output else features

    def get_image_features(self, pixel_values: Tensor) -> Any:
        self.modes.append(self.training)
        return self._wrap(pixel_values.mean((-1, -2)) @ self.weight)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        self.texts += len(input_ids)
        return self._wrap(
            (input_ids * attention_mask).sum(1, keepdim=True).cos() * self.weight.sum(0) + 0.1 * self.weight[0]
        )


def batch_of(products: list[str], texts: list[int], pixels: Tensor | None = None) -> Batch:
    number = len(products)
    ids = torch.tensor([[text, 1] for text in texts])
    none = torch.zeros(number, 0, dtype=torch.int64)
    if pixels is None:
        generator = torch.Generator().manual_seed(number)
        pixels = torch.randint(0, 256, (number, 3, 2, 2), generator=generator, dtype=torch.uint8)
    return Batch(
        pixel_values=pixels,
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        tag_input_ids=torch.zeros(0, 1, dtype=torch.int64),
        tag_attention_mask=torch.zeros(0, 1, dtype=torch.int64),
        tag_index=none,
        tag_present=none.bool(),
        tag_value=none,
        text_group=torch.tensor([1000 + text for text in texts]),
        product_ids=products,
    )


BATCHES = [batch_of(["a", "a", "b"], [5, 5, 7]), batch_of(["b", "c", "c"], [8, 5, 5])]


def test_rows_say_whose_they_are() -> None:
    result = embed_split(Model(), BATCHES, categories={"a": "shirt", "c": None})
    assert result.product_ids == ("a", "b", "c")
    assert result.categories == ("shirt", None, None)
    assert result.image_product.tolist() == [0, 0, 1, 1, 2, 2]
    assert result.image_view.tolist() == [0, 1, 0, 1, 0, 1]
    assert result.text_product.tolist() == [0, 1, 1, 2]
    assert result.text_group.tolist() == [1005, 1007, 1008, 1005]


def test_first_rows_are_the_first_view_and_text() -> None:
    result = embed_split(Model(), BATCHES)
    assert result.first_images.tolist() == [0, 2, 4]
    assert result.first_texts.tolist() == [0, 1, 3]


def test_every_distinct_text_is_read_once_and_shared() -> None:
    model = Model()
    result = embed_split(model, BATCHES)
    assert model.texts == 3
    assert torch.equal(result.text_embeds[0], result.text_embeds[3])


def test_equals_embedding_row_by_row() -> None:
    model = Model()
    result = embed_split(model, BATCHES)
    pixels = torch.cat([batch.pixel_values for batch in BATCHES])
    expected = F.normalize(model.get_image_features(normalize(pixels, CLIP_MEAN, CLIP_STD)).pooler_output, dim=-1)
    assert torch.allclose(result.image_embeds, expected, atol=1e-6)
    assert torch.allclose(result.text_embeds.norm(dim=1), torch.ones(4), atol=1e-6)


def test_float_pixels_are_taken_as_they_are() -> None:
    pixels = torch.randn(2, 3, 2, 2)
    model = Model()
    result = embed_split(model, [batch_of(["a", "b"], [1, 2], pixels)])
    assert torch.allclose(result.image_embeds, F.normalize(pixels.mean((-1, -2)) @ model.weight, dim=-1), atol=1e-6)


def test_old_and_new_return_values_are_read() -> None:
    new, old = embed_split(Model(), BATCHES), embed_split(Model(as_output=False), BATCHES)
    assert torch.equal(new.image_embeds, old.image_embeds)


def test_twice_is_bit_equal_and_the_model_keeps_its_mode() -> None:
    model = Model().train()
    first, second = embed_split(model, BATCHES), embed_split(model, BATCHES)
    assert torch.equal(first.image_embeds, second.image_embeds)
    assert model.training
    assert not any(model.modes)


def test_embeddings_are_fp32_whatever_the_precision() -> None:
    result = embed_split(Model(), BATCHES, precision="bf16")
    assert result.image_embeds.dtype == result.text_embeds.dtype == torch.float32


def test_nothing_to_embed_is_refused() -> None:
    with pytest.raises(E2FashionError, match="there is nothing to embed"):
        embed_split(Model(), [])


def test_a_product_without_image_is_named() -> None:
    split = EmbeddedSplit(
        image_embeds=torch.eye(2)[:1],
        text_embeds=torch.eye(2),
        image_product=torch.tensor([0]),
        text_product=torch.tensor([0, 1]),
        image_view=torch.tensor([0]),
        text_group=torch.tensor([0, 1]),
        product_ids=("a", "b"),
        categories=(None, None),
    )
    with pytest.raises(E2FashionError, match="1 products have no image embedding, the first is 'b'"):
        _ = split.first_images


class Regional(Model):
    """Two regions per image, the image's feature and its negative."""

    def get_image_features(self, pixel_values: Tensor) -> Any:
        output = super().get_image_features(pixel_values)
        output.region_features = torch.stack([output.pooler_output, -output.pooler_output], 1)
        return output


def tagged(batch: Batch, tags: list[list[int]]) -> Batch:
    """The batch with a tag per product and entity, its token id; 0: absent."""
    value = torch.tensor(tags)
    distinct, index = value.unique(return_inverse=True)
    ids = torch.stack([distinct, torch.ones_like(distinct)], 1)
    return replace(
        batch,
        tag_input_ids=ids,
        tag_attention_mask=torch.ones_like(ids),
        tag_index=index,
        tag_present=value != 0,
        tag_value=value,
    )


TAGGED = [tagged(batch_of(["a", "b"], [5, 7]), [[21, 31], [21, 0]]), tagged(batch_of(["c"], [5]), [[0, 0]])]


def test_stated_tags_are_embedded_once_and_absent_ones_are_zero() -> None:
    model = Regional()
    split = embed_split(model, TAGGED, stated=(True, True))
    assert split.tag_embeds is not None
    assert split.region_embeds is not None
    assert split.tag_embeds.ne(0).any(-1).tolist() == [[True, True], [True, False], [False, False]]
    assert torch.equal(split.tag_embeds[0, 0], split.tag_embeds[1, 0])
    torch.testing.assert_close(split.region_embeds[:, 0], split.image_embeds)
    assert model.texts == 2 + 2  # the texts 5 and 7, the tags 21 and 31
    assert torch.equal(split.text_embeds, embed_split(Model(), TAGGED).text_embeds)


def test_tags_that_texts_do_not_state_are_hidden() -> None:
    split = embed_split(Regional(), TAGGED, stated=(True, False))
    assert split.tag_embeds is not None
    assert split.tag_embeds.ne(0).any(-1).tolist() == [[True, False], [True, False], [False, False]]


def test_the_regional_score_is_the_global_one_plus_the_weighted_mean_over_stated_tags() -> None:
    split = embed_split(Regional(), TAGGED, stated=(True, True))
    assert split.tag_embeds is not None
    assert split.region_embeds is not None
    scored = split.with_regions(0.75)
    for image in range(3):
        for text in range(3):
            expected = split.image_embeds[image] @ split.text_embeds[text]
            stated = [e for e in range(2) if split.tag_embeds[text, e].any()]
            similar = [float(split.region_embeds[image, e] @ split.tag_embeds[text, e]) for e in stated]
            expected = expected + 0.75 * sum(similar) / max(len(similar), 1)
            torch.testing.assert_close(scored.image_embeds[image] @ scored.text_embeds[text], expected)


def test_without_regions_the_regional_score_is_the_global_one() -> None:
    split = embed_split(Model(), BATCHES)
    assert split.with_regions(1.0) is split
