"""Composition texts as parts, fibres and percentages: their words, their grammar, and what is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, get_args

from e2fashion.data.fibres import Material, find_material

PARTS = frozenset(
    {
        *("back", "band", "belt", "body", "bodice", "bottom", "coating", "collar", "contrast", "cuff", "cuffs", "face"),
        *("fabric", "filler", "filling", "fill", "front", "hem", "hood", "inner", "inside", "insert", "inserts"),
        *("insole", "insulation", "interior", "lining", "main", "outer", "outside", "outsole", "padding", "panel"),
        *("panels", "pocket", "pocketing", "pockets", "rib", "ribbing", "shell", "side", "skirt", "sleeve", "sleeves"),
        *("sole", "strap", "straps", "top", "trim", "trimming", "underlay", "upper", "waistband", "wadding", "yoke"),
    }
)
_UNNAMED = frozenset(("composition", "content", "fibre content", "fiber content", "material", "materials"))
FILLERS = frozenset(
    {
        *("a", "all", "an", "blend", "blended", "blends", "brushed", "combed", "fabric", "fabrics", "fiber", "fibers"),
        *("fibre", "fibres", "fine", "genuine", "material", "mix", "mixed", "mixture", "natural", "of", "organic"),
        *("pure", "real", "recycled", "soft", "the", "virgin", "woven"),
    }
)
_NOT_OF_FABRIC = frozenset(("discount", "off", "sale"))  # percentages of a price
_CARE = re.compile(
    r"(?:(?:professional|specialist)(?:ly)? )?"
    r"(?:(?:dry|spot)[ -]?clean|(?:hand|machine)[ -]?wash|wash\b|do not\b|don['\u2019]t\b|tumble\b|line dry|dry flat"
    r"|(?:cool |warm )?iron\b|bleach\b|wipe\b|imported\b|made in\b|see (?:care|label))"
)

Kind = Literal["percentages", "names", "wrong total", "unknown fibre", "incomplete", "care", "nothing"]
"""How far a text was understood.

``percentages``: every part's shares add up to 100; ``names``: fibres without shares. The rest is not understood:
``wrong total``, ``unknown fibre`` (a name that is in no list), ``incomplete`` (a share without a fibre, or a fibre
without a share among others that have one), ``care`` (notes on it, and no fibre), ``nothing``.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)

TOLERANCE = 1.0
"""Percentage points by which a total may miss 100: thirds are written as 33 % three times."""


@dataclass(frozen=True)
class Share:
    """One fibre of a part: ``fibre`` by its name here, in per cent of the part (None: not stated), as ``written``.

    An unknown fibre keeps its words, in lower case, with ``known`` False; of a percentage of nothing it is None.
    """

    fibre: str | None
    percent: float | None
    written: str
    known: bool = True

    def __str__(self) -> str:
        percent = "" if self.percent is None else f"{self.percent:g}%"
        return f"{percent} {self.fibre or ''}".strip()


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
        shares: dict[str, float | None] = {}
        for share in self.shares:
            if share.fibre is not None:
                stated = [percent for percent in (shares.get(share.fibre), share.percent) if percent is not None]
                shares[share.fibre] = sum(stated) if stated else None
        return shares

    def __str__(self) -> str:
        shares = ", ".join(map(str, self.shares))
        return f"{self.name}: {shares}" if self.name else shares


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
        return "; ".join(map(str, self.parts))


COLON = ":"
_TOKEN = re.compile(
    r"(?P<percent>\d+(?:[.,]\d+)?)\s*(?:%|percent\b|per\s+cent\b|pct\b)"
    r"|(?P<colon>:)"
    r"|(?P<made>\b(?:made|crafted|woven|knitted)\s+(?:of|from|with|out\s+of)(?![^\W\d]))"
    r"|(?P<separator>[.;,/+&|\n•·]|\b(?:and|with)\b)"
    r"|(?P<word>[^\W_]+(?:['\u2019-][^\W_]+)*)"
)


@dataclass
class Clause:
    """The text between two separators: ``words[0]``, a percentage, ``words[1]``, a percentage ... in lower case.

    A colon is a separate word. ``stated`` marks the clause behind "made of".
    """

    words: list[list[str]] = field(default_factory=lambda: [[]])
    percentages: list[float] = field(default_factory=list)
    stated: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing between two separators."""
        return not self.percentages and not self.words[0]

    def all_words(self) -> list[str]:
        """The words without their colons."""
        return [word for words in self.words for word in words if word != COLON]

    @property
    def is_care(self) -> bool:
        """Whether it says how to clean, or where the product was made."""
        return bool(_CARE.match(" ".join(self.all_words())))


def clauses(text: str) -> Iterator[Clause]:
    """The clauses of ``text`` in order. Points, commas, slashes, line ends, "and" and "with" separate; brackets do not.

    A hyphen between two materials separates as well: a cotton-elastane blend.
    """
    clause = Clause()
    for token in _TOKEN.finditer(text.lower()):
        if token["percent"]:
            clause.percentages.append(float(token["percent"].replace(",", ".")))
            clause.words.append([])
        elif token["colon"] or token["word"]:
            pieces = _pieces(token["word"]) if token["word"] else [COLON]
            for number, piece in enumerate(pieces):
                if number:
                    yield clause
                    clause = Clause()
                clause.words[-1].append(piece)
        else:
            if not clause.is_empty:
                yield clause
            clause = Clause(stated=bool(token["made"]))
    if not clause.is_empty:
        yield clause


def _pieces(word: str) -> list[str]:
    pieces = word.split("-")
    named = [find_material([piece], mend=False) for piece in pieces]
    return pieces if all(named) else [word]


_WITH = re.compile(r"\bwith\b", re.IGNORECASE)
_LABEL_WORDS = 3  # a text whose clauses are no longer is a label: an unknown word there is a material that we lack
_WRITTEN_WORDS = 3
_ROUNDING = 1e-6  # of sums of decimal fractions


@lru_cache(maxsize=1 << 15)  # a catalogue repeats its compositions: Fashion-Gen's 293,018 rows have 16,884
def parse_composition(text: str | None) -> Composition:
    """Read ``text``, which is kept as it is. The result's ``kind`` says how well it was understood."""
    text = text or ""
    listed = list(clauses(text))
    has_percentages = any(clause.percentages for clause in listed)
    prose = has_percentages or any(clause.stated for clause in listed) or _WITH.search(text)
    short = all(len(clause.all_words()) <= _LABEL_WORDS or clause.is_care for clause in listed)
    reader = _Reader(has_percentages, is_label=short and not prose)
    for clause in listed:
        reader.read(clause)
    parts = tuple(part for part in reader.parts if part.shares)
    return Composition(text, parts, tuple(reader.notes), tuple(reader.unread))


def dominant_fibre(composition: str | None) -> str | None:
    """The fibre with the largest share of the first part; None where the text names none.

    ``Body: 87% wool, 8% nylon. Lining: 100% cupro.`` is wool. Without shares it is the fibre that is named first
    (``cotton; polyester`` is cotton), and of equal shares the first. Other names and misspellings of a fibre count as
    the fibre (``spandex`` and ``elastene`` are elastane); a name that is in no list stays as it is.
    """
    return parse_composition(composition).dominant_fibre


@dataclass
class _Reader:
    """The parts so far; the last one is open."""

    has_percentages: bool
    is_label: bool
    parts: list[Part] = field(default_factory=lambda: [Part("", ())])
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def read(self, clause: Clause) -> None:
        """Add what ``clause`` says."""
        if not clause.percentages:
            self._read_words(clause.words[0], clause.stated)
            return
        before, after = _split_label(clause.words[0])
        named = after if COLON in clause.words[0] else before[: len(before) - len(_trailing_part(before))]
        if not clause.words[-1] and (named or find_material(before)):  # the fibre first: "cotton 60%"
            if after and before:
                self._open(before)
            for words, percent in zip([after or before, *clause.words[1:]], clause.percentages, strict=False):
                self._add_share(percent, [word for word in words if word != COLON])
            return
        if COLON in clause.words[0]:
            self._open(before)
            self._skip(after)
        elif name := _trailing_part(before):
            self._skip(before[: -len(name)])
            self._open(name)
        else:
            self._skip(before)
        for percent, words in zip(clause.percentages, clause.words[1:], strict=True):
            self._read_amount(percent, words)

    def _read_words(self, words: Sequence[str], stated: bool) -> None:
        """A clause without a percentage: a label, a care note, a fibre alone, or nothing of interest."""
        before, after = _split_label(words)
        if COLON in words:
            self._open(before)
            before = after
        if not before:
            return
        if _CARE.match(" ".join(before)):
            self.notes.append(" ".join(before))
            return
        material = find_material(before, mend=self.is_label)
        others = [] if material is None else [*before[: material.start], *before[material.end :]]
        alone = material is not None and all(word in FILLERS for word in others)
        if material is not None and material.is_fabric and self.has_percentages:
            self._skip(before)  # "with mesh made of 100% polyester"
        elif material is not None and (alone or stated or self.is_label):
            self._append(Share(material.name, None, _written(before, material)))
        elif self.is_label:
            self._append(Share(" ".join(before), None, " ".join(before), known=False))
        else:
            self._skip(before)

    def _read_amount(self, percent: float, words: Sequence[str]) -> None:
        """A percentage and the words up to the next one, the last of which may be the label of the next part."""
        before, after = _split_label(words)
        if COLON not in words:
            self._add_share(percent, before)
            return
        material = find_material(before)
        end = len(before) - 1 if material is None else material.end
        self._add_share(percent, before[:end])
        self._open(before[end:])
        if after:
            self._read_words(after, stated=True)

    def _add_share(self, percent: float, words: Sequence[str]) -> None:
        material = find_material(words)
        if material is None and words and words[0] in _NOT_OF_FABRIC:
            self._skip([f"{percent:g}%", *words])
            return
        part = self.parts[-1]
        if part.is_full and (part.total or 0.0) + percent > 100 + _ROUNDING:
            self._open([])
        if material is not None:
            self._append(Share(material.name, percent, _written(words, material)))
            behind = words[material.end] if len(words) > material.end else ""
            if behind in PARTS - FILLERS:  # "80% nylon and 20% elastane shell"
                self.parts[-1] = replace(self.parts[-1], name=self.parts[-1].name or behind)
            return
        written = _written(words[:_WRITTEN_WORDS])
        self._append(Share(written or None, percent, written, known=not written))

    def _open(self, label: Sequence[str]) -> None:
        name = " ".join(label)
        self.parts.append(Part("" if name in _UNNAMED else name, ()))

    def _append(self, share: Share) -> None:
        self.parts[-1] = replace(self.parts[-1], shares=(*self.parts[-1].shares, share))

    def _skip(self, words: Sequence[str]) -> None:
        if words:
            self.unread.append(" ".join(words))


def _split_label(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before and behind the last colon; all of them before it where there is none."""
    if COLON not in words:
        return list(words), []
    last = len(words) - 1 - list(reversed(words)).index(COLON)
    return [word for word in words[:last] if word != COLON], list(words[last + 1 :])


def _trailing_part(words: Sequence[str]) -> list[str]:
    """The words at the end that name a part, with their number: ``outer shell``, ``fabric 1``."""
    start = len(words)
    while start and (words[start - 1] in PARTS or words[start - 1].isdigit()):
        start -= 1
    return list(words[start:]) if any(word in PARTS for word in words[start:]) else []


def _written(words: Sequence[str], material: Material | None = None) -> str:
    """The words up to the end of ``material``, those before it without fillers."""
    start, end = (len(words), len(words)) if material is None else (material.start, material.end)
    return " ".join([*(word for word in words[:start] if word not in FILLERS), *words[start:end]])
