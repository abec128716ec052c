"""A support memory: the captions of training as normalised text embeddings, computed once and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.disk import DamagedError, atomic_folder, check_files, list_files, read_json, recover, seal, write_json
from e2fashion.encoder import EncoderIdentity
from e2fashion.similarity import is_tokenwise
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to L2-normalised embeddings (N, C), as ``Encoder.embed_texts``."""

FORMAT = 1
DESCRIPTION_FILE, EMBEDS_FILE, CAPTIONS_FILE = "memory.json", "embeds.npy", "captions.json"
REMEDY = "Delete the folder of the memory, and train the decoder again."
BATCH = 256
MAXIMUM = 500_000
"""How many captions a memory holds at most (DeCap)."""


@dataclass(frozen=True)
class SupportMemory:
    """``embeds`` (N, C) fp32, L2-normalised, mapped from disk where it has a folder, and the ``captions`` behind them.

    What is embedded may say more than its caption: a product's tags and description, say. Rows are distinct.
    """

    embeds: Tensor
    captions: tuple[str, ...]
    encoder: EncoderIdentity

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class MemoryEntry:
    """``text`` is what the encoder embeds, ``caption`` what is told of it."""

    text: str
    caption: str


def distinct_entries(entries: Iterable[MemoryEntry], maximum: int = MAXIMUM, seed: int = 0) -> list[MemoryEntry]:
    """Entries that have a text and a caption, each once, in order; of more than ``maximum`` a seeded choice.

    Raises:
        E2FashionError: there are none, or ``maximum`` is below 1.
    """
    if maximum < 1:
        raise E2FashionError(f"memory_size is {maximum}; give a number from 1.")
    found = list(dict.fromkeys(entry for entry in entries if entry.text.strip() and entry.caption.strip()))
    if not found:
        raise E2FashionError(
            "There are no captions: the split is empty, or every caption is. Choose another catalogue, or a caption "
            "template whose columns are filled, as in caption={description}."
        )
    if len(found) <= maximum:
        return found
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:maximum].sort().values
    return [found[row] for row in chosen.tolist()]


def memory_key(entries: Sequence[MemoryEntry], encoder: EncoderIdentity) -> str:
    """Sixteen hexadecimal digits that are equal exactly for the same encoder and the same entries."""
    digest = hashlib.sha256(json.dumps([FORMAT, encoder.fingerprint]).encode())
    for entry in entries:
        digest.update(json.dumps([entry.text, entry.caption]).encode())
    return digest.hexdigest()[:16]


def open_memory(
    folder: Path,
    entries: Sequence[MemoryEntry],
    encoder: EncoderIdentity,
    embed_texts: EmbedTexts,
    progress: bool = False,
) -> SupportMemory:
    """The memory of these entries below ``folder``, embedded now if no earlier call did or if it is damaged.

    Each distinct text is embedded once, and written as it comes: main memory holds one batch.

    Raises:
        E2FashionError: an encoder that compares tokens.
    """
    place = folder / memory_key(entries, encoder)
    if (place / DESCRIPTION_FILE).is_file():
        try:
            return load_memory(place, encoder)
        except DamagedError as damage:
            logger.warning("%s It is embedded again.", damage)
    with atomic_folder(place) as partial:
        _write(partial, entries, encoder, embed_texts, progress)
    return load_memory(place, encoder)


def load_memory(place: Path, encoder: EncoderIdentity) -> SupportMemory:
    """The memory of one folder, mapped.

    Raises:
        E2FashionError: there is none, it is damaged, or another encoder's (both are named).
    """
    recover(place)
    about = read_json(place / DESCRIPTION_FILE, REMEDY)
    try:
        check_files(place, about.get("files", {}), REMEDY)
        captions = tuple(json.loads((place / CAPTIONS_FILE).read_text(encoding="utf-8")))
        # Copy on write: PyTorch wants memory that it may write to, and the file stays as it is.
        mapped = np.load(place / EMBEDS_FILE, mmap_mode="c", allow_pickle=False)
        made_with, version = EncoderIdentity(**about["encoder"]), int(about["format"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"The support memory {place} cannot be read ({error}). {REMEDY}") from error
    if version != FORMAT or mapped.shape != (len(captions), made_with.dimension):
        raise DamagedError(f"The support memory {place} is damaged or of another version. {REMEDY}")
    check_same_encoder(f"the support memory {place}", made_with, encoder)
    return SupportMemory(torch.from_numpy(mapped), captions, made_with)


def check_same_encoder(what: str, made_with: EncoderIdentity, given: EncoderIdentity) -> None:
    """Raise an E2FashionError with both names unless the two are the same encoder."""
    if made_with.fingerprint != given.fingerprint:
        raise E2FashionError(
            f"{what[0].upper()}{what[1:]} was made with the encoder '{made_with.name}' (C = {made_with.dimension}, "
            f"fingerprint {made_with.fingerprint[:12]}), not with '{given.name}' (C = {given.dimension}, "
            f"{given.fingerprint[:12]}). Give that encoder, or train a decoder for this one."
        )


def checked_embeds(embeds: Tensor, encoder: str) -> Tensor:
    """``embeds`` (N, C) L2-normalised fp32 on the CPU; an error for tokens (N, T, C)."""
    if is_tokenwise(embeds):
        raise E2FashionError(
            f"The encoder '{encoder}' compares tokens and has no one vector per picture and text, which captioning "
            "starts from. Give an encoder of one vector each: a CLIP, CLIP-FT or E2."
        )
    return F.normalize(embeds.float(), dim=-1).cpu()


def _write(
    folder: Path, entries: Sequence[MemoryEntry], encoder: EncoderIdentity, embed_texts: EmbedTexts, progress: bool
) -> None:
    if not entries:
        raise E2FashionError("There are no captions to remember: give some.")
    rows = np.lib.format.open_memmap(
        folder / EMBEDS_FILE, mode="w+", dtype=np.float32, shape=(len(entries), encoder.dimension)
    )
    of_text: dict[str, list[int]] = {}
    for row, entry in enumerate(entries):
        of_text.setdefault(entry.text, []).append(row)
    texts = list(of_text)
    with progress_bar(total=len(texts), desc="support memory", unit="text", shown=progress) as bar:
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            for text, embed in zip(batch, checked_embeds(embed_texts(batch), encoder.name).numpy(), strict=True):
                rows[of_text[text]] = embed
            bar.update(len(batch))
    rows.flush()
    captions = [entry.caption for entry in entries]
    (folder / CAPTIONS_FILE).write_text(json.dumps(captions, ensure_ascii=False), encoding="utf-8")
    about = {"format": FORMAT, "rows": len(entries), "encoder": vars(encoder), "files": list_files(folder)}
    write_json(folder / DESCRIPTION_FILE, seal(about))
