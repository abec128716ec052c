"""A trained decoder with the encoder it was trained for: pictures told in three lines."""

from __future__ import annotations

import os
from pathlib import Path

from e2fashion.encoder import Encoder, EncoderIdentity, require_single_vectors
from e2fashion.tasks.captioning.captioner import Captioner, CaptionsPictures, NearestCaption
from e2fashion.tasks.captioning.generate import Decoding
from e2fashion.tasks.captioning.memory import SupportMemory, check_same_encoder, load_memory
from e2fashion.tasks.captioning.projection import TEMPERATURE
from e2fashion.tasks.captioning.readings import NEAREST, ReadingMaterial, reading_named
from e2fashion.tasks.captioning.storage import FACTS_FILE, StoredDecoder, load_decoder


def identity_of_encoder(encoder: Encoder) -> EncoderIdentity:
    """Name, fingerprint and width of an encoder that embeds an item as one vector.

    Raises:
        E2FashionError: it compares tokens.
    """
    require_single_vectors(encoder, "captioning")
    return EncoderIdentity(encoder.name, encoder.fingerprint, encoder.dimension)


def decoder_folder(place: Path) -> Path:
    """The folder of a decoder, given itself or the run that trained it."""
    return place / "model" if (place / "model" / FACTS_FILE).is_file() else place


def memory_place(stored: StoredDecoder, folder: Path) -> Path:
    """Where the support memory of a decoder's folder lies."""
    return Path(os.path.normpath(folder / stored.facts.memory))


def captioner_of(
    stored: StoredDecoder,
    memory: SupportMemory,
    reading: str = "project",
    temperature: float = TEMPERATURE,
    decoding: Decoding | None = None,
    batch_size: int = 64,
) -> CaptionsPictures:
    """What tells pictures by ``reading``: a :class:`Captioner`, or for ``nearest`` the memory alone.

    Raises:
        E2FashionError: an unknown reading, or ``shifted`` of a decoder without an offset.
    """
    if reading == NEAREST:
        return NearestCaption(memory)
    material = ReadingMaterial(memory, temperature, stored.offset)
    return Captioner(
        decoder=stored.decoder,
        tokens=stored.tokens,
        reading=reading_named(reading, material),
        decoding=decoding or Decoding(stored.facts.length),
        encoder=stored.facts.encoder.name,
        batch_size=batch_size,
    )


def load_captioner(
    place: str | Path,
    encoder: Encoder,
    reading: str = "project",
    temperature: float = TEMPERATURE,
    decoding: Decoding | None = None,
) -> CaptionsPictures:
    """The captioner of a run folder of ``e2fashion caption train``: ``captioner.caption(image_embeds)`` is a list.

    A decoder that was trained behind prompts tells without them here; see :class:`Captioner`.

    Raises:
        E2FashionError: no decoder, one of another encoder (both are named), or a memory that is gone.
    """
    folder = decoder_folder(Path(place))
    stored, identity = load_decoder(folder), identity_of_encoder(encoder)
    check_same_encoder(f"the caption decoder {place}", stored.facts.encoder, identity)
    memory = load_memory(memory_place(stored, folder), identity)
    return captioner_of(stored, memory, reading, temperature, decoding)
