"""What a source of products offers: its tag columns, a length, and raw, unchecked rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from e2fashion.disk import reading
from e2fashion.types import SPLITS, Box, Split

_ADDED = "added_option"


def added_option(default: Any) -> Any:
    """A field that a source gains after catalogues were made without it; its default must be what those did.

    The option is part of a request to prepare only where it differs from its default, so that the same request is still
    answered by the catalogue that is there.
    """
    return field(default=default, metadata={_ADDED: True})


def options_of(source: Any) -> dict[str, Any]:
    """The fields of a source as plain values; none of one that is not a dataclass."""
    return asdict(source) if is_dataclass(source) and not isinstance(source, type) else {}


def requested_options(source: Any) -> dict[str, Any]:
    """The options of a source without those that were added later and have their default."""
    options = options_of(source)
    later = {item.name: item.default for item in fields(source) if _ADDED in item.metadata} if options else {}
    return {name: value for name, value in options.items() if name not in later or value != later[name]}


@dataclass(frozen=True)
class SourceRow:
    """One image of a product as its source holds it, unchecked.

    ``image`` is a file, the encoded bytes, or a function that returns them (so that nothing is read before its
    turn). ``row`` locates it in the source for error messages, as in ``styles.csv line 17``. A file must be below
    ``root``, links followed (None: anywhere).
    """

    row: str
    product_id: str
    image: Path | bytes | Callable[[], bytes]
    description: str
    tags: Mapping[str, str | None]
    view: int = 0
    split: str | None = None
    group: str | None = None
    regions: Mapping[str, tuple[Box, ...]] | None = None
    root: Path | None = None


SPLIT_NAMES: dict[str, Split] = {split: split for split in SPLITS} | {"validation": "val", "valid": "val"}
"""What sources call the splits."""


@dataclass(frozen=True)
class SourceProblem:
    """A row that a source could not even read: which field, what it held, and what to do about it.

    ``reason`` is the kind of damage in a few words: problems are counted by it.
    """

    row: str
    product_id: str
    field: str
    value: str
    remedy: str
    reason: str = "unreadable row"


SOURCE_REMEDY = "Check the options of the source and its files: one may be damaged, or of another layout."


def rows_of(source: Source) -> Iterator[SourceRow | SourceProblem]:
    """The rows of a source; what a library raises of a damaged file names the source.

    Raises:
        E2FashionError: the source cannot be read on.
    """
    with reading(f"source '{source.name}'", SOURCE_REMEDY):
        yield from source.rows()


@runtime_checkable
class Source(Protocol):
    """Anything that yields products. A concrete source is a dataclass whose fields are its options."""

    name: ClassVar[str]

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """Names of the tag columns that every row's ``tags`` holds."""
        ...

    def __len__(self) -> int:
        """Number of rows, for the progress bar."""
        ...

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """The rows in the order of the source."""
        ...
