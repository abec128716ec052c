"""A CLIP or E2 model with its preprocessing, loaded from and saved to a Hugging Face folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, overload

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, CLIPModel, CLIPProcessor, PreTrainedTokenizerBase

from e2fashion.data.decode import ImageSource, listed_images, read_squares
from e2fashion.data.loader import pad_ids
from e2fashion.data.text import TextFitter, TextTemplate, listed_texts
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.disk import real_path, write_checksums
from e2fashion.embedding import evaluating, unit_features
from e2fashion.model_folder import LARGEST_SQUARE, model_card, text_settings, transform_of
from e2fashion.models.configuration_e2 import JOINED_LATER
from e2fashion.models.loading import checked_source, load_config, load_weights, only_our_errors, read_config
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import check_token_ids, load_tokenizer, two_texts
from e2fashion.similarity import join_items
from e2fashion.terminal import without_bars
from e2fashion.types import E2FashionError, Entity, TextOverflow

MODEL_TYPES = ("clip", "e2", "siglip")
#: The template of a checkpoint without one.
DESCRIPTION_ALONE = "{description}"
#: Largest difference by rounding between components of equal unit vectors.
SAME = 1e-7

#: Keys of a configuration that describe the origin of a model, not what it computes.
NOT_IDENTITY = ("_name_or_path", "transformers_version", "architectures", "dtype")

#: An image in memory or an image file; one or several (also as an array or tensor of four dimensions).
ImageInput: TypeAlias = ImageSource
ImageInputs: TypeAlias = ImageInput | Sequence[ImageInput]
#: Embeddings of the readable images, and why others were skipped, by position.
Readable: TypeAlias = tuple[Tensor, dict[int, str]]


@dataclass(frozen=True)
class Encoder:
    """A CLIP, SigLIP or E2 with its tokenizer, image transform and text template.

    ``name`` is used in tables; ``text_context_length`` is the length at which texts are cut (None: the positions of the
    text encoder), ``text_overflow`` the method (:class:`e2fashion.data.text.TextFitter`). :meth:`embed_images` and
    :meth:`embed_texts` return L2-normalized embeddings; the features of ``model`` are not normalized. A model that
    :attr:`compares_tokens` embeds an item as tokens, (N, T, C) instead of (N, C), zero where absent, for
    :func:`e2fashion.similarity.token_similarities`.
    """

    model: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    transform: ImageTransform
    template: TextTemplate
    name: str
    text_context_length: int | None = None
    text_overflow: TextOverflow = "truncate"

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str,
        name: str | None = None,
        template: str | None = None,
        resize: Literal["squeeze", "crop", "pad"] | None = None,
        size: int | None = None,
    ) -> Encoder:
        """Load any CLIP, SigLIP or E2: a model folder, a run folder, or a hub name (which may need the network).

        ``template``, ``resize`` and ``size`` override the values saved with the model; a checkpoint without a template
        reads the description alone. :func:`e2fashion.load_encoder` is this method.

        Raises:
            E2FashionError: a folder that does not exist or holds no model, or a size that is not a multiple of the
                patch size.
        """
        path = Path(name_or_folder)
        folder = path / "model" if (path / "model" / "config.json").is_file() else path
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise E2FashionError(
                f"'{name_or_folder}' holds no model: config.json is missing. Give a model folder, a run folder whose "
                f"training has finished an epoch, or a hub name."
            )
        source = str(folder) if folder.is_dir() else checked_source(name_or_folder)
        what = f"'{name_or_folder}'"
        read_config(source, MODEL_TYPES, what)
        config = load_config(AutoConfig, source, what)
        transform = transform_of(source, what, config.model_type == "siglip")
        if resize is not None:
            transform = replace(transform, resize=resize)
        if size is not None:
            transform = replace(transform, size=size)
        vision: Any = config.vision_config
        if type(vision.patch_size) is not int or vision.patch_size < 1:
            raise E2FashionError(f"{what} has patch_size {vision.patch_size!r}: correct its config.json.")
        if not 1 <= transform.size <= LARGEST_SQUARE or transform.size % vision.patch_size:
            raise E2FashionError(
                f"size is {transform.size}; give a multiple of the patch size {vision.patch_size} up to "
                f"{LARGEST_SQUARE}. The model was trained at {vision.image_size}."
            )
        if config.model_type == "siglip" or (config.model_type == "clip" and transform.size != vision.image_size):
            # The same features; interpolates its positions for other resolutions.
            model: Any = E2Model.from_clip(source)
        else:
            model = load_weights(AutoModel, source, config, what)
        context_length, overflow = text_settings(config, what)
        with only_our_errors(what, "Correct text_template in its config.json."):
            text = TextTemplate(template or getattr(config, "text_template", None) or DESCRIPTION_ALONE)
        label = name or (path.name if path.name != "model" else real_path(path).parent.name)
        model = model.float().eval()  # fp32, also from a half-precision checkpoint
        encoder = cls(model, load_tokenizer(source), transform, text, label, context_length, overflow)
        check_texts(encoder, what)
        return encoder

    def save_pretrained(self, folder: str | Path, origin: str = "Trained with e2fashion") -> None:
        """Write model, processor, model card and checksums to a folder for :meth:`from_pretrained` and Transformers.

        ``origin`` is the card's sentence on where the weights come from.
        """
        folder = Path(folder)
        config: Any = self.model.config
        config.text_template = self.template.template
        config.text_context_length = self.context_length
        if self.text_overflow != getattr(config, "text_overflow", "truncate"):
            config.text_overflow = self.text_overflow
        with without_bars():
            self.model.save_pretrained(folder)
        processor = CLIPProcessor(image_processor=self.transform.to_processor(), tokenizer=self.tokenizer)
        processor.save_pretrained(folder)
        card = model_card(self.name, origin, config, self.transform, self.template.template)
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_checksums(folder)

    def to(self, device: torch.device | str) -> Encoder:
        """Move the weights to ``device``; returns the encoder."""
        cast(torch.nn.Module, self.model).to(device)
        return self

    @property
    def vision_config(self) -> Any:
        """Configuration of the image tower, including the regional part of an E2."""
        return self.model.config.vision_config

    @property
    def backbone(self) -> Literal["clip", "siglip"]:
        """Whose towers the model has."""
        return getattr(self.model.config, "backbone", "clip")

    @property
    def fusion_layers(self) -> tuple[int, ...]:
        """The layers (from 1) that are followed by a fusion block; empty without selection tokens."""
        return tuple(getattr(self.vision_config, "active_fusion_layers", ()))

    @property
    def entities(self) -> tuple[Entity, ...]:
        """The tag entities of the image encoder; empty for a plain CLIP."""
        listed = getattr(self.vision_config, "entities", None) or []
        return tuple(Entity(**entity) for entity in listed)

    @property
    def selecting_entities(self) -> tuple[Entity, ...]:
        """The entities with selection tokens."""
        return tuple(entity for entity in self.entities if entity.tokens)

    @property
    def region_score_weight(self) -> float | None:
        """The stored weight of regions in the retrieval score; None: never chosen, or a model without regions."""
        return getattr(self.model.config, "region_score_weight", None)

    @property
    def text_entities(self) -> tuple[Entity, ...]:
        """Tags that join a product's text in evaluation (EI-CLIP, our interpretation), not in :meth:`embed_texts`."""
        listed = getattr(self.model.config, "text_entities", None) or []
        return tuple(Entity(**entity) for entity in listed)

    @property
    def dimension(self) -> int:
        """Width C of the joint space."""
        config: Any = self.model.config
        return int(config.projection_dim)

    @property
    def context_length(self) -> int:
        """Maximum text length in tokens, start and end included: as in training, or that of the text encoder."""
        text_config: Any = self.model.config.text_config
        positions = int(text_config.max_position_embeddings)
        return positions if self.text_context_length is None else self.text_context_length

    @property
    def text_stretched_from(self) -> int | None:
        """Context length before the text positions were stretched; None: not stretched."""
        return getattr(self.model.config, "text_stretched_from", None)

    @property
    def compares_tokens(self) -> bool:
        """Whether the model compares patches with text tokens (FILIP) instead of one vector each."""
        return getattr(self.model.config, "similarity", "global") == "tokens"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over configuration, image transform and weights; computed at each access.

        It does not depend on the model's path or the version of Transformers that wrote it.
        """
        config = _without(self.model.config.to_dict(), NOT_IDENTITY)
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
        digest.update(repr(self.transform).encode())
        if self.transform.resample != ImageTransform.resample:
            digest.update(self.transform.resample.encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _empty(self) -> Tensor:
        """The embeddings of no items."""
        return torch.empty(0, 1, self.dimension) if self.compares_tokens else torch.empty(0, self.dimension)

    @overload
    def embed_images(self, images: ImageInputs, batch_size: int = 64, on_error: Literal["stop"] = "stop") -> Tensor: ...

    @overload
    def embed_images(self, images: ImageInputs, batch_size: int = 64, *, on_error: Literal["skip"]) -> Readable: ...

    def embed_images(
        self, images: ImageInputs, batch_size: int = 64, on_error: Literal["stop", "skip"] = "stop"
    ) -> Tensor | Readable:
        """L2-normalized embeddings (N, C) fp32 on the CPU of images or image files; a single one gives (1, C).

        Images are rotated by their EXIF tag, composited on white, resized as in training and normalized here. With
        ``on_error="skip"`` the result is a pair: the embeddings (R, C) of the R readable images in their order, and the
        reason for each skipped one by its position in ``images``.

        Raises:
            E2FashionError: a file is missing or not an image, and ``on_error`` is ``stop``.
        """
        if on_error not in ("stop", "skip"):
            raise E2FashionError(f"on_error is '{on_error}'; give 'stop' or 'skip'")
        skipped: dict[int, str] = {}
        skipping = skipped if on_error == "skip" else None
        embeds = self._embed_images(images, batch_size, [unit_features], [self._empty()], skipping)[0]
        return (embeds, skipped) if on_error == "skip" else embeds

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Features (B, C), not normalized, of normalized squares (B, 3, S, S)."""
        features: Any = self.model.get_image_features(pixel_values=pixel_values)
        return features.pooler_output

    def embed_squares(self, squares: Tensor) -> Tensor:
        """As :meth:`embed_images` for squares made by ``transform``: uint8 (B, 3, S, S) to (B, C)."""
        with evaluating(self.model):
            return unit_features(self.model.get_image_features(pixel_values=self._pixel_values(squares)))

    def embed_regions(self, images: ImageInputs, batch_size: int = 64) -> Tensor:
        """L2-normalized region embeddings (N, E, C) fp32 on the CPU, in the order of the entities.

        Raises:
            E2FashionError: the model has no entities, or as :meth:`embed_images`.
        """
        return self._embed_images(images, batch_size, [_regions], [self._no_regions()])[0]

    def embed_images_and_regions(self, images: ImageInputs, batch_size: int = 64) -> tuple[Tensor, Tensor]:
        """The results of :meth:`embed_images` and :meth:`embed_regions` in one pass.

        Raises:
            E2FashionError: as :meth:`embed_regions`.
        """
        empty = [self._empty(), self._no_regions()]
        whole, regions = self._embed_images(images, batch_size, [unit_features, _regions], empty)
        return whole, regions

    def _no_regions(self) -> Tensor:
        """The region embeddings of no images; raises if the model has no entities."""
        if not self.entities:
            raise E2FashionError(
                f"'{self.name}' has no entities and thus no regions: give a model trained with model.entities"
            )
        return torch.empty(0, len(self.entities), self.dimension)

    def _embed_images(
        self,
        images: ImageInputs,
        batch_size: int,
        readers: Sequence[Callable[[Any], Tensor]],
        empty: Sequence[Tensor],
        skipped: dict[int, str] | None = None,
    ) -> list[Tensor]:
        """The result of each reader on the tower's output, in one pass; without images, ``empty``.

        Unreadable images are added to ``skipped`` by position; without ``skipped`` they are an error.
        """
        listed = listed_images(images)
        results = [[none] for none in empty]
        with evaluating(self.model):
            for start in range(0, len(listed), batch_size):
                squares = read_squares(listed[start : start + batch_size], self.transform, skipped, start)
                if not squares:
                    continue
                output = self.model.get_image_features(pixel_values=self._pixel_values(torch.stack(squares)))
                for parts, read in zip(results, readers, strict=True):
                    parts.append(read(output))
        return [join_items(parts) for parts in results]

    def _pixel_values(self, squares: Tensor) -> Tensor:
        return normalize(squares.to(self.model.device), self.transform.mean, self.transform.std)

    def embed_texts(self, texts: str | Sequence[str], batch_size: int = 256) -> Tensor:
        """L2-normalized embeddings (N, C) fp32 on the CPU; a single text gives (1, C).

        The template is not applied: ``encoder.template.render(tags, description)`` joins a product's tags and
        description as in training. ``text_overflow`` shortens texts of more than ``context_length`` tokens.
        """
        return self._embed_texts(texts, batch_size, unit_features, self._empty())

    def embed_tags(self, tags: str | Sequence[str], batch_size: int = 256) -> Tensor:
        """As :meth:`embed_texts` for tag strings: one vector each, (N, C), also if the model compares tokens."""
        return self._embed_texts(
            tags, batch_size, lambda output: unit_features(output.pooler_output), torch.empty(0, self.dimension)
        )

    def _embed_texts(
        self, texts: str | Sequence[str], batch_size: int, read: Callable[[Any], Tensor], empty: Tensor
    ) -> Tensor:
        listed = listed_texts(texts)
        fit = TextFitter(self.tokenizer, self.context_length, self.text_overflow)
        parts = [empty]
        with evaluating(self.model):
            for start in range(0, len(listed), batch_size):
                rows = [text.ids for text in fit(listed[start : start + batch_size])]
                ids, mask = (part.to(self.model.device) for part in pad_ids(rows, self.tokenizer.pad_token_id))
                parts.append(read(self.model.get_text_features(input_ids=ids, attention_mask=mask)))
        return join_items(parts)


#: :meth:`Encoder.from_pretrained` as a function. ``e2fashion.load`` is different: the interface of OpenAI's ``clip``.
load_encoder = Encoder.from_pretrained


def check_texts(encoder: Encoder, what: str) -> None:
    """Refuse an encoder that does not distinguish two texts by their token ids and embeddings.

    Raises:
        E2FashionError: see :func:`e2fashion.models.tokenizer.check_token_ids`; or both embeddings are equal.
    """
    config: Any = encoder.model.config
    check_token_ids(encoder.tokenizer, config.text_config, what, encoder.backbone)
    first, second = two_texts(encoder.tokenizer)
    with only_our_errors(what, "Give a model whose text encoder works."):
        embeds = encoder.embed_tags([first, second])
    if not bool(torch.isfinite(embeds).all()) or bool((embeds[0] - embeds[1]).abs().max() <= SAME):
        raise E2FashionError(
            f"{what} gives the texts '{first}' and '{second}' equal embeddings: its training diverged, or its "
            "tokenizer, text configuration and weights do not match. Give another model."
        )


def _regions(output: Any) -> Tensor:
    """The region embeddings (B, E, C) of an image tower's output."""
    return unit_features(output.region_features)


def _without(values: Any, keys: Sequence[str]) -> Any:
    """A nested mapping without some keys and without later fields at their default, at any depth."""
    if not isinstance(values, dict):
        return values
    kept = {key: value for key, value in values.items() if key not in keys}
    return {
        key: _without(value, keys)
        for key, value in kept.items()
        if not (key in JOINED_LATER and value == JOINED_LATER[key])
    }


@dataclass(frozen=True)
class EncoderIdentity:
    """Identifies an encoder: its name for messages, the fingerprint of its weights, its dimension C."""

    name: str
    fingerprint: str
    dimension: int


def require_single_vectors(encoder: Encoder, task: str) -> None:
    """Raise an E2FashionError for an encoder that compares tokens: ``task`` needs one vector per item."""
    if encoder.compares_tokens:
        raise E2FashionError(
            f"'{encoder.name}' compares tokens (FILIP), but {task} needs one vector per item: give a model with "
            "similarity 'global'"
        )
