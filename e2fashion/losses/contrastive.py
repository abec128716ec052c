"""E2's training loss: a global image-text contrast and the mean of one contrast per tag entity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from e2fashion.losses.functional import MINIMUM_PRESENT, count_present, info_nce, sigmoid_share
from e2fashion.losses.gather import gather_rows, is_distributed, row_counts, sum_over_ranks, this_rank
from e2fashion.types import Batch, E2FashionError, LossOutput

RegionTargets = Literal["diagonal", "same_value"]

GlobalTerm = Callable[..., Tensor]
"""Maps image and text embeddings, in the shapes that a model compares, the logit scale () and, for a sigmoid loss, the
bias () to a loss ()."""


class LossTerm(Protocol):
    """A dataclass whose fields are the options of the term that it computes when called.

    ``reads_regions``: whether the term reads ``region_embeds`` of the model's output, which is None for other terms.
    Parameters that no term depends on are frozen.
    """

    reads_regions: ClassVar[bool]

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The unweighted term () of a batch, with gradient.

        ``output`` is the model's (:class:`e2fashion.models.modeling_e2.E2Output`): ``image_embeds`` and ``text_embeds``
        (B, C), ``region_embeds`` and ``tag_embeds`` (B, E, C), all L2-normalized, and ``logit_scale`` (). With several
        processes, ``output`` and ``batch`` have the products of this process.
        """
        ...


class ModelTerm(Protocol):
    """A :class:`LossTerm` that also encodes something itself: ``reads_model`` is true, and it gets the model.

    With ``reads_selection``, which may be absent, the output has ``selection_maps``.
    """

    reads_regions: ClassVar[bool]
    reads_model: ClassVar[bool]

    def __call__(self, output: Any, batch: Batch, model: Any) -> Tensor:
        """As of a :class:`LossTerm`; ``model`` is the :class:`e2fashion.models.modeling_e2.E2Model` of ``output``."""
        ...


@dataclass(frozen=True)
class WeightedTerm:
    """A term and its weight in the sum."""

    term: LossTerm | ModelTerm
    weight: float = 1.0


class ContrastiveLoss(nn.Module):
    """``(1 - w) * global + w * mean over entities``, with w = ``region_weight``.

    An entity with fewer than two tags in the batch (of all ranks) is left out of the mean. Without any entity the loss
    is the global term alone (ours). ``region_weight`` 0 is CLIP fine-tuning. Default 0.5: paper.

    All terms are InfoNCE, or SigLIP's sigmoid loss of pairs for a model with a ``logit_bias``.

    ``region_targets``: ``diagonal`` (official code) counts products that share a tag as each other's negatives,
    ``same_value`` (ours) as positives, see :func:`e2fashion.losses.functional.info_nce`.

    ``gather`` contrasts with the products of all ranks under ``torch.distributed``. Each rank computes the rows of its
    products against the columns of all ranks and returns the loss of the joined batch; DDP's mean of the gradients over
    ranks is the gradient of the joined batch. Ranks may have different numbers of products.

    ``global_term`` replaces InfoNCE over one vector each, for models that compare tokens
    (:class:`e2fashion.losses.filip.TokenContrast`). ``terms`` are added with their weights, see :meth:`of`.

    Raises:
        E2FashionError: an unknown ``region_targets``, a weight out of range, or a reserved name of a term.
    """

    def __init__(
        self,
        entity_names: Sequence[str] = (),
        region_weight: float = 0.5,
        region_targets: RegionTargets = "diagonal",
        gather: bool = True,
        global_term: GlobalTerm | None = None,
        terms: Mapping[str, WeightedTerm] | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= region_weight <= 1.0:
            raise E2FashionError(f"region_weight is {region_weight}: choose a number from 0.0 to 1.0")
        if region_targets not in ("diagonal", "same_value"):
            raise E2FashionError(f"region_targets is {region_targets!r}: choose 'diagonal' or 'same_value'")
        if taken := [name for name in terms or {} if name in ("global", "total") or name.startswith("region/")]:
            raise E2FashionError(f"the loss term {taken[0]!r} has the name of a built-in term: rename it")
        self.entity_names = tuple(entity_names)
        self.region_weight = region_weight
        self.region_targets = region_targets
        self.gather = gather
        self.global_term = global_term
        self.terms = dict(terms or {})

    @property
    def has_regions(self) -> bool:
        """Whether there are regional terms."""
        return self.region_weight > 0 and bool(self.entity_names)

    @property
    def reads_regions(self) -> bool:
        """Whether any term reads the regional embeddings."""
        return self.has_regions or any(weighted.term.reads_regions for weighted in self.terms.values())

    @property
    def reads_selection(self) -> bool:
        """Whether any term reads what tokens select."""
        return any(getattr(weighted.term, "reads_selection", False) for weighted in self.terms.values())

    def of(self, output: Any, batch: Batch, model: Any = None) -> LossOutput:
        """The loss of a batch of B products and the model's ``output`` for it, with the further terms.

        ``output`` is that of :class:`e2fashion.models.modeling_e2.E2Model`. The tags of the regions come first in the
        batch. ``model`` is for terms that encode something themselves.

        Raises:
            E2FashionError: as :meth:`forward`.
        """
        image_embeds, text_embeds = output.compared_embeds
        entities = len(self.entity_names)
        loss = self(
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            region_embeds=output.region_embeds,
            tag_embeds=output.tag_embeds,
            tag_present=batch.tag_present[:, :entities],
            tag_value=batch.tag_value[:, :entities],
            logit_scale=output.logit_scale,
            logit_bias=output.logit_bias,
        )
        for name, weighted in self.terms.items():
            read = output if weighted.term.reads_regions else replace(output, region_embeds=None)
            compute: Callable[..., Tensor] = weighted.term
            further = (model,) if getattr(weighted.term, "reads_model", False) else ()
            loss.terms[name] = compute(read, batch, *further)
            loss.total = loss.total + weighted.weight * loss.terms[name]
        return loss

    def forward(
        self,
        image_embeds: Tensor,
        text_embeds: Tensor,
        region_embeds: Tensor | None,
        tag_embeds: Tensor | None,
        tag_present: Tensor | None,
        tag_value: Tensor | None,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
    ) -> LossOutput:
        """The loss of a batch and its unweighted terms ``global`` and ``region/<entity>``.

        ``image_embeds`` and ``text_embeds`` (B, C), or the input of ``global_term``, ``region_embeds`` and
        ``tag_embeds`` (B, E, C) are L2-normalized; ``tag_present`` (B, E) bool; ``tag_value`` (B, E) int64, read for
        ``same_value`` only; ``logit_scale`` () is the logarithm of the inverse temperature; ``logit_bias`` () makes
        all terms sigmoid losses. The regional inputs may be None if no term reads them. Terms that are left out of the
        mean are not listed.

        Raises:
            E2FashionError: a regional input is missing or has another number of entities, or embeddings have a shape
                that the global term does not take.
        """
        if self.global_term is None and image_embeds.dim() != 2:
            raise E2FashionError(
                f"image_embeds has shape {tuple(image_embeds.shape)}, the global term compares vectors (B, C): for "
                "tokens give global_term=TokenContrast()"
            )
        image = [image_embeds.float()[:, None]] if self.global_term is None else []
        text = [text_embeds.float()[:, None]] if self.global_term is None else []
        present = torch.ones(len(image_embeds), len(image), dtype=torch.bool, device=image_embeds.device)
        value: Tensor | None = None
        if self.has_regions:
            regions, tags, tag_present = self._check(region_embeds, tag_embeds, tag_present)
            image.append(regions.float())
            text.append(tags.float())
            present = torch.cat([present, tag_present.bool()], dim=1)
            if self.region_targets == "same_value":
                if tag_value is None or tag_value.shape != tag_present.shape:
                    raise E2FashionError("region_targets 'same_value' needs tag_value of the shape of tag_present")
                value = tag_value
        terms: list[tuple[Tensor, Tensor]] = []
        if self.global_term is not None:
            bias = () if logit_bias is None else (logit_bias,)
            loss = self.global_term(image_embeds, text_embeds, logit_scale, *bias)
            terms.append((loss[None], torch.full((1,), len(image_embeds), device=loss.device)))
        if image:
            contrast = info_nce if logit_bias is None else partial(sigmoid_share, logit_bias=logit_bias)
            terms.append(self._terms(contrast, torch.cat(image, 1), torch.cat(text, 1), present, value, logit_scale))
        losses, counts = (torch.cat(parts) for parts in zip(*terms, strict=True))
        return self._combine(losses, counts)

    def _terms(
        self,
        contrast: Callable[..., Tensor],
        a: Tensor,
        b: Tensor,
        present: Tensor,
        value: Tensor | None,
        logit_scale: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The global problem (without ``global_term``) and each entity's: (B, 1 + E, C) -> two of (1 + E,).

        ``contrast`` is :func:`info_nce` or its counterpart. ``value`` (B, E) refers to the last E problems.
        Returns losses and numbers of members.
        """
        joint, first = None, 0
        distributed = self.gather and is_distributed()
        if distributed:
            rows = row_counts(a)
            first = sum(rows[: this_rank()])
            joined = rearrange(gather_rows(torch.stack([a, b], dim=1), rows), "n two t c -> two t n c", two=2)
            joint = (joined[0], joined[1])
            present = gather_rows(present.to(torch.uint8), rows).bool()
            value = None if value is None else gather_rows(value, rows)
        a, b, present = a.transpose(0, 1), b.transpose(0, 1), present.transpose(0, 1)
        if value is None:
            losses = contrast(a, b, logit_scale, joint=joint, first=first, present=present)
        else:
            # The global term keeps its diagonal targets: the values are those of tags.
            plain = len(a) - value.shape[1]
            losses = torch.cat(
                [
                    contrast(
                        a[part],
                        b[part],
                        logit_scale,
                        joint=None if joint is None else (joint[0][part], joint[1][part]),
                        first=first,
                        present=present[part],
                        value=targets,
                    )
                    for part, targets in ((slice(0, plain), None), (slice(plain, None), value.transpose(0, 1)))
                    if len(a[part])
                ]
            )
        return (sum_over_ranks(losses) if distributed else losses), count_present(present)

    def _combine(self, losses: Tensor, counts: Tensor) -> LossOutput:
        terms = {"global": losses[0]}
        if not self.has_regions:
            return LossOutput(total=losses[0], terms=terms)
        kept = [number >= MINIMUM_PRESENT for number in counts[1:].tolist()]
        # Entities that are left out are exactly zero but stay in the graph, since DDP expects all gradients.
        regional = losses[1:].sum() / max(sum(kept), 1)
        weight = self.region_weight if any(kept) else 0.0
        for name, loss, keep in zip(self.entity_names, losses[1:], kept, strict=True):
            if keep:
                terms[f"region/{name}"] = loss
        return LossOutput(total=(1 - weight) * losses[0] + weight * regional, terms=terms)

    def _check(
        self, regions: Tensor | None, tags: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if regions is None or tags is None or present is None:
            raise E2FashionError(
                f"region_weight is {self.region_weight} but the regional embeddings are None: "
                "encode the tags too, or set loss.region_weight=0"
            )
        number = len(self.entity_names)
        for name, item in (("region_embeds", regions), ("tag_embeds", tags), ("tag_present", present)):
            if item.shape[1] != number:
                raise E2FashionError(
                    f"{name} has {item.shape[1]} entities, the loss was built for {number} "
                    f"{list(self.entity_names)}: build both from the same entities"
                )
        return regions, tags, present
