"""Image transform, text settings and model card of a model folder."""

from __future__ import annotations

import math
from typing import Any, get_args

from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from e2fashion.data.transforms import ImageTransform
from e2fashion.escape import markdown, markdown_code
from e2fashion.hub import source_options
from e2fashion.models.loading import only_our_errors
from e2fashion.types import E2FashionError, TextOverflow

#: Maximum side of a square in pixels; more is taken for damage.
LARGEST_SQUARE = 4096


def transform_of(source: str, what: str, siglip: bool = False) -> ImageTransform:
    """The image transform saved with the model of a folder or a hub name, which is a SigLIP of others or not.

    Raises:
        E2FashionError: it cannot be read or is not supported.
    """
    options = source_options(source, what=what)
    with only_our_errors(what, "Save or fetch its preprocessor_config.json (or processor_config.json) again."):
        if siglip:
            processor: Any = SiglipImageProcessorPil.from_pretrained(source, **options)
        else:
            processor = CLIPImageProcessorPil.from_pretrained(source, **options)
        transform = ImageTransform.from_processor(processor)
        sound = all(isinstance(item, int | float) and math.isfinite(item) for item in (*transform.mean, *transform.std))
        if (len(transform.mean), len(transform.std)) != (3, 3) or not sound:
            raise ValueError(f"image_mean {transform.mean} and image_std {transform.std} are not three numbers each")
        if min(transform.std) <= 0:
            raise ValueError(f"image_std {transform.std} must be greater than 0")
    if not isinstance(transform.size, int):
        raise E2FashionError(f"{what} makes squares of {transform.size!r} px: correct size in its image processor.")
    return transform


def text_settings(config: Any, what: str) -> tuple[int | None, TextOverflow]:
    """Context length and overflow method of texts in a model's configuration.

    Raises:
        E2FashionError: invalid values.
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


def model_card(name: str, origin: str, config: Any, transform: ImageTransform, template: str) -> str:
    """The README of a model folder: a description, and code that loads it.

    Args:
        name: of the model.
        origin: where its weights come from, as a sentence.
        config: of a CLIP or an E2.
        transform: the image transform.
        template: of the global text.
    """
    vision = config.vision_config
    entities = "".join(
        f"- {markdown_code(entity['name'])} (column {markdown_code(entity['column'])}): {entity['tokens']} selection "
        "tokens\n"
        for entity in getattr(vision, "entities", None) or []
    )
    fusion = getattr(vision, "fusion_layers", None) or ()
    backbone = "SigLIP" if getattr(config, "backbone", "clip") == "siglip" else "CLIP"
    return f"""---
library_name: transformers
tags: [fashion, clip, e2fashion]
pipeline_tag: zero-shot-image-classification
---
# {markdown(name)}

{origin}. Image tower: {vision.num_hidden_layers} layers of width {vision.hidden_size}, patches of
{vision.patch_size} px at {vision.image_size} px; images are made square by `{transform.resize}`.
Global text: {markdown_code(template)}.

Entities:
{entities or f"none: this is a plain {backbone}" + chr(10)}
Fusion blocks after layers: {", ".join(map(str, fusion)) or "none"}.

```python
import e2fashion

encoder = e2fashion.load_encoder("<this folder>")
images = encoder.embed_images(["shirt.jpg"])  # (1, {config.projection_dim}), L2-normalized
texts = encoder.embed_texts(["a blue shirt"])
```

`import e2fashion` also registers the model type: `AutoModel` and `AutoProcessor` of Transformers then load this folder.
Their `get_image_features` is not normalized.
"""
