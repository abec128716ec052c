"""Captions of images by a trained decoder, or by the nearest caption of its support memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from e2fashion.arithmetic import build_device, set_threads
from e2fashion.config import load_config
from e2fashion.data.image_files import image_files
from e2fashion.encoder import Encoder, EncoderIdentity, require_single_vectors
from e2fashion.hub import StoredSource
from e2fashion.measuring import load_named_encoder
from e2fashion.options import check_schema
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.captioning.config import (
    CaptionRunConfig,
    CaptionTrainConfig,
    Decoding,
    PromptSource,
    Reading,
    TrainedDecoder,
)
from e2fashion.tasks.captioning.decoder import CaptionDecoder, generate
from e2fashion.tasks.captioning.memory import (
    SupportMemory,
    check_same_encoder,
    checked_embeds,
    load_memory,
    nearest,
    predicted_prompts,
    project,
)
from e2fashion.tasks.captioning.storage import FACTS_FILE, StoredDecoder, load_decoder
from e2fashion.tasks.captioning.tokens import CaptionTokens
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class NearestCaption:
    """The caption of the memory whose text is nearest to the image (CLIPRe): nothing is trained."""

    memory: SupportMemory

    def caption(self, image_embeds: Tensor, prompts: Sequence[str] | None = None, progress: bool = False) -> list[str]:
        """A caption of the memory for each of ``image_embeds`` (N, C); prompts play no part."""
        rows = nearest(checked_embeds(image_embeds, self.memory.encoder.name), self.memory.embeds)
        return [self.memory.captions[row] for row in rows.tolist()]


@dataclass(frozen=True)
class Captioner:
    """A decoder, and ``bridge``, which maps image embeddings (N, C) to the embeddings that it continues."""

    decoder: CaptionDecoder
    tokens: CaptionTokens
    bridge: Callable[[Tensor], Tensor]
    decoding: Decoding
    encoder: str

    def caption(self, image_embeds: Tensor, prompts: Sequence[str] | None = None, progress: bool = False) -> list[str]:
        """A caption for each of ``image_embeds`` (N, C), with ``prompts`` (N) if given; on the decoder's device."""
        embeds = self.bridge(checked_embeds(image_embeds, self.encoder))
        before = self.tokens.prompts(prompts if prompts is not None else [""] * len(embeds))
        settings, training = self.decoding, self.decoder.training
        self.decoder.eval()
        captions: list[str] = []
        with progress_bar(total=len(embeds), desc="captions", unit="image", shown=progress) as bar:
            for start in range(0, len(embeds), settings.batch_size):
                rows = slice(start, start + settings.batch_size)
                ids = generate(
                    self.decoder,
                    embeds[rows],
                    before[rows],
                    self.tokens.start,
                    self.tokens.ends,
                    self.tokens.length if settings.length is None else settings.length,
                    settings.beams,
                    settings.length_penalty,
                )
                captions += self.tokens.texts(ids)
                bar.update(len(ids))
        self.decoder.train(training)
        return captions


AnyCaptioner = Captioner | NearestCaption


@dataclass(frozen=True)
class OpenedDecoder:
    """A decoder with its encoder and its memory, each checked against the others; ``run`` is its folder."""

    run: RunFolder
    stored: StoredDecoder
    memory: SupportMemory
    encoder: Encoder

    @classmethod
    def of(cls, run: RunFolder, stored: StoredDecoder, encoder: Encoder) -> OpenedDecoder:
        """Load the memory, and compare encoders.

        Raises:
            E2FashionError: the decoder is of another encoder (both are named), or its memory is missing.
        """
        identity = identity_of_encoder(encoder)
        check_same_encoder(f"the caption decoder {run.path}", stored.facts.encoder, identity)
        memory = os.path.normpath(decoder_folder(run.path) / stored.facts.memory)
        return cls(run, stored, load_memory(Path(memory), identity), encoder)

    def captioner(self, reading: Reading, decoding: Decoding) -> AnyCaptioner:
        """What captions images by ``reading``.

        Raises:
            E2FashionError: an unknown reading, ``shifted`` without an offset, or a number out of range.
        """
        longest = self.stored.facts.length
        for name in ("length", "beams", "batch_size"):
            value = getattr(decoding, name)
            if value is not None and value < 1:
                raise E2FashionError(f"{name} is {value}; give a number from 1.")
        if decoding.length is not None and decoding.length > longest:
            raise E2FashionError(
                f"length is {decoding.length}, but the decoder was trained for captions of {longest} tokens."
            )
        if reading == "nearest":
            return NearestCaption(self.memory)
        name = self.stored.facts.encoder.name
        return Captioner(
            self.stored.decoder, self.stored.tokens, self._bridge(reading, decoding.temperature), decoding, name
        )

    def prompt_from_image(self, source: PromptSource) -> list[str]:
        """The entities whose tags in a prompt are those nearest to the whole image, not to its region.

        Raises:
            E2FashionError: ``source`` is ``regions``, and the encoder has none of an entity.
        """
        tags = self.stored.facts.prompt_tags
        without = [entity for entity in tags if entity not in [known.name for known in self.encoder.entities]]
        if source == "regions" and without:
            raise E2FashionError(
                f"prompt_from is 'regions', but '{self.encoder.name}' has no region of '{without[0]}': write "
                "prompt_from=image or auto."
            )
        return list(tags) if source == "image" else without

    def prompt_title(self, by_image: Sequence[str]) -> str:
        """The entities of the prompt, separated by commas, those of :meth:`prompt_from_image` last; empty without
        one."""
        by_region = [entity for entity in self.stored.facts.prompt_tags if entity not in by_image]
        of_image = f"{','.join(by_image)} of the image" if by_image else ""
        return "; ".join(filter(None, [",".join(by_region), of_image]))

    def prompts(self, embeds: Tensor, regions: Mapping[str, Tensor], by_image: Sequence[str]) -> list[str] | None:
        """For each image the tags nearest to its regions or its embedding; None for a decoder without prompts.

        ``embeds`` (N, C), ``regions`` (N, C) by entity; ``by_image`` are the entities of :meth:`prompt_from_image`.
        """
        tags = self.stored.facts.prompt_tags
        if not tags:
            return None
        features = dict(regions) | dict.fromkeys(by_image, embeds)
        return predicted_prompts(features, tags, self.encoder.embed_tags)

    def _bridge(self, reading: Reading, temperature: float) -> Callable[[Tensor], Tensor]:
        if reading == "direct":
            return lambda embeds: embeds
        if reading == "project":
            return lambda embeds: project(embeds, self.memory.embeds, temperature)
        if reading != "shifted":
            raise E2FashionError(f"reading is '{reading}'; choose project, direct, shifted or nearest.")
        offset = self.stored.offset
        if offset is None:
            raise E2FashionError(
                "reading=shifted needs the offset between texts and images, which this decoder was trained without: "
                "train it with modality_offset=true."
            )
        return lambda embeds: shift(embeds, offset)


def shift(embeds: Tensor, offset: Tensor) -> Tensor:
    """``embeds`` (N, C) moved by ``offset`` (C,) and normalized again."""
    return F.normalize(embeds + offset, dim=-1)


def identity_of_encoder(encoder: Encoder) -> EncoderIdentity:
    """Name, fingerprint and width of an encoder that embeds an item as one vector.

    Raises:
        E2FashionError: it compares tokens.
    """
    require_single_vectors(encoder, "captioning")
    return EncoderIdentity(encoder.name, encoder.fingerprint, encoder.dimension)


def decoder_folder(run: Path) -> Path:
    """The folder of a decoder, given itself or the run that trained it."""
    return run / "model" if (run / "model" / FACTS_FILE).is_file() else run


def load_captioner(
    folder: str | Path, encoder: Encoder, reading: Reading = "project", decoding: Decoding | None = None
) -> AnyCaptioner:
    """The captioner of a run folder of ``e2fashion caption train``: ``captioner.caption(image_embeds)`` is a list.

    A decoder that was trained with prompts captions without them unless ``caption`` is given some.

    Raises:
        E2FashionError: no decoder, one of another encoder (both are named), or a memory that is missing.
    """
    run = RunFolder(Path(folder))
    opened = OpenedDecoder.of(run, load_decoder(decoder_folder(run.path)), encoder)
    return opened.captioner(reading, decoding or Decoding())


def open_decoder(config: TrainedDecoder) -> OpenedDecoder:
    """The decoder of a configuration on its device, with the encoder that it was trained for.

    Raises:
        E2FashionError: no decoder, or its encoder or its memory is missing.
    """
    set_threads(config.threads)
    device = build_device(config.accelerator)
    run = RunFolder(Path(config.decoder))
    stored = load_decoder(decoder_folder(run.path))
    path = config.encoder
    if path is None:
        if not run.config.is_file():
            raise E2FashionError(
                f"'{run.path}' does not name the folder of its encoder '{stored.facts.encoder.name}': give it as "
                "encoder=<folder>."
            )
        # Older records lack the path; the configuration has it as it was given then.
        given = {"source": load_config(CaptionTrainConfig, run.config).encoder}
        path = StoredSource.read(run.read_record().get("encoder_place") or given).find(
            run.path, f"the encoder '{stored.facts.encoder.name}' of {run.path}", "Give encoder=<folder or hub name>."
        )
    encoder = load_named_encoder(path)
    encoder.to(device)
    opened = OpenedDecoder.of(run, stored, encoder)
    stored.decoder.to(device)
    return opened


class CaptionedImage(NamedTuple):
    """An image file and its caption."""

    file: Path
    caption: str


def caption(config: CaptionRunConfig, progress: bool = True) -> list[CaptionedImage]:
    """Caption images, or all images of folders.

    Raises:
        E2FashionError: a mistake in the configuration, or a file, decoder or encoder that cannot be read.
    """
    if not config.images:
        raise E2FashionError("Give images to caption: `e2fashion caption run <decoder> <image or folder> ...`.")
    check_schema(config)
    files = image_files(map(Path, config.images))
    opened = open_decoder(config)
    captioner = opened.captioner(config.reading, config)
    by_image = opened.prompt_from_image(config.prompt_from) if isinstance(captioner, Captioner) else None
    regions: dict[str, Tensor] = {}
    if by_image is not None and len(by_image) < len(opened.stored.facts.prompt_tags):
        embeds, embedded = opened.encoder.embed_images_and_regions(files, config.batch_size)
        regions = dict(zip((entity.name for entity in opened.encoder.entities), embedded.unbind(1), strict=True))
    else:
        embeds = opened.encoder.embed_images(files, config.batch_size)
    prompts = None if by_image is None else opened.prompts(embeds, regions, by_image)
    captions = captioner.caption(embeds, prompts, progress)
    return [CaptionedImage(*pair) for pair in zip(files, captions, strict=True)]
