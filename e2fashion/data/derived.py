"""Tag columns that are read off another one while a catalogue is made: the dominant fibre of a composition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from e2fashion.data.composition import KINDS, parse_composition
from e2fashion.data.sources.base import SourceRow
from e2fashion.types import E2FashionError


@dataclass
class FibreColumns:
    """``columns`` maps each new tag to the tag with the composition; what was read is counted.

    Raises:
        E2FashionError: ``given`` lacks a composition's column, or already has one of the new name.
    """

    columns: Mapping[str, str]
    given: Sequence[str]
    kinds: dict[str, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for new, composition in self.columns.items():
            if composition not in self.given:
                raise E2FashionError(
                    f"dominant_fibre.{new} reads the tag '{composition}', which the source lacks. Its tags: "
                    f"{', '.join(self.given) or 'none'}."
                )
            if new in self.given:
                raise E2FashionError(
                    f"dominant_fibre.{new}: the source has a tag '{new}' already. Choose another name."
                )
        self.kinds = {new: Counter() for new in self.columns}

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """All tags, the new ones last."""
        return (*self.given, *self.columns)

    def complete(self, row: SourceRow) -> SourceRow:
        """``row`` with the new tags; one without a composition, or whose composition names no fibre, lacks them."""
        if not self.columns:
            return row
        fibres = {new: parse_composition(row.tags.get(column)).dominant_fibre for new, column in self.columns.items()}
        return replace(row, tags={**row.tags, **fibres})

    def count(self, tags: Mapping[str, str | None]) -> None:
        """Count the compositions of a row that is kept."""
        for new, column in self.columns.items():
            if text := tags[column]:
                self.kinds[new][parse_composition(text).kind] += 1

    def notes(self) -> list[str]:
        """One line per new tag: how many compositions were read, and how."""
        return [
            f"Tag '{new}' is the dominant fibre of '{column}', which {sum(counts.values()):,} pictures have: "
            + ", ".join(f"{kind} {counts[kind]:,}" for kind in KINDS if counts[kind])
            for new, column in self.columns.items()
            for counts in (self.kinds[new],)
        ]
