"""One row: from what a source holds to a product that can be trained on, or to a problem that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2fashion.data.image_files import ImageError
from e2fashion.data.pictures import check_picture, read_bytes
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.escape import first_control, is_blank, is_c1_control, trimmed, visible
from e2fashion.types import SPLITS, Box, E2FashionError, Split

_SPLIT_NAMES: dict[str, Split] = {split: split for split in SPLITS} | {"validation": "val", "valid": "val"}
_SHOWN_CHARACTERS = 80


class ProductError(E2FashionError):
    """A product that cannot be used; ``problem`` holds row, field, value and remedy."""

    def __init__(self, problem: SourceProblem) -> None:
        product = f" (product {problem.product_id})" if problem.product_id else ""
        message = (
            f"{problem.row}{product}: {problem.reason} in field '{problem.field}': {problem.value}. "
            f"Remedy: {problem.remedy}; or leave such rows out with on_error=skip."
        )
        super().__init__(visible(message))  # printable everywhere
        self.problem = problem


@dataclass(frozen=True)
class CheckedRow:
    """A row whose every field has been looked at: what the catalogue stores, and the picture's digest."""

    row: str
    product_id: str
    view: int
    image: bytes
    pixels_sha256: bytes
    description: str
    tags: Mapping[str, str | None]
    split: Split | None
    group: str | None
    regions: Mapping[str, tuple[Box, ...]] | None


def check_row(row: SourceRow, max_text_characters: int, max_pixels: int) -> CheckedRow:
    """Check every field of ``row``, decode its picture, and return what is stored.

    Tags that are None or have nothing to see (white space, zero-width characters) become None; texts lose surrounding
    white space.

    Raises:
        ProductError: naming the first field that is wrong.
    """
    product_id = _checked_text(row, "product_id", row.product_id)
    description = _checked_text(row, "description", row.description)
    if len(description) > max_text_characters:
        raise _error(
            row,
            "description",
            "over-long text",
            f"{len(description):,} characters, more than max_text_characters={max_text_characters:,}, "
            f"beginning {_shown(description)}",
            "shorten it, or raise max_text_characters",
        )
    tags = {column: _checked_tag(row, column, value) for column, value in row.tags.items()}
    try:
        picture = check_picture(_read(row, max_pixels), max_pixels)
    except ImageError as error:
        name = f"{row.image}: " if isinstance(row.image, Path) else ""
        raise _error(row, "image", error.reason, name + error.value, error.remedy) from error
    return CheckedRow(
        row=row.row,
        product_id=product_id,
        view=row.view,
        image=picture.data,
        pixels_sha256=picture.pixels_sha256,
        description=description,
        tags=tags,
        split=_checked_split(row),
        group=_checked_tag(row, "group", row.group),
        regions=row.regions,
    )


def _checked_text(row: SourceRow, field: str, value: str) -> str:
    if is_blank(value):
        raise _error(row, field, "empty text", ascii(_cut(value)), "fill it in, or name another column")
    text = _encodable(row, field, trimmed(value))
    if field == "product_id" and len(text.splitlines()) > 1:
        raise _error(row, field, "control characters", _shown(text), "write an id on one line")
    return text


def _checked_tag(row: SourceRow, field: str, value: str | None) -> str | None:
    return None if value is None or is_blank(value) else _encodable(row, field, trimmed(value))


def _encodable(row: SourceRow, field: str, text: str) -> str:
    """``text``, unless it holds what a wrong encoding leaves behind: halves of characters, or control characters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        # Python keeps a byte that it cannot decode as this half of a character.
        sign = f"the byte {code - 0xDC00:#04x}" if 0xDC80 <= code <= 0xDCFF else ascii(text[error.start])
        shown = f"{_shown(text[: error.start])} is followed by {sign}"
        remedy = "give the encoding of the table, as in encoding=cp1252"
        raise _error(row, field, "wrong encoding", shown, remedy) from error
    control = first_control(text)
    if control is None:
        return text
    shown = f"{control!r} in {_shown(text)}"
    if is_c1_control(control):  # what cp1252 has dashes and quotation marks for, read as latin-1
        remedy = "give encoding=cp1252, or mend the table if it was converted from latin-1"
        raise _error(row, field, "wrong encoding", shown, remedy)
    raise _error(row, field, "control characters", shown, "remove the character from the source")


def _checked_split(row: SourceRow) -> Split | None:
    if row.split is None:
        return None
    split = _SPLIT_NAMES.get(row.split.strip().lower())
    if split is None:
        remedy = f"write one of {', '.join(SPLITS)}, or leave the column out to split by product group"
        raise _error(row, "split", "unknown split", _shown(row.split), remedy)
    return split


def _read(row: SourceRow, max_pixels: int) -> bytes:
    if isinstance(row.image, bytes):
        return row.image
    if not isinstance(row.image, Path):
        return row.image()
    if (control := first_control(str(row.image))) is not None:
        raise ImageError("missing image", f"control character {control!r} in the file name", "correct the file name")
    if row.root is not None and not row.image.resolve().is_relative_to(row.root.resolve()):
        value = f"it lies outside {row.root}"
        raise ImageError("image outside the source", value, "put the image there, or allow it with outside=true")
    return read_bytes(row.image, max_pixels)


def _shown(text: str) -> str:
    """``text`` in quotes, cut to a readable length."""
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _error(row: SourceRow, field: str, reason: str, value: str, remedy: str) -> ProductError:
    return ProductError(SourceProblem(row.row, row.product_id.strip(), field, value, remedy, reason))
