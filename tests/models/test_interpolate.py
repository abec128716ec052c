from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from e2fashion.models import E2Model
from e2fashion.models.interpolate import interpolate_weights
from e2fashion.types import E2FashionError

BuildE2 = Callable[..., E2Model]


def test_the_ends_are_the_two_models_and_the_middle_lies_between(build_e2: BuildE2) -> None:
    before, after = build_e2(seed=1), build_e2(seed=2)
    for share, expected in ((0.0, before), (1.0, after)):
        mixed = interpolate_weights(before, after, share)
        for one, other in zip(mixed.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(one, other)
    middle = interpolate_weights(before, after, 0.25).text_projection.weight
    torch.testing.assert_close(middle, 0.75 * before.text_projection.weight + 0.25 * after.text_projection.weight)


def test_what_only_the_fine_tuned_model_has_stays(build_e2: BuildE2, plain_clip: CLIPModel, pixels: Tensor) -> None:
    after = build_e2(entities={"brand": 2}, fusion_layers=[2])
    mixed = interpolate_weights(plain_clip, after, 0.5)
    assert torch.equal(mixed.vision_model.selection_tokens.brand, after.vision_model.selection_tokens.brand)
    assert not torch.equal(mixed.text_projection.weight, after.text_projection.weight)
    assert mixed.get_image_features(pixels).region_features.shape == (4, 1, 24)


def test_other_towers_are_refused(build_e2: BuildE2) -> None:
    with pytest.raises(E2FashionError, match=r"before and .* after fine-tuning"):
        interpolate_weights(build_e2(), build_e2(hidden_size=96), 0.5)
    with pytest.raises(E2FashionError, match=r"share is 1\.5"):
        interpolate_weights(build_e2(), build_e2(), 1.5)
    with pytest.raises(E2FashionError, match=r"lacks .vision_model\.selection_tokens\.brand."):
        interpolate_weights(build_e2(entities={"brand": 2}, fusion_layers=[2]), build_e2(), 0.5)
