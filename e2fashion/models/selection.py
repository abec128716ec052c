"""Selection tokens, and the fusion blocks with which they select and read image patches."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from e2fashion.models.configuration_e2 import E2VisionConfig
from e2fashion.models.selection_tokens import SubPatchReader
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
        self._chunk: tuple[int, int, int] | None = None

    def seed(self, *key: int) -> None:
        """Restart from ``key`` (such as seed, step and rank; not negative); no key: the global generator.

        Raises:
            E2FashionError: a number of ``key`` is negative.
        """
        if any(number < 0 for number in key):
            raise E2FashionError(f"the key {key} of the selection noise must not hold negative numbers")
        self.key, self.passes = key, 0

    @contextmanager
    def of_chunk(self, first: int, total: int, number: int) -> Iterator[None]:
        """Forward passes within have the rows from ``first`` of a batch of ``total``; all are its pass ``number``.

        A chunk that is computed again has the same noise, whatever was encoded in between.
        """
        self._chunk = (first, total, number)
        try:
            yield
        finally:
            self._chunk = None

    def source(self, device: torch.device) -> NoiseSource:
        """The noise of the next forward pass."""
        first, total, number = self._chunk or (0, None, self.passes)
        if not self.key:
            return NoiseSource(None, first, total)
        state = np.random.SeedSequence([*self.key, number]).generate_state(1, np.uint64)
        self.passes = max(self.passes, number + 1)
        return NoiseSource(torch.Generator(device).manual_seed(int(state[0])), first, total)


def gumbel_noise(shape: Sequence[int], device: torch.device, source: NoiseSource = NoiseSource()) -> Tensor:
    """Standard Gumbel samples, float32."""
    return -source.exponential(shape, device).clamp_min(torch.finfo(torch.float32).tiny).log()


def best_patches(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` patches with the highest scores: (..., P) to (..., count), int64.

    Raises:
        E2FashionError: ``count`` is more than P.
    """
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


class EntityGates(nn.Module):
    """One learned number () per entity that has tokens, under its name; its sigmoid is a share of each token."""

    def __init__(self, entities: Sequence[Entity]) -> None:
        super().__init__()
        for entity in entities:
            self.register_parameter(entity.name, nn.Parameter(torch.empty(())))

    def forward(self, rows: Sequence[int]) -> Tensor:
        """The shares (R, 1), where the tokens of the n-th entity have ``rows[n]`` of R rows."""
        shares = [gate.sigmoid().expand(count) for gate, count in zip(self.parameters(), rows, strict=True)]
        return torch.cat(shares)[:, None]


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """A row per head, zero outside of the D / H numbers that are the head's: (B, S, D) to (B, S * H, D)."""
    if heads == 1:
        return rows
    parts = torch.diag_embed(rearrange(rows, "b s (h d) -> b s d h", h=heads))
    return rearrange(parts, "b s d h part -> b (s h) (part d)")


def join_heads(rows: Tensor, heads: int) -> Tensor:
    """From each head's row the D / H numbers that are the head's: (B, S * H, D) to (B, S, D)."""
    if heads == 1:
        return rows
    parts = rearrange(rows, "b (s h) (part d) -> b s d h part", h=heads, part=heads)
    return rearrange(parts.diagonal(dim1=-2, dim2=-1), "b s d h -> b s (h d)")


@dataclass
class Fusion:
    """What a fusion block yields: new tokens (B, S, D), the patches that they pick (B, S, k), of each head best first,
    -1 for the null patch, and on request the noise-free probabilities (B, S, P) of the patches, the mean over heads."""

    tokens: Tensor
    selected: Tensor
    probabilities: Tensor | None = None


class FusionBlock(nn.Module):
    """Selection tokens read the patches that they pick; CLS and patches are not changed (official code).

    Scores are ``(tokens Wq) . (patches Wk) / sqrt(D)`` in float32 under any autocast, for a rounded score can flip a
    choice. Each token becomes the mean of itself and the ``Wv`` projection of its patches: here of the best ones, with
    the gradient of the softmax. A subclass scores or weighs patches in another way; :data:`FUSION_BLOCKS` names it.
    The block stands behind the ``layer``-th layer.

    Off in the official code: ``value_gate``, a learned share of each entity in which its tokens read the states that
    the scores compare instead of the values, at its start before the sigmoid; ``competition`` of the entities for each
    patch; ``null_patch``, a learned key and value (2, D) that a token may choose instead of a patch; ``score_heads``
    above 1, each of which picks patches and reads them for its part of the width; ``value_scale`` above 1, at which
    tokens also read parts of patches. Scores have R = S * H rows.
    """

    compares: ClassVar[bool] = True
    """Whether the scores compare tokens with patches, which takes ``Wq`` and ``Wk``; competition, the null patch and
    heads are for such scores alone."""

    def __init__(self, config: E2VisionConfig, layer: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.temperature = float(config.selection_temperature)
        self.patches_per_token = config.patches_per_token
        self.key_gradient = config.key_gradient
        self.value_gate = config.value_gate
        self.entities = [entity for entity in config.entity_list if entity.tokens]
        self.heads = config.score_heads if self.compares else 1
        self.token_keys = [
            [zlib.crc32(f"{entity.name}/{token}".encode()), layer]
            for entity in self.entities
            for token in range(entity.tokens)
            for _ in range(self.heads)
        ]
        self.rows = [entity.tokens * self.heads for entity in self.entities]
        self.fixed = [
            entity.fixed and self.compares
            for entity, rows in zip(self.entities, self.rows, strict=True)
            for _ in range(rows)
        ]
        # Of fixed entities alone there are no claims to share, and a softmax over none is not a number.
        self.competition = config.competition and self.compares and not all(self.fixed)
        if self.compares:
            self.query = nn.Linear(width, width, bias=False)
            self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gates = None if self.value_gate is None else EntityGates(self.entities)
        self.null_patch = nn.Parameter(torch.empty(2, width)) if config.null_patch and self.compares else None
        self.parts = SubPatchReader(width, config.value_scale, self.heads) if config.value_scale > 1 else None

    def scores(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """How well each patch answers each token: (B, S, D) and (B, P, D) to (B, R, P), float32, no noise."""
        with torch.autocast(tokens.device.type, enabled=False):
            queries = F.linear(tokens.float(), self.query.weight.float())
            # q . (Wk p) = (q Wk) . p: the few tokens are projected instead of the many patches.
            queries = split_heads(queries, self.heads) @ self.key.weight.float()
            return queries @ rearrange(patches.float(), "b p d -> b d p") * (tokens.shape[-1] // self.heads) ** -0.5

    def with_noise(self, scores: Tensor, source: NoiseSource) -> Tensor:
        """The scores (B, R, P) of a training step, with noise from ``source``."""
        return scores + gumbel_noise(scores.shape, scores.device, source)

    def weights(self, scores: Tensor, selected: Tensor) -> Tensor:
        """The share of each patch in what a token reads: (B, R, P), of the ``selected`` ones (B, R, k)."""
        return straight_through(selected, scores, self.temperature)

    def picks(self, selected: Tensor, weights: Tensor) -> Tensor:
        """The patches that a token picks, (B, S, n): those of all its heads, from ``selected`` (B, R, k) and
        ``weights`` (B, R, P)."""
        return rearrange(selected, "b (s h) k -> b s (h k)", h=self.heads)

    def picks_of(self, entity: Entity) -> int:
        """How many patches the tokens of ``entity`` pick; at fixed places all heads pick the same ones."""
        return entity.tokens * self.patches_per_token * (1 if entity.fixed else self.heads)

    def probabilities(self, scores: Tensor) -> Tensor:
        """How probable each patch is to be read without noise: (B, R, P)."""
        return torch.softmax(scores / self.temperature, dim=-1)

    def forward(
        self,
        tokens: Tensor,
        patches: Tensor,
        noise: NoiseSource | None = None,
        output_probabilities: bool = False,
        values: Tensor | None = None,
        parts: Tensor | None = None,
    ) -> Fusion:
        """Fuse (B, S, D) tokens with (B, P, D) patches; ``noise`` is that of a training step.

        The scores compare tokens with ``patches``; what is read are the ``values`` (B, P, D) of the chosen patches,
        by default the same states, and with ``value_scale`` n above 1 the ``parts`` (B, n * n, P, D / n) of them.
        """
        clean, count = self._final_scores(tokens, patches), patches.shape[1]
        scores = clean if noise is None else self.with_noise(clean, noise)
        selected = best_patches(scores, self.patches_per_token)
        weights = self.weights(scores, selected)
        read = self.value(self._read(weights, patches, patches if values is None else values))
        if self.parts is not None and parts is not None:
            read = read + self.parts(tokens, weights[..., :count], parts)
        selected = self.picks(selected, weights)
        if self.null_patch is not None:
            selected = selected.where(selected < count, -1)
        probabilities = None
        if output_probabilities:
            of_heads = self.probabilities(clean)[..., :count]
            probabilities = reduce(of_heads, "b (s h) p -> b s p", "mean", h=self.heads)
        return Fusion((join_heads(read, self.heads) + tokens) / 2, selected, probabilities)

    def _read(self, weights: Tensor, patches: Tensor, values: Tensor) -> Tensor:
        """What ``Wv`` projects: (B, R, D). Weighting before projecting is the same (Wv is linear) and projects R rows
        instead of P."""
        weights, count = weights.to(values.dtype), values.shape[1]
        read = weights[..., :count] @ values
        if self.gates is not None:
            read = torch.lerp(read, weights[..., :count] @ patches, self.gates(self.rows).to(read.dtype))
        if self.null_patch is not None:
            read = read + weights[..., count:] * self.null_patch[1]
        return read

    def _final_scores(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """The noise-free scores that patches are chosen by (B, R, P), with a null patch (B, R, P + 1)."""
        keys = patches if self.key_gradient else patches.detach()
        if self.null_patch is not None:
            keys = torch.cat([keys, self.null_patch[:1].expand(keys.shape[0], -1, -1)], dim=1)
        scores = self.scores(tokens, keys)
        scores, null = scores[..., : patches.shape[1]], scores[..., patches.shape[1] :]
        if self.competition:
            scores = self._in_competition(scores)
        if any(self.fixed):
            scores = self._at_fixed_places(scores)
            null = null.masked_fill(self._fixed_rows(scores), -torch.inf)
        return scores if self.null_patch is None else torch.cat([scores, null], dim=-1)

    def _in_competition(self, scores: Tensor) -> Tensor:
        """The scores (B, R, P) whose softmax over patches is multiplied by one over entities, as in slot attention.

        What an entity claims of a patch is the mean over its tokens, which do not compete with each other; tokens at
        fixed places claim nothing.
        """
        parts = (scores / self.temperature).split(self.rows, dim=1)
        claims = [
            torch.full_like(part[:, 0], -torch.inf) if entity.fixed else part.logsumexp(1) - math.log(part.shape[1])
            for entity, part in zip(self.entities, parts, strict=True)
        ]
        shares = torch.stack(claims, 1).log_softmax(1).unbind(1)
        joined = [part + share[:, None] for part, share in zip(parts, shares, strict=True)]
        return torch.cat(joined, 1) * self.temperature

    def _at_fixed_places(self, scores: Tensor) -> Tensor:
        """The scores (B, R, P) where tokens of fixed entities can only choose the patches that were drawn for them."""
        places = best_patches(drawn_scores(self.token_keys, scores), self.patches_per_token)
        only = torch.full_like(scores, -torch.inf).scatter_(-1, places, 0.0)
        return torch.where(self._fixed_rows(scores), only, scores)

    def _fixed_rows(self, scores: Tensor) -> Tensor:
        return rearrange(torch.tensor(self.fixed, device=scores.device), "s -> s 1")


class SoftFusion(FusionBlock):
    """A token reads a mixture of all patches (an ablation, ours)."""

    def weights(self, scores: Tensor, selected: Tensor) -> Tensor:
        """The softmax of the scores."""
        return self.probabilities(scores)

    def picks(self, selected: Tensor, weights: Tensor) -> Tensor:
        """The patches with the largest part in what a token reads: the mean of its heads' weights."""
        if self.heads == 1:
            return selected
        return best_patches(reduce(weights, "b (s h) p -> b s p", "mean", h=self.heads), self.patches_per_token)

    def picks_of(self, entity: Entity) -> int:
        """The heads have one mixture, and pick together."""
        return entity.tokens * self.patches_per_token


class RandomFusion(FusionBlock):
    """A token reads any patch (a control, ours): each has the same chance, and there are no ``Wq`` and ``Wk``.

    Outside training, and in training without noise, the draw depends on the token and on the ``layer`` alone.
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
