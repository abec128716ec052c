"""One row: from what a source holds to a product that can be trained on, or to a problem that says what is wrong."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.entities import html5
from pathlib import Path

from e2fashion.data.composition import KINDS, parse_composition
from e2fashion.data.image_files import ImageError
from e2fashion.data.images import check_image, read_bytes
from e2fashion.data.sources.base import SPLIT_NAMES, SourceProblem, SourceRow
from e2fashion.disk import real_path
from e2fashion.escape import first_control, is_blank, is_c1_control, trimmed, visible
from e2fashion.types import SPLITS, E2FashionError, Split

_BLOCKS = (
    *("address", "article", "aside", "blockquote", "br", "center", "dd", "div", "dl", "dt", "footer", "form"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "iframe", "img", "li", "main", "nav", "ol", "option", "p"),
    *("pre", "section", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "video"),
)
_INLINE = (
    *("a", "abbr", "b", "big", "button", "cite", "code", "del", "em", "font", "i", "input", "ins", "label", "mark"),
    *("meta", "link", "q", "s", "script", "small", "span", "strike", "strong", "style", "sub", "sup", "tt", "u"),
    *("body", "head", "html", "title"),
)
_TAG = re.compile(rf"</?({'|'.join((*_BLOCKS, *_INLINE))})(?=[\s/>])[^<>]*>", re.IGNORECASE)
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MOST_LAYERS = 3
"""``&amp;lt;b&amp;gt;`` is a tag that was escaped twice."""


def has_markup(text: str) -> bool:
    """Whether a text holds a tag or an entity of HTML; ``size < 38`` and ``R&B;`` are none."""
    if "<" in text and (_TAG.search(text) or _has_comment(text)):
        return True
    return "&" in text and any(_is_entity(match[1]) for match in _ENTITY.finditer(text))


def clean_markup(text: str) -> str:
    """The text that a reader of the HTML sees, on one line; a text without HTML is returned as it is."""
    for _ in range(_MOST_LAYERS):
        if not has_markup(text):
            return text
        text = _TAG.sub(_in_place_of, _UNSEEN.sub(" ", text))
        text = _ENTITY.sub(lambda match: html.unescape(match[0]) if _is_entity(match[1]) else match[0], text)
        text = " ".join(text.split())
    return text


def _has_comment(text: str) -> bool:
    """Whether a comment begins and ends; one that never ends hides nothing here, and stays as it is written."""
    start = text.find("<!--")
    return start >= 0 and text.find("-->", start + len("<!--")) >= 0


def _is_entity(name: str) -> bool:
    return name.startswith("#") or f"{name};" in html5


def _in_place_of(tag: re.Match[str]) -> str:
    """Words of two blocks stay apart; letters around ``<b>`` stay together."""
    return " " if tag[1].lower() in _BLOCKS else ""


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
            f"Tag '{new}' is the dominant fibre of '{column}', which {sum(counts.values()):,} images have: "
            + ", ".join(f"{kind} {counts[kind]:,}" for kind in KINDS if counts[kind])
            for new, column in self.columns.items()
            for counts in (self.kinds[new],)
        ]


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
class CheckedRow(SourceRow):
    """A row whose every field has been checked: what the catalogue stores, and the image's digest."""

    image: bytes
    split: Split | None = None
    pixels_sha256: bytes = b""


def check_row(row: SourceRow, max_text_characters: int, max_pixels: int) -> CheckedRow:
    """Check every field of ``row``, decode its image, and return what is stored.

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
        stored = check_image(_read(row, max_pixels), max_pixels)
    except ImageError as error:
        name = f"{row.image}: " if isinstance(row.image, Path) else ""
        raise _error(row, "image", error.reason, name + error.value, error.remedy) from error
    return CheckedRow(
        row=row.row,
        product_id=product_id,
        image=stored.data,
        description=description,
        tags=tags,
        view=row.view,
        split=_checked_split(row),
        group=_checked_tag(row, "group", row.group),
        regions=row.regions,
        pixels_sha256=stored.pixels_sha256,
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
    split = SPLIT_NAMES.get(row.split.strip().lower())
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
    if row.root is not None and not real_path(row.image).is_relative_to(real_path(row.root)):
        value = f"it is outside {row.root}"
        raise ImageError("image outside the source", value, "put the image there, or allow it with outside=true")
    try:
        return read_bytes(row.image, max_pixels)
    except ImageError as error:
        if error.reason == "missing image":  # perhaps because its name was read in a wrong encoding
            _encodable(row, "image", str(row.image))
        raise


def _shown(text: str) -> str:
    """``text`` in quotes, cut to a readable length."""
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _error(row: SourceRow, field: str, reason: str, value: str, remedy: str) -> ProductError:
    return ProductError(SourceProblem(row.row, row.product_id.strip(), field, value, remedy, reason))
