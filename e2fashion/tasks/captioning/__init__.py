"""Captioning without paired training: texts teach a decoder, pictures are told by it."""

from e2fashion.tasks.captioning.captioner import Captioner, CaptionsPictures, MostFrequentCaption, NearestCaption
from e2fashion.tasks.captioning.decoder import CaptionDecoder, LanguageModelShape, PrefixShape
from e2fashion.tasks.captioning.generate import Decoding, generate
from e2fashion.tasks.captioning.loading import load_captioner
from e2fashion.tasks.captioning.memory import (
    MemoryEntry,
    SupportMemory,
    distinct_entries,
    load_memory,
    open_memory,
)
from e2fashion.tasks.captioning.projection import nearest, project
from e2fashion.tasks.captioning.storage import DecoderFacts, StoredDecoder, load_decoder, save_decoder
from e2fashion.tasks.captioning.tokens import CaptionBatch, CaptionTokens

__all__ = [
    "CaptionBatch",
    "CaptionDecoder",
    "CaptionTokens",
    "Captioner",
    "CaptionsPictures",
    "DecoderFacts",
    "Decoding",
    "LanguageModelShape",
    "MemoryEntry",
    "MostFrequentCaption",
    "NearestCaption",
    "PrefixShape",
    "StoredDecoder",
    "SupportMemory",
    "distinct_entries",
    "generate",
    "load_captioner",
    "load_decoder",
    "load_memory",
    "nearest",
    "open_memory",
    "project",
    "save_decoder",
]
