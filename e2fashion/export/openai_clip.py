"""E2 or CLIP behind the interface of OpenAI's ``clip`` package: ``import e2fashion.export.openai_clip as clip``.

``clip.load``, ``clip.tokenize`` and ``clip.available_models`` are as in that package.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from e2fashion.data.decode import read_pixels
from e2fashion.data.text import listed_texts
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.encoder import Encoder, ImageInput, load_encoder, require_single_vectors
from e2fashion.hub import fetch
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.types import E2FashionError

#: OpenAI's names of its vision transformers, and the hub names of the same models.
HUB_NAMES = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}


@dataclass(frozen=True)
class Preprocess:
    """An image, in memory or in a file, to normalized pixels (3, H, W) float32: upright, on white, a square."""

    transform: ImageTransform

    def __call__(self, image: ImageInput) -> Tensor:
        """See the class."""
        square = self.transform(read_pixels(image))
        return normalize(square[None], self.transform.mean, self.transform.std)[0]


@dataclass(frozen=True)
class Tokenize:
    """Texts to token ids (N, L) int64 between start and end token, zeros behind, as ``clip.tokenize``.

    For a SigLIP, which reads what is behind, ``padding`` is the tokenizer's.

    L is ``context_length``, in a call too; what is longer is an error unless ``truncate``, which keeps the end token.
    """

    tokenizer: PreTrainedTokenizerBase
    context_length: int
    truncate: bool = False
    padding: int = 0

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None, truncate: bool | None = None
    ) -> Tensor:
        """See the class.

        Raises:
            E2FashionError: a text is longer, and ``truncate`` is False.
        """
        listed = listed_texts(texts)
        length = self.context_length if context_length is None else context_length
        cut = self.truncate if truncate is None else truncate
        ids = torch.full((len(listed), length), self.padding, dtype=torch.int64)
        for row, text in zip(ids, listed, strict=True):
            coded = self.tokenizer(text, truncation=cut, max_length=length if cut else None, verbose=False)["input_ids"]
            if len(coded) > length:
                raise E2FashionError(
                    f"'{text[:60]}' has {len(coded)} tokens, and the context length is {length}: shorten it, or give "
                    "truncate=True"
                )
            row[: len(coded)] = torch.tensor(coded)
        return ids


@dataclass(frozen=True)
class VisualFacts:
    """What code reads from OpenAI's ``model.visual``: pixels of a side, and the width C of the joint space."""

    input_resolution: int
    output_dim: int


class OpenAIStyleModel(nn.Module):
    """``encode_image`` and ``encode_text`` give plain tensors that are **not** normalized, as in OpenAI's package."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        require_single_vectors(encoder, "the interface of OpenAI's clip")
        self.model = encoder.model
        self.tokenizer = encoder.tokenizer
        padding = int(encoder.tokenizer.pad_token_id) if encoder.backbone == "siglip" else 0
        self.tokenize = Tokenize(encoder.tokenizer, encoder.context_length, padding=padding)
        self.context_length = encoder.context_length
        self.visual = VisualFacts(encoder.transform.size, encoder.dimension)
        # The last layer alone for the tokens that are read: the same features for less work.
        self._options: dict[str, Any] = {"complete_states": False} if isinstance(encoder.model, E2Model) else {}

    @property
    def logit_scale(self) -> Tensor:
        """Log of the inverse temperature, () or of a SigLIP (1,)."""
        return self.model.logit_scale

    @property
    def logit_bias(self) -> Tensor | None:
        """Bias of a pair's logit, () or of a SigLIP (1,); None: the model was trained with a softmax."""
        return getattr(self.model, "logit_bias", None)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return self.model.dtype

    @property
    def vocab_size(self) -> int:
        """Number of distinct tokens."""
        return len(self.tokenizer)

    def encode_image(self, image: Tensor) -> Tensor:
        """Normalized pixels (B, 3, H, W) to features (B, C)."""
        return self.model.get_image_features(pixel_values=image.to(self.dtype), **self._options).pooler_output

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids (B, L), behind the end token anything, for a SigLIP its padding, to features (B, C)."""
        return self.model.get_text_features(input_ids=text.long(), **self._options).pooler_output

    def encode_regions(self, image: Tensor) -> Tensor:
        """Normalized pixels (B, 3, H, W) to region features (B, E, C); not in OpenAI's package.

        Raises:
            E2FashionError: a plain CLIP, which has no regions.
        """
        if not isinstance(self.model, E2Model) or not self.model.config.vision_config.entity_list:
            raise E2FashionError("this model has no entities, so no regions to encode: load an E2")
        return self.model.get_region_features(image.to(self.dtype))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits per image (B, N) and per text (N, B): scaled cosine similarities, and the bias if there is one."""
        images = nn.functional.normalize(self.encode_image(image), dim=-1)
        texts = nn.functional.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * images @ texts.t()
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        return logits, logits.t()


#: What :func:`load` has returned and is still in use.
_loaded: WeakSet[OpenAIStyleModel] = WeakSet()


def available_models() -> list[str]:
    """OpenAI's names that :func:`load` takes besides folders and hub names."""
    return list(HUB_NAMES)


def load(
    name: str | Path, device: torch.device | str = "cpu", jit: bool = False, download_root: str | Path | None = None
) -> tuple[OpenAIStyleModel, Preprocess]:
    """A model in evaluation mode and its ``preprocess``, as ``clip.load`` gives them.

    :func:`e2fashion.load_encoder` loads the same model as an :class:`~e2fashion.encoder.Encoder`, which takes images
    and texts instead of tensors and normalizes what it returns.

    Args:
        name: a run folder, a model folder, the hub name of any CLIP, or one of :func:`available_models`.
        device: where the model computes.
        jit: must be False: nothing is compiled.
        download_root: the folder that keeps what is fetched from the hub; None: the hub's cache.

    Raises:
        E2FashionError: there is no model, it compares tokens (FILIP), or ``jit`` is True.
    """
    encoder = load_for(name, jit, download_root)
    model = OpenAIStyleModel(encoder).to(device).eval()
    _loaded.add(model)
    return model, Preprocess(encoder.transform)


def load_for(name: str | Path, jit: bool, cache: str | Path | None) -> Encoder:
    """The encoder behind an interface of another package; see :func:`load`.

    Raises:
        E2FashionError: ``jit`` is on, or there is no such model.
    """
    if jit:
        raise E2FashionError("jit=True is not supported: give jit=False, and compile the model with torch.compile")
    source = HUB_NAMES.get(str(name), str(name))
    if cache is not None and not Path(source).expanduser().is_dir():
        source = fetch(source, cache)
    return load_encoder(source)


def tokenize(texts: str | Sequence[str], context_length: int | None = None, truncate: bool = False) -> Tensor:
    """Token ids of the model that :func:`load` has returned, as its ``tokenize``: (N, ``context_length``) int64.

    ``context_length`` None is the model's: 77 for OpenAI's CLIP, less where training cut texts earlier.

    Raises:
        E2FashionError: no model is loaded, models with different tokenizers are, or a text is too long.
    """
    if len(_vocabularies()) > 1:
        gc.collect()  # models that are no longer in use
    vocabularies = _vocabularies()
    if not vocabularies:
        raise E2FashionError("clip.tokenize needs the tokenizer of a model: call clip.load first")
    if len(vocabularies) > 1:
        raise E2FashionError(
            f"{len(vocabularies)} models with different tokenizers are loaded, so clip.tokenize is ambiguous: call "
            "tokenize of the model"
        )
    model = min(vocabularies[0], key=lambda loaded: loaded.context_length)
    return model.tokenize(texts, context_length, truncate)


def _vocabularies() -> list[list[OpenAIStyleModel]]:
    """The loaded models by their vocabulary."""
    groups: dict[int, list[OpenAIStyleModel]] = {}
    for model in _loaded:
        groups.setdefault(hash(frozenset(model.tokenizer.get_vocab().items())), []).append(model)
    return list(groups.values())
