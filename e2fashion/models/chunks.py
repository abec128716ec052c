"""A training pass in chunks whose activations are computed again for the gradient (GradCache)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPooling

from e2fashion.models.modeling_e2 import E2Model, E2Output
from e2fashion.models.vision_e2 import E2VisionOutput
from e2fashion.similarity import join_items

Features = TypeVar("Features", bound=BaseModelOutputWithPooling)

#: What :meth:`E2Model.joined` reads of the towers' outputs; anything else of a chunk is dropped.
READ = ("pooler_output", "region_features", "local_features", "selection_maps", "selected_patches")


def embed_in_chunks(
    model: E2Model,
    chunk_size: int,
    input_ids: Tensor,
    pixel_values: Tensor,
    attention_mask: Tensor | None = None,
    tag_input_ids: Tensor | None = None,
    tag_attention_mask: Tensor | None = None,
    tag_index: Tensor | None = None,
    tag_present: Tensor | None = None,
    output_selection_maps: bool = False,
) -> E2Output:
    """:meth:`E2Model.forward` for training, with the activations of one chunk in memory at a time.

    Images, texts and distinct tags are encoded ``chunk_size`` at a time and only their features are kept; the backward
    pass encodes each chunk again (GradCache, Gao et al., RepL4NLP 2021). A loss of the output is that of the whole
    batch, and its gradients are exact, for one more forward pass. The selection noise is that of the batch in one
    piece; dropout draws other numbers, but the same ones both times.
    """

    def encode_images(rows: slice) -> E2VisionOutput:
        return model.get_image_features(
            pixel_values[rows], output_selection_maps=output_selection_maps, return_dict=True
        )

    images = _encode(encode_images, len(pixel_values), chunk_size, model)
    tag_embeds: Tensor | None = None
    options: dict[str, Tensor] = {}
    if tag_input_ids is not None and tag_index is not None and tag_present is not None:
        distinct = _distinct_tags(model, chunk_size, tag_input_ids, tag_attention_mask)
        tag_embeds = model.region_tags(distinct, tag_index, tag_present)
        options = model.text_options(distinct, tag_index, tag_present)

    def encode_texts(rows: slice) -> BaseModelOutputWithPooling:
        mask = None if attention_mask is None else attention_mask[rows]
        tags = {name: value[rows] for name, value in options.items()}
        return model.get_text_features(input_ids[rows], mask, return_dict=True, **tags)

    return model.joined(images, _encode(encode_texts, len(input_ids), chunk_size, model), tag_embeds, False)


def _distinct_tags(model: E2Model, chunk_size: int, ids: Tensor, mask: Tensor | None) -> Tensor:
    """:meth:`E2Model.distinct_tags` in chunks."""

    def encode(rows: slice) -> Tensor:
        return model.distinct_tags(ids[rows], None if mask is None else mask[rows])

    if not len(ids):
        return encode(slice(None))
    return torch.cat([_computed_again(encode, rows) for rows in _chunks(len(ids), chunk_size)])


def _encode(encode: Callable[[slice], Features], size: int, chunk_size: int, model: E2Model) -> Features:
    """The joined outputs of ``encode`` over chunks of ``size`` rows, those in :data:`READ` alone."""

    noise = model.vision_model.selection_noise
    number = noise.passes

    def of_batch(rows: slice) -> Features:
        with noise.of_chunk(rows.start, size, number):
            return encode(rows)

    parts: dict[str, list[Tensor]] = {}
    for rows in _chunks(size, chunk_size):
        output = _computed_again(of_batch, rows)
        for name in READ:
            if (value := getattr(output, name, None)) is not None:
                parts.setdefault(name, []).append(value)
    return type(output)(
        **{name: join_items(part) if name == "local_features" else torch.cat(part) for name, part in parts.items()}
    )


def _computed_again(encode: Callable[[slice], Any], rows: slice) -> Any:
    # Not reentrant: DDP expects one gradient per parameter. Backward finishes one chunk before it begins the next,
    # since autograd runs what was computed last first.
    return checkpoint(encode, rows, use_reentrant=False)


def _chunks(size: int, chunk_size: int) -> Iterator[slice]:
    for first in range(0, size, chunk_size):
        yield slice(first, min(first + chunk_size, size))
