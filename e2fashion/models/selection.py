"""Selection tokens and the fusion blocks with which they pick the image patches worth reading."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from e2fashion.types import E2FashionError, Entity, Selection


class SelectionTokens(nn.Module):
    """The learnable tokens, one parameter (K, D) per entity that has any, under the entity's name."""

    def __init__(self, entities: Sequence[Entity], width: int) -> None:
        super().__init__()
        for entity in entities:
            if entity.tokens:
                self.register_parameter(entity.name, nn.Parameter(torch.empty(entity.tokens, width)))

    def forward(self, batch_size: int) -> Tensor:
        """All tokens in the order of the entities: (B, S, D)."""
        tokens = torch.cat(list(self.parameters()), dim=0)
        return tokens.expand(batch_size, -1, -1)


@dataclass(frozen=True)
class NoiseSource:
    """Random numbers of one forward pass, from ``generator`` (None: the global one).

    The pass has the rows from ``first`` of a batch of ``total`` rows (None: the whole batch): all rows are drawn, so
    that a batch in chunks has the noise of the same batch in one piece.
    """

    generator: torch.Generator | None = None
    first: int = 0
    total: int | None = None

    def exponential(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Standard exponential samples, float32."""
        return self._rows(self._empty(shape, device).exponential_(generator=self.generator), shape)

    def uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Samples of [0, 1), float32."""
        return self._rows(self._empty(shape, device).uniform_(generator=self.generator), shape)

    def _empty(self, shape: Sequence[int], device: torch.device) -> Tensor:
        return torch.empty(shape[0] if self.total is None else self.total, *shape[1:], device=device)

    def _rows(self, drawn: Tensor, shape: Sequence[int]) -> Tensor:
        return drawn[self.first : self.first + shape[0]]


class SelectionNoise:
    """Where the noise of training comes from: PyTorch's global generator, or a key of whole numbers.

    With a key, the n-th forward pass after :meth:`seed` always draws the same noise on one kind of device, whatever
    else draws random numbers. Holds numbers only, so a model that owns one can be copied and pickled.
    """

    def __init__(self) -> None:
        self.key: tuple[int, ...] = ()
        self.passes = 0
        self._chunk: tuple[int, int] | None = None

    def seed(self, *key: int) -> None:
        """Restart from ``key`` (such as seed, step and rank; not negative); no key: the global generator."""
        if any(number < 0 for number in key):
            raise E2FashionError(f"the key {key} of the selection noise must not hold negative numbers")
        self.key, self.passes = key, 0

    @contextmanager
    def of_chunk(self, first: int, total: int) -> Iterator[None]:
        """Forward passes within have the rows from ``first`` of a batch of ``total``; they count as no pass."""
        self._chunk = (first, total)
        try:
            yield
        finally:
            self._chunk = None

    def source(self, device: torch.device) -> NoiseSource:
        """The noise of the next forward pass."""
        chunk = self._chunk or (0, None)
        if not self.key:
            return NoiseSource(None, *chunk)
        state = np.random.SeedSequence([*self.key, self.passes]).generate_state(1, np.uint64)
        self.passes += self._chunk is None
        return NoiseSource(torch.Generator(device).manual_seed(int(state[0])), *chunk)


def gumbel_noise(shape: Sequence[int], device: torch.device, source: NoiseSource = NoiseSource()) -> Tensor:
    """Standard Gumbel samples, float32."""
    return -source.exponential(shape, device).clamp_min(torch.finfo(torch.float32).tiny).log()


def best_patches(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` patches with the highest scores: (..., P) to (..., count), int64."""
    if count > scores.shape[-1]:
        raise E2FashionError(
            f"patches_per_token={count} but the image has {scores.shape[-1]} patches; lower it or raise the resolution"
        )
    return scores.argmax(-1, keepdim=True) if count == 1 else scores.topk(count, dim=-1).indices


def straight_through(selected: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Equal weights on the selected patches, with the gradient of the softmax (Gumbel-softmax when scores are noisy).

    ``selected`` (..., k) and ``scores`` (..., P) give weights (..., P) that sum to one.
    """
    hard = torch.zeros_like(scores).scatter_(-1, selected, 1.0 / selected.shape[-1])
    if not (torch.is_grad_enabled() and scores.requires_grad):
        return hard
    soft = torch.softmax(scores / temperature, dim=-1)
    return hard + (soft - soft.detach())  # the bracket is exactly zero: the value stays the hard one


def drawn_scores(token_keys: Sequence[Sequence[int]], like: Tensor) -> Tensor:
    """A random number per token and patch, from the token's key alone, on the device of ``like`` (B, S, P): its shape,
    fp32."""
    rows = [np.random.default_rng(key).random(like.shape[-1], dtype=np.float32) for key in token_keys]
    return torch.from_numpy(np.stack(rows)).to(like.device).expand(like.shape[0], -1, -1)


@dataclass
class Fusion:
    """What a fusion block yields: new tokens (B, S, D), the selected patches (B, S, k), best first, and on request
    the noise-free probabilities (B, S, P)."""

    tokens: Tensor
    selected: Tensor
    probabilities: Tensor | None = None


class FusionBlock(nn.Module):
    """Selection tokens read the patches that they pick; CLS and patches are not changed (official code).

    Scores are ``(tokens Wq) . (patches Wk) / sqrt(D)`` in float32 under any autocast, for a rounded score can flip a
    choice. Each token becomes the mean of itself and the ``Wv`` projection of its patches: here of the best ones, with
    the gradient of the softmax. A subclass scores or weighs patches in another way; :data:`FUSION_BLOCKS` names it.
    """

    compares: ClassVar[bool] = True
    """Whether the scores compare tokens with patches, which takes ``Wq`` and ``Wk``."""

    def __init__(
        self,
        width: int,
        temperature: float = 1.0,
        patches_per_token: int = 1,
        entities: Sequence[Entity] = (),
        salt: int = 0,
        key_gradient: bool = True,
    ) -> None:
        super().__init__()
        self.temperature = float(temperature)
        self.patches_per_token = patches_per_token
        self.key_gradient = key_gradient
        self.token_keys = [
            [zlib.crc32(f"{entity.name}/{token}".encode()), salt]
            for entity in entities
            for token in range(entity.tokens)
        ]
        self.fixed = [entity.fixed and self.compares for entity in entities for _ in range(entity.tokens)]
        if self.compares:
            self.query = nn.Linear(width, width, bias=False)
            self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def scores(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """How well each patch answers each token: (B, S, D) and (B, P, D) to (B, S, P), float32, no noise."""
        with torch.autocast(tokens.device.type, enabled=False):
            queries = F.linear(tokens.float(), self.query.weight.float())
            # q . (Wk p) = (q Wk) . p: the few tokens are projected instead of the many patches.
            queries = queries @ self.key.weight.float()
            return queries @ rearrange(patches.float(), "b p d -> b d p") * tokens.shape[-1] ** -0.5

    def with_noise(self, scores: Tensor, source: NoiseSource) -> Tensor:
        """The scores (B, S, P) of a training step, with noise from ``source``."""
        return scores + gumbel_noise(scores.shape, scores.device, source)

    def weights(self, scores: Tensor, selected: Tensor) -> Tensor:
        """The share of each patch in what a token reads: (B, S, P), of the ``selected`` ones (B, S, k)."""
        return straight_through(selected, scores, self.temperature)

    def probabilities(self, scores: Tensor) -> Tensor:
        """How probable each patch is to be read without noise: (B, S, P)."""
        return torch.softmax(scores / self.temperature, dim=-1)

    def forward(
        self,
        tokens: Tensor,
        patches: Tensor,
        noise: NoiseSource | None = None,
        output_probabilities: bool = False,
        values: Tensor | None = None,
    ) -> Fusion:
        """Fuse (B, S, D) tokens with (B, P, D) patches; ``noise`` is that of a training step.

        The scores compare tokens with ``patches``; what is read are the ``values`` (B, P, D) of the chosen patches,
        by default the same states.
        """
        values = patches if values is None else values
        clean = self.scores(tokens, patches if self.key_gradient else patches.detach())
        if any(self.fixed):
            clean = self._at_fixed_places(clean)
        scores = clean if noise is None else self.with_noise(clean, noise)
        selected = best_patches(scores, self.patches_per_token)
        # Weighting before projecting is the same (Wv is linear) and projects S rows instead of P.
        read = self.value(self.weights(scores, selected).to(values.dtype) @ values)
        return Fusion((read + tokens) / 2, selected, self.probabilities(clean) if output_probabilities else None)

    def _at_fixed_places(self, scores: Tensor) -> Tensor:
        """The scores (B, S, P) where tokens of fixed entities can only choose the patches that were drawn for them."""
        places = best_patches(drawn_scores(self.token_keys, scores), self.patches_per_token)
        only = torch.full_like(scores, -torch.inf).scatter_(-1, places, 0.0)
        return torch.where(rearrange(torch.tensor(self.fixed, device=scores.device), "s -> s 1"), only, scores)


class SoftFusion(FusionBlock):
    """A token reads a mixture of all patches (an ablation, ours)."""

    def weights(self, scores: Tensor, selected: Tensor) -> Tensor:
        """The softmax of the scores."""
        return self.probabilities(scores)


class RandomFusion(FusionBlock):
    """A token reads any patch (a control, ours): each has the same chance, and there are no ``Wq`` and ``Wk``.

    Outside training, and in training without noise, the draw depends on the token and on ``salt`` alone.
    """

    compares: ClassVar[bool] = False

    def scores(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Numbers drawn for each token, equal for all images: (B, S, P)."""
        return drawn_scores(self.token_keys, patches.new_empty(patches.shape[0], tokens.shape[1], patches.shape[1]))

    def with_noise(self, scores: Tensor, source: NoiseSource) -> Tensor:
        """Fresh numbers."""
        return source.uniform(scores.shape, scores.device)

    def probabilities(self, scores: Tensor) -> Tensor:
        """The same for every patch."""
        return torch.full_like(scores, 1.0 / scores.shape[-1])


FUSION_BLOCKS: dict[Selection, type[FusionBlock]] = {"hard": FusionBlock, "soft": SoftFusion, "random": RandomFusion}
"""The fusion block of each kind of selection."""
