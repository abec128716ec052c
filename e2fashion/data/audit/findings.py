"""What a check of a catalogue says: one finding per question, with its severity, its rows and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity = Literal["fit", "look", "leak", "broken"]

SEVERITIES: tuple[Severity, ...] = ("fit", "look", "leak", "broken")
"""From harmless to grave: nothing found; a list for a person to look through; val or test hold something
of train; an image that training would stop at."""

Cell: TypeAlias = str | int | float


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    ``check`` is its name in files, ``title`` what it asks, ``if_found`` how grave it is if there is any, ``summary``
    what was found, ``count`` how many (in ``unit``), ``remedy`` what helps. ``rows`` are listed under ``columns``.
    ``pairs`` are images to be looked at side by side, as row numbers of the catalogue's content, worst first; the
    second is of the other catalogue where two are compared.
    """

    check: str
    title: str
    if_found: Severity
    count: int
    unit: str
    summary: str
    remedy: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def severity(self) -> Severity:
        """``fit`` where nothing was found."""
        return self.if_found if self.count else "fit"


def counted(number: int, plural: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {plural.removesuffix('s') if number == 1 else plural}"


def worst(findings: Sequence[Finding]) -> Severity:
    """The gravest severity of all findings."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default="fit")


def reaches(severity: Severity, bound: str) -> bool:
    """Whether a severity is at least ``bound``; ``never`` is reached by none, and nothing that is fit reaches any."""
    return severity != "fit" and bound != "never" and SEVERITIES.index(severity) >= SEVERITIES.index(bound)
