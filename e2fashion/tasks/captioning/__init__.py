"""Captioning without paired training: texts teach a decoder, pictures are told by it."""

from e2fashion.tasks.captioning.captioner import CaptionsPictures, MostFrequentCaption, NearestCaption
from e2fashion.tasks.captioning.memory import (
    EncoderIdentity,
    MemoryEntry,
    SupportMemory,
    distinct_entries,
    load_memory,
    open_memory,
)
from e2fashion.tasks.captioning.projection import nearest, project

__all__ = [
    "CaptionsPictures",
    "EncoderIdentity",
    "MemoryEntry",
    "MostFrequentCaption",
    "NearestCaption",
    "SupportMemory",
    "distinct_entries",
    "load_memory",
    "nearest",
    "open_memory",
    "project",
]
