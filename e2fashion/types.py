"""Shared types: entities, samples, batches, losses and result records.

Dimension letters in the whole repository:

====  =======================================================================
B     products in a batch
P     image patches
E     tag entities (brand, season, ...), in the order of the configuration
K     selection tokens of one entity
S     selection tokens of all entities together (E * K when K is the same)
D     width of a transformer
C     dimension of the joint image-text space
L     tokens of a text
U     distinct tag strings of a batch
F     fusion blocks
N     gallery size
====  =======================================================================

``*_features`` are projected and not normalized; ``*_embeds`` of our own outputs are L2-normalized.
``logit_scale`` is the logarithm of the inverse temperature, as in CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:  # so that reading a configuration does not import PyTorch
    import torch
    from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

#: How a selection token reads patches: the best ones (``hard``), a mixture of all, or any of them (a control).
Selection = Literal["hard", "soft", "random"]
#: Treatment of texts that are too long for a text encoder, see :class:`e2fashion.data.text.TextFitter`.
TextOverflow = Literal["truncate", "first_sentences", "stretch"]


class E2FashionError(Exception):
    """An error that the user can fix: the message names the culprit, the value received and the remedy.

    ``exit_code`` is the exit code of the command line.
    """

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class Entity:
    """A kind of tag for which the image encoder has selection tokens.

    ``name`` is used in configurations, losses and tables; ``column`` is the catalogue column of its tags, ``tokens``
    its number K of selection tokens. ``fixed``: each of them reads one patch at a place that was drawn for it, the same
    in all images, instead of choosing (ours).
    """

    name: str
    column: str
    tokens: int = 2
    fixed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``fixed`` only where it is set, since it joined later."""
        known = {"name": self.name, "column": self.column, "tokens": self.tokens}
        return known | ({"fixed": True} if self.fixed else {})


@dataclass(frozen=True)
class Box:
    """A rectangle in fractions of the image: ``0 <= left < right <= 1``, ``0 <= top < bottom <= 1``."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Share of the image covered by the box."""
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True)
class Sample:
    """One image (view) of a product, as yielded by a source and stored in the catalogue.

    ``image`` is the encoded file (JPEG, PNG, ...). A missing tag is ``None``: unknown, never a class. Products of one
    ``group``, such as a product line, must not cross splits; ``regions`` are the known true boxes of tags by column.
    ``numbers`` are columns of numbers, which are not tags; ``row`` is the position in the source, for error messages.
    """

    product_id: str
    image: bytes
    description: str
    tags: Mapping[str, str | None]
    view: int = 0
    split: Split | None = None
    group: str | None = None
    regions: Mapping[str, tuple[Box, ...]] | None = None
    row: str = ""
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass
class Batch:
    """The model's input of one step.

    Shapes: ``pixel_values`` (B, 3, H, W), uint8 from the loader and normalized float on the device; ``input_ids`` and
    ``attention_mask`` (B, L); ``tag_input_ids`` and ``tag_attention_mask`` (U, Lt), the distinct tag strings of the
    batch; ``tag_index`` (B, E) int64, each product's row among them (0 where absent); ``tag_present`` (B, E) bool;
    ``tag_value`` (B, E) and ``text_group`` (B,) int64, identifiers of a tag's and a text's content, equal on all
    ranks; ``product_ids`` B strings. On request: ``swapped_input_ids`` and ``swapped_attention_mask`` (B, L'), each
    product's text with one tag swapped (its own text where ``swapped_present`` (B,) is false).
    """

    pixel_values: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    tag_input_ids: Tensor
    tag_attention_mask: Tensor
    tag_index: Tensor
    tag_present: Tensor
    tag_value: Tensor
    text_group: Tensor
    product_ids: list[str] = field(default_factory=list)
    swapped_input_ids: Tensor | None = None
    swapped_attention_mask: Tensor | None = None
    swapped_present: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixel_values)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with every tensor on ``device``."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by PyTorch's loader)."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        from torch import Tensor

        values = {item.name: getattr(self, item.name) for item in fields(self)}
        changed: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed)


@dataclass
class LossOutput:
    """A loss: ``total`` () is minimized; ``terms`` are its unweighted parts: ``global``, ``region/<entity>``, ..."""

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class ResultRecord:
    """One measured number with all that identifies it: a line of ``results.jsonl``.

    ``low`` and ``high`` are the bounds of the 95 % interval (bootstrap over queries), None if none was computed;
    ``extra`` has the facts of one kind of measurement.
    """

    run: str
    model: str
    task: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    split: str = ""
    protocol: str = ""
    direction: str = ""
    positives: str = ""
    text: str = ""
    queries: int = 0
    candidates: float = 0.0
    seed: int = 0
    config_hash: str = ""
    commit: str = ""
    data_fingerprint: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TokenCounter:
    """``lengths`` maps texts to their numbers of tokens, start and end included, as the tokenizer ``name`` counts."""

    name: str
    context_length: int
    lengths: Callable[[list[str]], list[int]]
