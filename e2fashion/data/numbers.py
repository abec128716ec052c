"""Numbers as shops write them, with currency signs, thousands and a decimal comma."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from e2fashion.data.rows import CheckedRow, ProductError
from e2fashion.data.sources.base import SourceProblem
from e2fashion.types import E2FashionError

SIGNS = {"comma": ",", "point": "."}
NAMES = {sign: name for name, sign in SIGNS.items()}
BOTH = frozenset(NAMES)
_REMEDY = "correct it, empty it, or leave the column out of numbers"
# A separator in front of the digits belongs to them, as in ".5", unless an abbreviation ends in it, as in "Rs.500".
_WRITTEN = re.compile(
    r"(?P<before>\D*?)(?P<digits>(?:(?<![^\W\d_])[.,])?\d(?:[\d.,\s'\u2019]*\d)?)"
    r"(?P<exponent>[eE][+-]?\d+)?(?P<after>\D*)"
)
_DASHES = r"[-\u2212\u2013]"
_MINUS, _HYPHEN = re.compile(rf"(?<![^\W_]){_DASHES}"), re.compile(rf"(?<=[^\W_]){_DASHES}")


def _forms(sign: str) -> re.Pattern[str]:
    """Plain digits, or groups of three (of two in India, but the last) that the other sign, blanks or ' separate."""
    other = re.escape("," if sign == "." else ".")
    grouped = rf"[1-9]\d{{0,2}}(?:[{other}\s'\u2019]\d{{2,3}})*[{other}\s'\u2019]\d{{3}}"
    return re.compile(rf"(?P<whole>\d*|{grouped})(?:{re.escape(sign)}(?P<fraction>\d+))?")


_FORMS = {sign: _forms(sign) for sign in BOTH}


def parse_number(text: str, sign: str = ".") -> float | None:
    """The one number of a text with this decimal sign, whatever is written around it; None: there is none, or several.

    A dash in front is a minus unless it follows a letter: ``-5 €`` and ``EUR -5``, while ``A-5`` and ``5-`` are none.
    ``1.5e3`` is 1500; digits in front of an exponent are not grouped.
    """
    written = _WRITTEN.fullmatch(text.strip())
    form = _FORMS[sign].fullmatch(written["digits"]) if written else None
    if written is None or form is None or _HYPHEN.search(written["before"]):
        return None
    if re.fullmatch(_DASHES, written["after"].strip()):
        return None
    whole, exponent = re.sub(r"\D", "", form["whole"]), written["exponent"] or ""
    if exponent and whole != form["whole"]:
        return None
    number = float(f"{whole or '0'}.{form['fraction'] or '0'}{exponent}")
    if not math.isfinite(number):
        return None
    return -number if _MINUS.search(written["before"]) else number


def decimal_signs(text: str) -> tuple[frozenset[str], bool]:
    """The decimal signs with which a text is a number, and whether they give different ones, as of ``1.299``."""
    read = {sign: number for sign in BOTH if (number := parse_number(text, sign)) is not None}
    return frozenset(read), len(set(read.values())) > 1


def decide_sign(texts: Iterable[str]) -> str | None:
    """The decimal sign that all numbers of a column share; None: they may have either, and mean different numbers.

    A text that is not a number decides nothing, and where numbers contradict each other the first ones do.
    """
    signs, doubtful = BOTH, False
    for text in texts:
        fitting, differ = decimal_signs(text)
        signs = signs & fitting or signs
        doubtful |= differ
    return None if len(signs) > 1 and doubtful else max(signs)


@dataclass(frozen=True)
class NumberRange:
    """A column of numbers: how many of ``products`` have one, and the least and greatest."""

    products: int
    present: int = 0
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, values: Sequence[float | None]) -> NumberRange:
        """That of a number, or None, per product."""
        present = [value for value in values if value is not None]
        return cls(len(values), len(present), min(present), max(present)) if present else cls(len(values))

    def words(self) -> str:
        """Coverage and range."""
        share = self.present / self.products if self.products else 0.0
        return f"{share:.1%}, " + (f"{self.low:.15g} to {self.high:.15g}" if self.present else "no value")


@dataclass
class NumberColumns:
    """Tags of a source that become numbers, each with the decimal sign that all of its rows share.

    ``plain`` are those of them that a source writes as Python does, with a decimal point.

    Raises:
        E2FashionError: ``given`` lacks a column.
    """

    columns: Sequence[str]
    given: Sequence[str]
    decimal: str = "auto"
    plain: Sequence[str] = ()
    _signs: dict[str, frozenset[str]] = field(default_factory=dict)
    _first: dict[str, str] = field(default_factory=dict)
    _doubtful: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column in self.columns:
            if column not in self.given:
                raise E2FashionError(
                    f"numbers names the tag '{column}', which the source lacks. Its tags: "
                    f"{', '.join(self.given) or 'none'}."
                )
        signs = BOTH if self.decimal == "auto" else frozenset({SIGNS[self.decimal]})
        self._signs = {column: frozenset({"."}) if column in self.plain else signs for column in self.columns}

    def add(self, row: CheckedRow) -> None:
        """Note how the numbers of a row are written.

        Raises:
            ProductError: a value is not a number, or has another decimal sign than the rows before it.
        """
        found = {column: decimal_signs(text) for column in self._signs if (text := row.tags[column]) is not None}
        for column, (fitting, _) in found.items():
            if not self._signs[column] & fitting:
                raise ProductError(self._problem(row, column, fitting))
        for column, (fitting, differ) in found.items():
            narrowed = self._signs[column] & fitting
            if narrowed != self._signs[column]:
                self._first[column] = row.row
            self._signs[column] = narrowed
            if differ:
                self._doubtful.setdefault(column, f"'{row.tags[column]}' ({row.row})")

    def _problem(self, row: CheckedRow, column: str, fitting: frozenset[str]) -> SourceProblem:
        value, remedy = repr(row.tags[column]), _REMEDY
        if fitting:
            expected = NAMES[min(self._signs[column])]
            why = f"as in {self._first[column]}" if column in self._first else f"by decimal={expected}"
            value += f" has no decimal {expected}, {why}"
            remedy = "write all numbers of the column alike, or give decimal=comma or decimal=point"
        return SourceProblem(row.row, row.product_id, column, value, remedy, "not a number")

    def signs(self) -> dict[str, str]:
        """The decimal sign of every column.

        Raises:
            E2FashionError: the rows of one leave it open.
        """
        for column, example in self._doubtful.items():
            if len(self._signs[column]) > 1:
                raise E2FashionError(
                    f"numbers: {example} of '{column}' may be a fraction or thousands, and no other row decides it. "
                    "Give decimal=comma or decimal=point."
                )
        return {column: max(signs) for column, signs in self._signs.items()}

    def notes(self) -> list[str]:
        """One line per column, once all rows were added."""
        return [
            f"'{column}' holds numbers, written with a decimal {NAMES[sign]}" for column, sign in self.signs().items()
        ]


def with_numbers(rows: pa.RecordBatch, signs: Mapping[str, str]) -> pa.RecordBatch:
    """Rows with the texts of these columns as numbers (float64); ``signs`` are the decimal signs of the columns."""
    for column, sign in signs.items():
        numbers = [None if text is None else parse_number(text, sign) for text in rows[column].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(numbers, pa.float64()))
    return rows
