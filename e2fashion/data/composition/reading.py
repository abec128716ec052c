"""What was read of a composition text: parts, the shares of their fibres, and what kind of reading it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["percentages", "names", "wrong total", "unknown fibre", "incomplete", "care", "nothing"]
"""How far a text was understood.

``percentages``: every part's shares add up to 100; ``names``: fibres without shares. The rest is not understood:
``wrong total``, ``unknown fibre`` (a name that is in no list), ``incomplete`` (a share without a fibre, or a fibre
without a share beside others that have one), ``care`` (notes on it, and no fibre), ``nothing``.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)

TOLERANCE = 1.0
"""Percentage points by which a total may miss 100: thirds are written as 33 % three times."""


@dataclass(frozen=True)
class Share:
    """One fibre of a part: ``fibre`` by its name here, in per cent of the part (None: not said), as ``written``.

    An unknown fibre keeps its words, in lower case, with ``known`` False; of a percentage of nothing it is None.
    """

    fibre: str | None
    percent: float | None
    written: str
    known: bool = True


@dataclass(frozen=True)
class Part:
    """A part of a garment; ``name`` is empty where the text gives none."""

    name: str
    shares: tuple[Share, ...]

    @property
    def total(self) -> float | None:
        """The sum of the percentages; None without any."""
        percentages = [share.percent for share in self.shares if share.percent is not None]
        return sum(percentages) if percentages else None

    @property
    def is_full(self) -> bool:
        """Whether the percentages add up to 100."""
        return self.total is not None and abs(self.total - 100) <= TOLERANCE

    def fibres(self) -> dict[str, float | None]:
        """Per cent by fibre; a fibre that is named twice counts once, with both shares."""
        found: dict[str, float | None] = {}
        for share in self.shares:
            if share.fibre is not None:
                before = found.get(share.fibre)
                found[share.fibre] = (
                    before if share.percent is None else share.percent + (0.0 if before is None else before)
                )
        return found


@dataclass(frozen=True)
class Composition:
    """A composition ``text`` as it stood, its parts in order, its care ``notes``, and the words that say neither."""

    text: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """How far the text was understood."""
        shares = [share for part in self.parts for share in part.shares]
        if not shares:
            return "care" if self.notes else "nothing"
        if any(not share.known for share in shares):
            return "unknown fibre"
        if all(share.percent is None for share in shares):
            return "names"
        if any(share.fibre is None or share.percent is None for share in shares):
            return "incomplete"
        return "percentages" if all(part.is_full for part in self.parts) else "wrong total"

    @property
    def is_understood(self) -> bool:
        """Whether fibres are named and nothing about them is open."""
        return self.kind in ("percentages", "names")

    @property
    def dominant_fibre(self) -> str | None:
        """The fibre with the largest share of the first part that has one, of equal shares the first named."""
        for part in self.parts:
            if fibres := part.fibres():
                return max(fibres, key=lambda fibre: fibres[fibre] or 0.0)
        return None

    def __str__(self) -> str:
        """One spelling of it, which is read the same again: ``body: 87% wool, 13% nylon; lining: 100% cupro``."""
        return "; ".join(
            (f"{part.name}: " if part.name else "")
            + ", ".join(
                " ".join(
                    word for word in ("" if share.percent is None else f"{share.percent:g}%", share.fibre or "") if word
                )
                for share in part.shares
            )
            for part in self.parts
        )
