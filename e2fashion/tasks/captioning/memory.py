"""A support memory: the captions of training as text embeddings, computed once and memory-mapped, and its lookups.

Its entries come from a catalogue's products, whose tags may be prompts (ViECap's idea).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.disk import DamagedError, atomic_folder, check_files, list_files, read_json, recover, seal, write_json
from e2fashion.encoder import EncoderIdentity
from e2fashion.similarity import is_tokenwise
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to L2-normalized embeddings (N, C), as ``Encoder.embed_texts``."""

FORMAT = 1
DESCRIPTION_FILE, EMBEDS_FILE, CAPTIONS_FILE = "memory.json", "embeds.npy", "captions.json"
REMEDY = "Delete the folder of the memory, and train the decoder again."
BATCH = 256
MAXIMUM = 500_000
"""The most captions of a memory (DeCap)."""
QUERY_CHUNK, MEMORY_CHUNK = 256, 16_384


@dataclass(frozen=True)
class SupportMemory:
    """``embeds`` (N, C) fp32, L2-normalized, memory-mapped, and their ``captions``; rows are distinct.

    An embedded text may hold more than its caption: a product's tags and description, say.
    """

    embeds: Tensor
    captions: tuple[str, ...]
    encoder: EncoderIdentity

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class MemoryEntry:
    """``text`` is what the encoder embeds, ``caption`` what is generated."""

    text: str
    caption: str


def distinct_entries(entries: Iterable[MemoryEntry], maximum: int = MAXIMUM) -> list[MemoryEntry]:
    """Entries with a text and a caption, each once, in order; of more than ``maximum`` a seeded sample.

    Raises:
        E2FashionError: there are none, or ``maximum`` is below 1.
    """
    if maximum < 1:
        raise E2FashionError(f"memory_size is {maximum}; give a number from 1.")
    distinct = list(dict.fromkeys(entry for entry in entries if entry.text.strip() and entry.caption.strip()))
    if not distinct:
        raise E2FashionError(
            "There are no captions: the split is empty, or every caption is. Choose another catalogue, or a caption "
            "template whose columns are filled, as in caption={description}."
        )
    if len(distinct) <= maximum:
        return distinct
    chosen = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(0))[:maximum].sort().values
    return [distinct[row] for row in chosen.tolist()]


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

    Each distinct text is embedded once and written batch by batch.

    Raises:
        E2FashionError: an encoder that compares tokens.
    """
    path = folder / memory_key(entries, encoder)
    if (path / DESCRIPTION_FILE).is_file():
        try:
            return load_memory(path, encoder)
        except DamagedError as damage:
            logger.warning("%s It is embedded again.", damage)
    with atomic_folder(path) as partial:
        _write(partial, entries, encoder, embed_texts, progress)
    return load_memory(path, encoder)


def load_memory(path: Path, encoder: EncoderIdentity) -> SupportMemory:
    """The memory of one folder, memory-mapped.

    Raises:
        E2FashionError: it is missing or damaged, or was made with another encoder (both are named).
    """
    recover(path)
    about = read_json(path / DESCRIPTION_FILE, REMEDY)
    try:
        check_files(path, about.get("files", {}), REMEDY)
        captions = tuple(json.loads((path / CAPTIONS_FILE).read_text(encoding="utf-8")))
        # Copy on write: PyTorch requires writable memory, and the file stays as it is.
        mapped = np.load(path / EMBEDS_FILE, mmap_mode="c", allow_pickle=False)
        made_with, version = EncoderIdentity(**about["encoder"]), int(about["format"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"The support memory {path} cannot be read ({error}). {REMEDY}") from error
    if version != FORMAT or mapped.shape != (len(captions), made_with.dimension):
        raise DamagedError(f"The support memory {path} is damaged or of another version. {REMEDY}")
    check_same_encoder(f"the support memory {path}", made_with, encoder)
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
    """``embeds`` (N, C) L2-normalized fp32 on the CPU; an error for tokens (N, T, C)."""
    if is_tokenwise(embeds):
        raise E2FashionError(
            f"The encoder '{encoder}' compares tokens and has no single vector per image and text, which captioning "
            "needs. Give an encoder of one vector each: a CLIP, CLIP-FT or E2."
        )
    return F.normalize(embeds.float(), dim=-1).cpu()


def project(embeds: Tensor, memory: Tensor, temperature: float = 100.0) -> Tensor:
    """Embeddings moved into the space of texts: normalize(softmax(temperature * v M^T) M) (DeCap).

    ``embeds`` (N, C) and ``memory`` (M, C) are L2-normalized; returns (N, C), L2-normalized. This is attention, of
    which PyTorch keeps nothing of size (N, M) in memory.
    """
    queries, values = embeds[None, None], memory.to(embeds.device)[None, None]
    return F.normalize(F.scaled_dot_product_attention(queries, values, values, scale=temperature)[0, 0], dim=-1)


def nearest(embeds: Tensor, memory: Tensor, query_chunk: int = QUERY_CHUNK, memory_chunk: int = MEMORY_CHUNK) -> Tensor:
    """The row of ``memory`` (M, C) nearest to every row of ``embeds`` (N, C), the first of equal ones: (N,) int64."""
    parts = []
    for rows in embeds.split(query_chunk):
        best = torch.full((len(rows),), -torch.inf, device=rows.device)
        best_row = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        for start in range(0, len(memory), memory_chunk):
            score, row = (rows @ memory[start : start + memory_chunk].to(rows.device).T).max(1)
            best_row = torch.where(score > best, row + start, best_row)
            best = torch.maximum(score, best)
        parts.append(best_row)
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


def _write(
    folder: Path, entries: Sequence[MemoryEntry], encoder: EncoderIdentity, embed_texts: EmbedTexts, progress: bool
) -> None:
    if not entries:
        raise E2FashionError("There are no captions for a memory: give some.")
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


@dataclass(frozen=True)
class ProductTexts:
    """The distinct texts and captions of a product's views, and its tags as a prompt."""

    product_id: str
    entries: tuple[MemoryEntry, ...]
    prompt: str = ""

    @property
    def captions(self) -> tuple[str, ...]:
        """Its distinct captions."""
        return tuple(dict.fromkeys(entry.caption for entry in self.entries))


def product_texts(
    catalogue: Catalogue, split: str, caption: TextTemplate, text: TextTemplate, prompt_columns: Sequence[str] = ()
) -> list[ProductTexts]:
    """Every product of a split in its order; one without a caption has no entries.

    Raises:
        E2FashionError: a template or the prompt names a column that the catalogue lacks.
    """
    for template in (caption, text):
        template.validate(catalogue.tag_columns)
    if unknown := [column for column in prompt_columns if column not in catalogue.tag_columns]:
        raise E2FashionError(
            f"The prompt reads the column '{unknown[0]}', which the catalogue {catalogue.path} lacks. Its columns: "
            f"{', '.join(catalogue.tag_columns)}."
        )
    columns = sorted({*caption.columns, *text.columns, *prompt_columns})
    entries: dict[str, dict[MemoryEntry, None]] = {}
    prompts: dict[str, str] = {}
    for row in catalogue.split(split).select_columns(["product_id", DESCRIPTION, *columns]):
        product, rendered = row["product_id"], caption.render(row, row[DESCRIPTION]).strip()
        of_product = entries.setdefault(product, {})
        if rendered:
            of_product.setdefault(MemoryEntry(text.render(row, row[DESCRIPTION]), rendered))
        prompts.setdefault(product, join_tags([row[column] for column in prompt_columns]))
    return [ProductTexts(product, tuple(listed), prompts[product]) for product, listed in entries.items()]


def training_tags(catalogue: Catalogue, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The distinct tags of train by entity (its column), sorted.

    Raises:
        E2FashionError: a column without a tag.
    """
    tags = {}
    for entity, column in columns.items():
        tags[entity] = sorted({tag.strip() for tag in catalogue.split("train")[column] if tag and tag.strip()})
        if not tags[entity]:
            raise E2FashionError(f"The column '{column}' of train holds no tag: leave '{entity}' out of the prompt.")
    return tags


def prompt_columns(entities: Sequence[str], columns: Mapping[str, str], catalogue: Catalogue) -> dict[str, str]:
    """The tag column of each entity of a prompt: that of the encoder's entity (``columns``), or the one of its name.

    Raises:
        E2FashionError: there is neither.
    """
    for entity in entities:
        if entity not in columns and entity not in catalogue.tag_columns:
            has = f"its entities are {', '.join(columns)}" if columns else "it has no entities"
            raise E2FashionError(
                f"prompt_entities names '{entity}', which is neither an entity of the encoder ({has}) nor a tag column "
                f"of {catalogue.path} ({', '.join(catalogue.tag_columns)}). Leave it out."
            )
    return {entity: columns.get(entity, entity) for entity in entities}


def join_tags(tags: Sequence[str | None]) -> str:
    """The tags that are not missing, in order, as one prompt; empty without any."""
    return ", ".join(tag.strip() for tag in tags if tag and tag.strip())


def predicted_prompts(
    features: Mapping[str, Tensor], tags: Mapping[str, Sequence[str]], embed_tags: EmbedTexts
) -> list[str]:
    """One prompt per image: for each entity of ``tags``, in order, the tag nearest to the image's feature.

    ``features`` (N, C), L2-normalized, by entity: its regions, or the images' embeddings.
    """
    columns = []
    for entity, values in tags.items():
        rows = nearest(features[entity], embed_tags(values))
        columns.append([values[row] for row in rows.tolist()])
    return [join_tags(row) for row in zip(*columns, strict=True)]
