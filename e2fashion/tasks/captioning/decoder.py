"""From one embedding to a text: a prefix in front of a GPT-2, as DeCap and CapDec have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from e2fashion.tasks.captioning.noise import add_noise
from e2fashion.tasks.captioning.tokens import CaptionBatch

Method = Literal["decap", "capdec"]
LABEL_SMOOTHING = 0.1


class LinearPrefix(nn.Module):
    """The embedding as one token of the language model: Linear(C -> width) (DeCap)."""

    length = 1

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dimension, width)

    def forward(self, embeds: Tensor) -> Tensor:
        """(B, C) -> (B, 1, D)."""
        return rearrange(self.projection(embeds), "b d -> b 1 d")


class TransformerPrefix(nn.Module):
    """The embedding as ``length`` tokens: Linear(C -> length * width), constants behind, transformer, the last ones.

    Layers are pre-LN with GELU and a feed-forward part of twice the width; dropout is 0 (CapDec's mapper).
    """

    def __init__(self, dimension: int, width: int, length: int = 40, layers: int = 8, heads: int = 8) -> None:
        super().__init__()
        self.length = length
        self.projection = nn.Linear(dimension, length * width)
        self.constants = nn.Parameter(torch.randn(length, width) * width**-0.5)
        layer = nn.TransformerEncoderLayer(
            width, heads, dim_feedforward=2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, embeds: Tensor) -> Tensor:
        """(B, C) -> (B, length, D)."""
        tokens = rearrange(self.projection(embeds), "b (p d) -> b p d", p=self.length)
        constants = repeat(self.constants, "p d -> b p d", b=len(embeds), p=self.length)
        return self.transformer(torch.cat([tokens, constants], dim=1))[:, self.length :]


@dataclass(frozen=True)
class PrefixShape:
    """Which prefix: ``linear`` reads nothing else, ``transformer`` all."""

    kind: Literal["linear", "transformer"] = "linear"
    length: int = 40
    layers: int = 8
    heads: int = 8

    def build(self, dimension: int, width: int) -> LinearPrefix | TransformerPrefix:
        """The module, with random weights."""
        if self.kind == "linear":
            return LinearPrefix(dimension, width)
        return TransformerPrefix(dimension, width, self.length, self.layers, self.heads)


@dataclass(frozen=True)
class LanguageModelShape:
    """A GPT-2 from scratch; the defaults are DeCap's."""

    layers: int = 4
    heads: int = 4
    width: int = 768
    dropout: float = 0.1

    def build(self, vocabulary: int, positions: int, start: int, end: int) -> GPT2LMHeadModel:
        """The model with random weights and tied embeddings."""
        config = GPT2Config(
            vocab_size=vocabulary,
            n_positions=positions,
            n_embd=self.width,
            n_layer=self.layers,
            n_head=self.heads,
            activation_function="gelu_new",  # the tanh approximation
            resid_pdrop=self.dropout,
            embd_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            bos_token_id=start,
            eos_token_id=end,
        )
        return GPT2LMHeadModel(config)


class CaptionDecoder(nn.Module):
    """A language model that goes on from an embedding, and from a prompt behind it.

    The order is prefix, prompt, start token, caption, end token. ``noise_variance`` is added per dimension in
    training, and the embedding normalised again; 0.0 adds nothing.
    """

    def __init__(
        self,
        prefix: LinearPrefix | TransformerPrefix,
        language_model: GPT2LMHeadModel,
        noise_variance: float = 0.0,
        label_smoothing: float = LABEL_SMOOTHING,
    ) -> None:
        super().__init__()
        self.prefix = prefix
        self.language_model = language_model
        self.noise_variance = noise_variance
        self.label_smoothing = label_smoothing

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.language_model.device

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, L) as the language model reads them: (B, L, D)."""
        embedded: Tensor = self.language_model.transformer.wte(ids)
        return embedded

    def forward(self, batch: CaptionBatch) -> Tensor:
        """The mean cross-entropy of the batch's target tokens, smoothed while training: ().

        In training mode noise is drawn from PyTorch's global generator.
        """
        embeds = add_noise(batch.embeds, self.noise_variance if self.training else 0.0)
        prefix = self.prefix(embeds)
        inputs = torch.cat([prefix, self.embed_tokens(batch.input_ids)], dim=1)
        mask = F.pad(batch.attention_mask, (prefix.shape[1], 0), value=True)
        hidden = self.language_model.transformer(inputs_embeds=inputs, attention_mask=mask.long()).last_hidden_state
        # The state before a token tells it; the vocabulary is only read where a token is asked for.
        asked = hidden[:, prefix.shape[1] - 1 : -1][batch.targets]
        logits = self.language_model.lm_head(asked).float()
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits, batch.input_ids[batch.targets], label_smoothing=smoothing)

    def begin(self, embeds: Tensor, prompts: Sequence[list[int]], start: int) -> tuple[Tensor, Tensor]:
        """What generation begins with, of ``embeds`` (B, C): inputs (B, L, D) and their mask (B, L) bool.

        Shorter prompts are filled up in front of the prefix, so that every row ends with its start token.
        """
        prefix = self.prefix(embeds.to(self.device))
        longest = max((len(prompt) for prompt in prompts), default=0)
        rows = []
        for tokens, prompt in zip(prefix, prompts, strict=True):
            told = self.embed_tokens(torch.tensor([*prompt, start], device=self.device))
            rows.append(F.pad(torch.cat([tokens, told]), (0, 0, longest - len(prompt), 0)))
        filled = torch.tensor([longest - len(prompt) for prompt in prompts], device=self.device)
        inputs = torch.stack(rows)
        return inputs, torch.arange(inputs.shape[1], device=self.device) >= filled[:, None]


def method_title(method: Method, scratch: bool) -> str:
    """What every table calls a decoder: CapDec without a pretrained language model is not CapDec."""
    if method == "decap":
        return "DeCap"
    return "CapDec (scratch LM)" if scratch else "CapDec"
