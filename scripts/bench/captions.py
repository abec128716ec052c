"""Greedy decoding of captions with keys and values kept, against computing every token anew."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.tasks.captioning.config import CaptionModelConfig
from e2fashion.tasks.captioning.decoder import CaptionDecoder, build_language_model, build_prefix, generate
from scripts.bench.harness import Context, Result, compare, interleave

TARGET = 5.0
LENGTH = 60
CAPTIONS, DIMENSION, VOCABULARY = 16, 512, 49_408


@dataclass(frozen=True)
class Captions:
    """A decoder of random weights, and embeddings (N, C) to caption with ``length`` tokens each: none ends early."""

    decoder: CaptionDecoder
    embeds: Tensor
    length: int
    start: int
    end: int

    def cached(self) -> list[list[int]]:
        """As the captioner does it."""
        prompts: list[list[int]] = [[] for _ in self.embeds]
        return generate(self.decoder, self.embeds, prompts, self.start, [self.end], self.length)

    @torch.inference_mode()
    def uncached(self) -> list[list[int]]:
        """The whole caption through the language model for every token, the last state alone through its head."""
        ids = torch.full((len(self.embeds), 1), self.start)
        prefix = self.decoder.prefix(self.embeds)
        for _ in range(self.length):
            inputs = torch.cat([prefix, self.decoder.embed_tokens(ids)], dim=1)
            output = self.decoder.language_model(inputs_embeds=inputs, use_cache=False, logits_to_keep=1)
            ids = torch.cat([ids, output.logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        rows: list[list[int]] = ids[:, 1:].tolist()
        return rows


def draw(
    shape: CaptionModelConfig,
    captions: int = CAPTIONS,
    length: int = LENGTH,
    dimension: int = DIMENSION,
    vocabulary: int = VOCABULARY,
) -> Captions:
    """Random weights and embeddings; the last id of the vocabulary is the end token."""
    torch.manual_seed(0)
    start, end = vocabulary - 2, vocabulary - 1
    model = build_language_model(shape, vocabulary, length + 2, start, end)
    decoder = CaptionDecoder(build_prefix(dimension, shape.width), model).eval()
    with torch.no_grad():
        model.transformer.wte.weight[end] = 0.0  # its logit is 0, and the largest of many is not
    embeds = torch.nn.functional.normalize(torch.randn(captions, dimension), dim=-1)
    return Captions(decoder, embeds, length, start, end)


def captions(context: Context) -> list[Result]:
    """Time both on DeCap's decoder."""
    drawn = draw(CaptionModelConfig())
    timing = interleave({"uncached": drawn.uncached, "cached": drawn.cached}, max(1, context.turns // 2))
    detail = (
        f"DeCap's decoder (4 layers, width 768, {VOCABULARY:,} tokens), {CAPTIONS} captions at once; cached "
        f"{timing.median('cached'):.2f} s, uncached {timing.median('uncached'):.2f} s"
    )
    claim = f"greedy decoding of {LENGTH} tokens, cached against uncached"
    return [compare("captions", claim, timing, ("uncached", "cached"), detail, at_least=TARGET)]
