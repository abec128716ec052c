import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import photograph, pixels_of
from PIL import Image
from transformers import CLIPImageProcessor, CLIPImageProcessorPil

from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD, ImageTransform, Resize, normalize
from e2fashion.types import Box, E2FashionError

RESIZES = ["squeeze", "crop", "pad"]
SHAPES = [(256, 256), (80, 60), (61, 83), (33, 224), (224, 224), (225, 223), (300, 171), (7, 9), (512, 400)]


def grey_levels(processor: CLIPImageProcessorPil, picture: Image.Image) -> torch.Tensor:
    """What the Hugging Face processor makes of an image, before it rescales and normalizes."""
    values = processor(images=picture, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
    return values.to(torch.int16)


def differences(transform: ImageTransform, picture: Image.Image) -> torch.Tensor:
    """Grey levels between our square and the saved processor's."""
    square = transform(pixels_of(picture))
    assert square.dtype == torch.uint8
    assert square.shape == (3, transform.size, transform.size)
    return (square.to(torch.int16) - grey_levels(transform.to_processor(), picture)).abs()


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [224, 112, 75])
def test_square_equals_the_saved_processor_within_one_grey_level(
    resize: Resize, shape: tuple[int, int], size: int
) -> None:
    assert differences(ImageTransform(size=size, resize=resize), photograph(*shape)).max() <= 1


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("shape", [(61, 83), (225, 223), (1300, 20)])
def test_a_bilinear_square_equals_its_processor(resize: Resize, shape: tuple[int, int]) -> None:
    transform = ImageTransform(size=75, resize=resize, resample="bilinear")
    assert differences(transform, photograph(*shape)).max() <= 1
    pixels = pixels_of(photograph(*shape))
    assert not torch.equal(transform(pixels), ImageTransform(size=75, resize=resize)(pixels))
    assert ImageTransform.from_processor(transform.to_processor()) == transform


@pytest.mark.real_data
@pytest.mark.parametrize("resize", RESIZES)
def test_real_photographs_equal_the_saved_processor_within_one_grey_level(resize: Resize) -> None:
    if "E2FASHION_DATA" not in os.environ:
        pytest.skip("E2FASHION_DATA is not set")
    folder = Path(os.environ["E2FASHION_DATA"]) / "fashion-product-images-1k-hires" / "images"
    files = sorted(folder.rglob("*.jpg"))[:60]
    transform = ImageTransform(size=224, resize=resize)
    assert files
    assert max(int(differences(transform, Image.open(file).convert("RGB")).max()) for file in files) <= 1


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.sampled_from(RESIZES))
def test_shapes_are_rounded_as_the_processor_rounds(height: int, width: int, size: int, resize: Resize) -> None:
    transform = ImageTransform(size=size, resize=resize)
    # Images so thin that the processor itself fails are ours to survive, not to equal.
    if resize == "pad" and min(height, width) * size < max(height, width):
        assert transform(pixels_of(photograph(height, width))).shape == (3, size, size)
        return
    assert differences(transform, photograph(height, width)).max() <= 1


@pytest.mark.parametrize("resize", RESIZES)
def test_a_picture_of_that_size_is_returned_exactly(resize: Resize) -> None:
    image = pixels_of(photograph(48, 48))
    assert torch.equal(ImageTransform(size=48, resize=resize)(image), image)


def test_memory_layout_does_not_matter() -> None:
    image = pixels_of(photograph(100, 90))
    transform = ImageTransform(size=64)
    assert torch.equal(transform(image), transform(image.contiguous()))


def test_pad_centres_on_black() -> None:
    square = ImageTransform(size=8, resize="pad")(torch.full((3, 8, 4), 200, dtype=torch.uint8))
    assert square[:, :, 2:6].eq(200).all()
    assert square[:, :, :2].eq(0).all()
    assert square[:, :, 6:].eq(0).all()


@pytest.mark.parametrize("resize", RESIZES)
def test_processor_round_trip(resize: Resize, tmp_path: Path) -> None:
    transform = ImageTransform(size=112, resize=resize, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    transform.to_processor().save_pretrained(tmp_path)
    assert ImageTransform.from_processor(CLIPImageProcessorPil.from_pretrained(tmp_path)) == transform
    assert ImageTransform.from_processor(CLIPImageProcessor.from_pretrained(tmp_path)) == transform


def test_default_is_openais_processor() -> None:
    assert ImageTransform.from_processor(CLIPImageProcessorPil()) == ImageTransform(224, "crop", CLIP_MEAN, CLIP_STD)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"resample": 0}, "resample=0"),
        ({"do_resize": False}, "do_resize=False"),
        ({"size": {"shortest_edge": 256}}, "crop_size="),
        ({"do_center_crop": False}, "size="),
        ({"do_pad": True}, "do_pad=True"),
    ],
)
def test_a_processor_that_does_something_else_is_an_error(options: dict[str, Any], culprit: str) -> None:
    with pytest.raises(E2FashionError, match=f"{culprit}.*no equal"):
        ImageTransform.from_processor(CLIPImageProcessorPil(**options))


def test_unknown_resize_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="'stretch'; choose squeeze, crop or pad"):
        ImageTransform(resize="stretch")  # type: ignore[arg-type]


def test_size_zero_is_an_error() -> None:
    with pytest.raises(E2FashionError, match=r"image\.size is 0"):
        ImageTransform(size=0)


def test_normalise_into_given_memory() -> None:
    pixels = pixels_of(photograph(8, 8))[None]
    memory = torch.empty(1, 3, 8, 8)
    assert normalize(pixels, CLIP_MEAN, CLIP_STD, out=memory).data_ptr() == memory.data_ptr()
    assert torch.equal(memory, normalize(pixels, CLIP_MEAN, CLIP_STD))


def test_normalise_equals_the_processor() -> None:
    picture = photograph(32, 32)
    transform = ImageTransform(size=32)
    expected = transform.to_processor()(images=picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(normalize(pixels_of(picture)[None], CLIP_MEAN, CLIP_STD), expected, atol=2e-6, rtol=0)


def test_one_pass_alone_equals_the_processor_exactly() -> None:
    assert differences(ImageTransform(size=64, resize="squeeze"), photograph(64, 90)).max() == 0
    assert differences(ImageTransform(size=64, resize="squeeze"), photograph(90, 64)).max() == 0


def test_normalise_takes_statistics_as_tensors() -> None:
    pixels = torch.stack([pixels_of(photograph(8, 8, seed)) for seed in range(3)])
    expected = (pixels.float() - 255 * torch.tensor(CLIP_MEAN).view(3, 1, 1)) / (255 * torch.tensor(CLIP_STD)).view(
        3, 1, 1
    )
    assert torch.equal(normalize(pixels, torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)), expected)
    assert torch.equal(normalize(pixels[:0], CLIP_MEAN, CLIP_STD), expected[:0])


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize(("height", "width"), [(240, 160), (161, 243), (60, 80), (128, 128)])
def test_a_box_goes_where_the_pixels_go(resize: Resize, height: int, width: int) -> None:
    box = Box(0.3, 0.4, 0.6, 0.7)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    rows, columns = (slice(round(a * n), round(b * n)) for a, b, n in ((0.4, 0.7, height), (0.3, 0.6, width)))
    image[:, rows, columns] = 255
    transform = ImageTransform(size=112, resize=resize)
    result = transform.map_box(box, height, width)
    assert result is not None
    lit = (transform(image)[0] > 127).nonzero()
    (top, left), (bottom, right) = lit.amin(0).tolist(), (lit.amax(0) + 1).tolist()
    assert [edge * 112 for edge in (result.left, result.top, result.right, result.bottom)] == pytest.approx(
        [left, top, right, bottom], abs=1.6
    )


def test_a_box_that_is_cropped_away_is_none_and_one_at_the_edge_is_cut() -> None:
    transform = ImageTransform(size=100, resize="crop")  # of 200 rows the middle hundred remain
    assert transform.map_box(Box(0.0, 0.0, 1.0, 0.25), 200, 100) is None
    assert transform.map_box(Box(0.0, 0.0, 0.5, 0.5), 200, 100) == Box(0.0, 0.0, 0.5, 0.5)
    assert ImageTransform(100, "pad").map_box(Box(0.0, 0.0, 1.0, 1.0), 200, 100) == Box(0.25, 0.0, 0.75, 1.0)


@pytest.mark.parametrize("shape", [(4, 500), (500, 4), (33, 400), (3, 290)])
def test_the_middle_of_a_long_image_equals_the_saved_processor(shape: tuple[int, int]) -> None:
    assert differences(ImageTransform(size=32, resize="crop"), photograph(*shape)).max() <= 1


@pytest.mark.parametrize("shape", [(1, 65_535), (65_535, 1), (8, 12_000)])
@pytest.mark.parametrize("resize", RESIZES)
def test_a_long_image_takes_little_memory(resize: Resize, shape: tuple[int, int]) -> None:
    tracemalloc.start()
    try:
        square = ImageTransform(size=224, resize=resize)(torch.full((3, *shape), 200, dtype=torch.uint8))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert square.shape == (3, 224, 224)
    assert square[:, 112, 112].eq(200).all() or resize == "pad"
    assert peak < 32 << 20  # the whole at 224 pixels would be 180 MB or more


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_an_error(resize: Resize, shape: tuple[int, int]) -> None:
    with pytest.raises(E2FashionError, match=rf"an image of {shape[1]} x {shape[0]} pixels has no content"):
        ImageTransform(size=8, resize=resize)(torch.zeros(3, *shape, dtype=torch.uint8))
