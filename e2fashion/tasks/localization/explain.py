"""Why an encoder sees what it sees in one picture: stripe occlusion for texts, selection maps, attention, rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from e2fashion.data.transforms import normalize
from e2fashion.embedding import evaluating
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.figures import Heatmap, as_array
from e2fashion.tasks.localization.attribution import (
    BAND_BATCH,
    BAND_GRID,
    attention_map,
    attention_rollout,
    grey_square,
    stripe_occlusion,
)
from e2fashion.tasks.localization.measure import selects, token_slices
from e2fashion.types import E2FashionError

Square = Literal["grey", "own"]


@dataclass(frozen=True)
class Explanation:
    """One map of one picture: ``look`` is the square that the encoder saw, with heat and the patches it read.

    ``heading`` names the method, ``subject`` the text or the entity that it speaks of (empty: neither).
    """

    method: str
    heading: str
    subject: str
    look: Heatmap


@dataclass(frozen=True)
class ExplainSettings:
    """``methods`` among :data:`METHODS`, in the order of the figure.

    ``square`` is how occlusion makes a square of the picture: ``grey`` pads with the encoder's mean colour, as
    FashionCLIP does, ``own`` is the encoder's way. The other methods always show the encoder's own. ``precision`` is
    the towers'; cosines and heat are fp32 either way.
    """

    methods: Sequence[str] = ("occlusion",)
    texts: Sequence[str] = ()
    square: Square = "grey"
    grid: int = BAND_GRID
    batch_size: int = BAND_BATCH
    precision: Literal["fp32", "bf16"] = "fp32"


def explain(encoder: Encoder, picture: Tensor, settings: ExplainSettings) -> list[Explanation]:
    """Every map of a decoded picture uint8 (3, H, W) that the settings ask for.

    Raises:
        E2FashionError: an unknown method, occlusion without a text or with an empty one, selection maps of a model
            that has none, or occlusion of a model that compares tokens.
    """
    check(encoder, settings)
    found = []
    half = torch.autocast(encoder.model.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
    with evaluating(encoder.model), half:
        for method in settings.methods:
            found += METHODS[method](encoder, picture, settings)
    return found


def check(encoder: Encoder, settings: ExplainSettings) -> None:
    """Raise an E2FashionError for what cannot be explained, before anything is computed."""
    if not settings.methods:
        raise E2FashionError(f"there are no methods: choose among {', '.join(METHODS)}.")
    if unknown := [method for method in settings.methods if method not in METHODS]:
        raise E2FashionError(f"methods is '{unknown[0]}'; choose among {', '.join(METHODS)}, separated by commas.")
    if any(not text.strip() for text in settings.texts):
        raise E2FashionError("a text is empty: say what is to be found, as in text='a red logo'.")
    if "occlusion" in settings.methods:
        require_single_vectors(encoder, "stripe occlusion")
        if not settings.texts:
            raise E2FashionError("occlusion needs a text: say what is to be found, as in text='a red logo'.")
    if "tokens" in settings.methods and not selects(encoder):
        raise E2FashionError(
            f"'{encoder.name}' has no selection tokens and so no maps of theirs: choose methods=occlusion,attention."
        )


def _occlusion(encoder: Encoder, picture: Tensor, settings: ExplainSettings) -> list[Explanation]:
    transform = encoder.transform
    if settings.square == "grey":
        picture = grey_square(picture, transform.mean)
        transform = replace(transform, resize="squeeze")
    square = transform(picture)
    pixels = normalize(square[None].to(encoder.model.device), transform.mean, transform.std)

    texts = encoder.embed_texts(list(settings.texts))
    heat = stripe_occlusion(encoder.image_features, pixels, texts[None], settings.grid, settings.batch_size)[0]
    return [
        Explanation("occlusion", "stripe occlusion", text, _look(square, own.flatten()))
        for text, own in zip(settings.texts, heat, strict=True)
    ]


def _tokens(encoder: Encoder, picture: Tensor, settings: ExplainSettings) -> list[Explanation]:
    """Mean probability and picks of every entity's tokens in the last fusion block: one forward pass for all."""
    square, pixels = _own_square(encoder, picture)
    output: Any = encoder.model.get_image_features(pixels, output_selection_maps=True)
    maps, picks = output.selection_maps[0, -1].float().cpu(), output.selected_patches[0, -1].cpu()
    found = []
    for name, tokens in token_slices(encoder.entities).items():
        selected = [int(patch) for patch in picks[tokens].flatten()]
        look = _look(square, maps[tokens].mean(0), selected)
        found.append(Explanation("tokens", "selection tokens", name, look))
    return found


def _attention(encoder: Encoder, picture: Tensor, settings: ExplainSettings) -> list[Explanation]:
    square, pixels = _own_square(encoder, picture)
    heat, layer = attention_map(encoder.model, pixels)
    return [Explanation("attention", f"attention, layer {layer}", "", _look(square, heat[0]))]


def _rollout(encoder: Encoder, picture: Tensor, settings: ExplainSettings) -> list[Explanation]:
    square, pixels = _own_square(encoder, picture)
    heat, layer = attention_rollout(encoder.model, pixels)
    return [Explanation("rollout", f"rollout, layers 1 to {layer}", "", _look(square, heat[0]))]


METHODS: dict[str, Callable[[Encoder, Tensor, ExplainSettings], list[Explanation]]] = {
    "occlusion": _occlusion,
    "tokens": _tokens,
    "attention": _attention,
    "rollout": _rollout,
}


def _own_square(encoder: Encoder, picture: Tensor) -> tuple[Tensor, Tensor]:
    square = encoder.transform(picture)
    return square, normalize(square[None].to(encoder.model.device), encoder.transform.mean, encoder.transform.std)


def _look(square: Tensor, heat: Tensor, selected: Sequence[int] = ()) -> Heatmap:
    values: NDArray[np.float32] = heat.float().cpu().numpy()
    return Heatmap(as_array(square), values, list(selected))
