import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e2fashion.data.augment import ASPECT_JITTER, Augmentation, Draws, draws_of
from e2fashion.types import E2FashionError


def test_draws_depend_on_seed_epoch_and_product() -> None:
    draws = {draws_of(seed, epoch, product) for seed in (0, 1) for epoch in (0, 1) for product in "ab"}
    assert len(draws) == 8
    assert draws_of(0, 1, "a") == draws_of(0, 1, "a")


def test_draws_are_uniform() -> None:
    values = torch.tensor([[d.view, d.flip, d.area, d.aspect, d.top, d.left] for d in map(_draws, range(2000))])
    assert values.min() >= 0
    assert values.max() < 1
    torch.testing.assert_close(values.mean(0), torch.full((6,), 0.5), atol=0.03, rtol=0)


def _draws(product: int) -> Draws:
    return draws_of(0, 0, str(product))


def test_half_of_the_pictures_are_mirrored() -> None:
    image = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    augmentation = Augmentation(flip=True)
    mirrored = [torch.equal(augmentation.mirror(image, 0, str(p)), image.flip(-1)) for p in range(400)]
    assert 150 < sum(mirrored) < 250


def test_every_view_is_drawn() -> None:
    augmentation = Augmentation()
    assert {augmentation.view(4, epoch, "a") for epoch in range(60)} == {0, 1, 2, 3}


@settings(max_examples=100, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.floats(0.1, 1.0), st.integers(0, 1000))
def test_crop_keeps_at_least_its_share(height: int, width: int, crop_scale: float, epoch: int) -> None:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    crop = Augmentation(crop_scale=crop_scale).crop(image, epoch, "a")
    area, whole = crop.shape[1] * crop.shape[2], height * width
    half_pixel = (height + width) / 2
    assert area >= crop_scale * whole - half_pixel
    aspect = (crop.shape[1] / crop.shape[2]) / (height / width)
    assert 1 / ASPECT_JITTER**1.3 < aspect < ASPECT_JITTER**1.3 or min(crop.shape[1:]) < 20


def test_no_augmentation_changes_nothing() -> None:
    image = torch.arange(27, dtype=torch.uint8).view(3, 3, 3)
    augmentation = Augmentation(seed=0, flip=False, crop_scale=1.0)
    assert augmentation.mirror(augmentation.crop(image, 0, "a"), 0, "a") is image


def test_crop_scale_zero_is_an_error() -> None:
    with pytest.raises(E2FashionError, match=r"crop_scale is 0\.0"):
        Augmentation(crop_scale=0.0)
