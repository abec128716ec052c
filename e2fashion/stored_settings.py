"""What a model folder says of preparing input: how pictures become squares, and where texts are cut."""

from __future__ import annotations

import math
from typing import Any, get_args

from transformers import CLIPImageProcessorPil

from e2fashion.data.transforms import ImageTransform
from e2fashion.hub import source_options
from e2fashion.models.loading import only_our_errors
from e2fashion.types import E2FashionError, TextOverflow

#: Pixels of a side beyond which a square is taken for damage or a slip.
LARGEST_SQUARE = 4096


def transform_of(source: str, what: str) -> ImageTransform:
    """The way of making a square that was saved with the model of a folder or a hub name.

    Raises:
        E2FashionError: it cannot be read, or is none that this package has.
    """
    options = source_options(source, what=what)
    with only_our_errors(what, "Save or fetch its preprocessor_config.json (or processor_config.json) again."):
        transform = ImageTransform.from_processor(CLIPImageProcessorPil.from_pretrained(source, **options))
        numbers = [*map(float, transform.mean), *map(float, transform.std)]
        if (len(transform.mean), len(transform.std)) != (3, 3) or not all(map(math.isfinite, numbers)):
            raise ValueError(f"image_mean {transform.mean} and image_std {transform.std} are not three numbers each")
        if min(transform.std) <= 0:
            raise ValueError(f"image_std {transform.std} must be greater than 0")
    if not isinstance(transform.size, int):
        raise E2FashionError(f"{what} makes squares of {transform.size!r} px: correct size in its image processor.")
    return transform


def text_settings(config: Any, what: str) -> tuple[int | None, TextOverflow]:
    """Where texts are cut, and how, by a model's configuration.

    Raises:
        E2FashionError: values that cannot be.
    """
    positions = int(config.text_config.max_position_embeddings)
    length = getattr(config, "text_context_length", None)
    overflow: Any = getattr(config, "text_overflow", "truncate")
    if length is not None and not (type(length) is int and 2 <= length <= positions):
        raise E2FashionError(
            f"{what}: text_context_length is {length!r} in config.json; the text encoder reads from 2 to {positions} "
            "tokens."
        )
    if overflow not in get_args(TextOverflow):
        raise E2FashionError(
            f"{what}: text_overflow is {overflow!r} in config.json; choose one of {', '.join(get_args(TextOverflow))}."
        )
    return length, overflow
