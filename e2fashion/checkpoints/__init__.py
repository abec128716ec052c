"""Checkpoints of others: OpenAI's CLIP, open_clip and the official E2 code, to our models and back."""

from e2fashion.checkpoints.files import StateFile, read_state_file, write_state_file
from e2fashion.checkpoints.names import Facts, clip_from_openai, to_openai
from e2fashion.checkpoints.official_e2 import OFFICIAL_ENTITIES, e2_to_official, official_e2_to_e2
from e2fashion.checkpoints.shapes import OpenAIShape, openai_shapes

__all__ = [
    "OFFICIAL_ENTITIES",
    "Facts",
    "OpenAIShape",
    "StateFile",
    "clip_from_openai",
    "e2_to_official",
    "official_e2_to_e2",
    "openai_shapes",
    "read_state_file",
    "to_openai",
    "write_state_file",
]
