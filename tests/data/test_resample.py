"""The two passes of resizing: weights as Pillow's, and where PyTorch may make half of the first one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from e2fashion.data import transforms
from e2fashion.data.transforms import bicubic_weights, is_half_enough, resize_bicubic, resize_middle


def noise(height: int, width: int, seed: int = 0, steps: int = 256) -> np.ndarray:
    """Pixels without any order, of few or many gray levels: edges everywhere."""
    levels = np.random.default_rng(seed).integers(0, steps, (height, width, 3))
    return (levels * (255 // (steps - 1))).astype(np.uint8)


def of_pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def ours(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize_bicubic(torch.from_numpy(pixels).permute(2, 0, 1), size).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("size", "new_size"), [(256, 224), (512, 224), (83, 112), (9, 1), (5, 3), (640, 100)])
def test_weights_are_pillow_s(size: int, new_size: int) -> None:
    row = np.random.default_rng(0).random(size, dtype=np.float32)
    expected = np.array(Image.fromarray(row[None]).resize((new_size, 1), Image.Resampling.BICUBIC))[0]
    first, weights = bicubic_weights(size, new_size)
    read = np.minimum(first[:, None] + np.arange(weights.shape[1]), size - 1)
    np.testing.assert_allclose((weights * row[read]).sum(axis=1), expected, atol=1e-5)


def slow_weights(size: int, new_size: int) -> list[tuple[int, np.ndarray]]:
    """Pixel by pixel: the first old pixel that each new one reads, and the weights from there on."""
    scale = size / new_size
    stretch = max(scale, 1.0)
    result = []
    for place in range(new_size):
        center = (place + 0.5) * scale
        first = max(0, int(center - transforms.SUPPORT * stretch + 0.5))
        behind = min(size, int(center + transforms.SUPPORT * stretch + 0.5))
        weights = transforms.bicubic_kernel((np.arange(first, behind) - center + 0.5) / stretch)
        result.append((first, weights / weights.sum()))
    return result


def slow_half_enough(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """The proof of :func:`is_half_enough` over weights made one by one."""
    error = [
        255 * transforms.WEIGHT_ERROR * max(len(own) for _, own in slow_weights(*sizes)) for sizes in (first, second)
    ]
    moved = max(float(np.abs(own[(pixel % 2) :: 2]).sum()) for pixel, own in slow_weights(*second))
    return error[0] < 0.5 and moved + error[1] < 1.0


SIZES = st.one_of(st.integers(1, 60), st.integers(1, 4_000))


@settings(max_examples=80)
@given(SIZES, st.integers(1, 300))
def test_weights_are_those_made_pixel_by_pixel(size: int, new_size: int) -> None:
    first, weights = bicubic_weights(size, new_size)
    expected = slow_weights(size, new_size)
    assert first.tolist() == [pixel for pixel, _ in expected]
    for result, (_, own) in zip(weights, expected, strict=True):
        np.testing.assert_allclose(result[: len(own)], own, rtol=0, atol=1e-14)
        assert not result[len(own) :].any()


@settings(max_examples=80)
@given(st.tuples(SIZES, st.integers(1, 300)), st.tuples(SIZES, st.integers(1, 300)))
def test_half_is_enough_exactly_where_the_slow_proof_says_so(first: tuple[int, int], second: tuple[int, int]) -> None:
    assert is_half_enough(first, second) == slow_half_enough(first, second)


def test_half_is_enough_where_pictures_shrink_and_not_where_a_line_is_kept() -> None:
    assert is_half_enough((256, 224), (256, 224))
    assert not is_half_enough((256, 224), (226, 224))  # a new line is next to one old line
    assert not is_half_enough((80, 112), (60, 112))
    assert not is_half_enough((256, 224), (20_000, 224))  # hundreds of weights with few bits each


@pytest.mark.parametrize("steps", [2, 3, 256])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((256, 256), (224, 224)),
        ((256, 300), (224, 224)),
        ((400, 256), (224, 224)),
        ((512, 400), (224, 175)),
        ((241, 251), (112, 112)),
        ((1024, 64), (75, 32)),
    ],
)
def test_noise_stays_within_one_grey_level(
    shape: tuple[int, int], size: tuple[int, int], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []
    monkeypatch.setattr(transforms, "is_half_enough", lambda *passes: made.append(is_half_enough(*passes)) or made[-1])
    for seed in range(3):
        pixels = noise(*shape, seed, steps)
        difference = np.abs(ours(pixels, size).astype(int) - of_pillow(pixels, size))
        assert difference.max() <= 1
    assert all(made)


def test_the_worst_that_half_of_the_lines_can_do_is_one_level() -> None:
    """PyTorch's lines off by one wherever that hurts most."""
    pixels = noise(256, 8, 1)
    exact = of_pillow(pixels, (224, 8)).astype(int)
    shifted = pixels.copy()
    first, weights = slow_weights(256, 224)[100]
    lines = np.arange(first, first + len(weights))
    even = lines % 2 == 0
    shifted[lines[even]] = np.clip(pixels[lines[even]] + np.sign(weights[even])[:, None, None], 0, 255)
    assert np.abs(of_pillow(shifted, (224, 8)).astype(int)[100] - exact[100]).max() <= 1


def test_every_second_line_is_pillow_s(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(256, 256)
    first: list[np.ndarray] = []
    second_pass = transforms.resize_with_pytorch

    def remember(lines: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if size == (224, 224):
            first.append(lines)
        return second_pass(lines, size)

    monkeypatch.setattr(transforms, "resize_with_pytorch", remember)
    ours(pixels, (224, 224))
    expected = of_pillow(pixels, (256, 224))
    assert np.array_equal(first[0][1::2], expected[1::2])
    assert np.abs(first[0][::2].astype(int) - expected[::2]).max() <= 1


@pytest.mark.parametrize(
    ("shape", "side"),
    [((4, 400), 32), ((400, 4), 32), ((60, 2_000), 32), ((2_000, 60), 32), ((1, 50), 7), ((9, 801), 9)],
)
def test_the_middle_alone_is_the_middle_of_the_whole(shape: tuple[int, int], side: int) -> None:
    height, width = shape
    size = (side, side * width // height) if height < width else (side * height // width, side)
    pixels = noise(*shape, seed=1)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    expected = of_pillow(pixels, size)[top : top + side, left : left + side]
    middle = resize_middle(torch.from_numpy(pixels).permute(2, 0, 1), size, side).permute(1, 2, 0).numpy()
    assert middle.shape == (side, side, 3)
    assert np.abs(middle.astype(int) - expected).max() <= 1
