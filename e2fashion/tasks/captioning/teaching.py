"""What a decoder is taught with: captions beside the embeddings of their texts, and the decoder itself from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import GPT2LMHeadModel

from e2fashion.tasks.captioning.decoder import LABEL_SMOOTHING, CaptionDecoder, LanguageModelShape, PrefixShape
from e2fashion.tasks.captioning.memory import SupportMemory
from e2fashion.tasks.captioning.tokens import CaptionBatch, CaptionTokens
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class Lesson:
    """A row of the memory and the prompt that stands before its caption; empty: none."""

    row: int
    prompt: str = ""


class Lessons:
    """Batches of lessons by number: a memory's embeddings with its captions, split into tokens once."""

    def __init__(self, memory: SupportMemory, lessons: Sequence[Lesson], tokens: CaptionTokens) -> None:
        if not lessons:
            raise E2FashionError("There are no captions to teach with: every product's is empty.")
        self.memory = memory
        self.tokens = tokens
        self.rows = [lesson.row for lesson in lessons]
        self._captions = tokens.captions(memory.captions)
        prompts = list(dict.fromkeys(lesson.prompt for lesson in lessons))
        ids = dict(zip(prompts, tokens.prompts(prompts), strict=True))
        self._prompts = [ids[lesson.prompt] for lesson in lessons]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, numbers: Sequence[int]) -> CaptionBatch:
        """The lessons of these numbers."""
        rows = [self.rows[number] for number in numbers]
        captions = [self._captions[row] for row in rows]
        return self.tokens.batch(self.memory.embeds[rows], captions, [self._prompts[number] for number in numbers])


def build_decoder(
    tokens: CaptionTokens,
    dimension: int,
    prefix: PrefixShape,
    shape: LanguageModelShape,
    language_model: GPT2LMHeadModel | None = None,
    prompted: bool = False,
    noise_variance: float = 0.0,
    label_smoothing: float = LABEL_SMOOTHING,
) -> CaptionDecoder:
    """A decoder for embeddings of width ``dimension``; without ``language_model`` one of ``shape`` from scratch.

    Random weights come from PyTorch's global generator.

    Raises:
        E2FashionError: heads that do not divide a width, or a language model that is too short.
    """
    width = shape.width if language_model is None else language_model.config.n_embd
    if shape.width % shape.heads:
        raise E2FashionError(f"model.width is {shape.width}, which model.heads={shape.heads} does not divide.")
    if prefix.kind == "transformer" and width % prefix.heads:
        raise E2FashionError(
            f"mapper.heads is {prefix.heads}, which does not divide the language model's width {width}."
        )
    in_front = prefix.length if prefix.kind == "transformer" else 1
    positions = in_front + (tokens.prompt_length if prompted else 0) + tokens.length + 1
    if language_model is None:
        language_model = shape.build(len(tokens.tokenizer), positions, tokens.start, tokens.end)
    elif language_model.config.n_positions < positions:
        raise E2FashionError(
            f"The language model reads {language_model.config.n_positions} tokens; prefix, prompt and caption need "
            f"{positions}. Lower length={tokens.length}, prompt_length or mapper.length."
        )
    decoder = CaptionDecoder(prefix.build(dimension, width), language_model, noise_variance, label_smoothing)
    return decoder.train()  # a pretrained language model arrives in evaluation mode


def mean_rows(embeds: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """The mean of rows that may repeat: (M, C) to (1, C)."""
    counts = torch.bincount(torch.tensor(list(rows)), minlength=len(embeds)).to(embeds.dtype)
    return (counts @ embeds / counts.sum())[None]
