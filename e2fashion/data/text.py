"""The global text of a product: a template of tags and description; and ids of texts that every rank agrees on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from string import Formatter

from e2fashion.types import E2FashionError

DESCRIPTION = "description"

#: What :func:`stable_id` never returns, so that it can represent an absent tag.
ABSENT_ID = 0


@dataclass(frozen=True)
class TextTemplate:
    """Tags and description joined, as in ``{article_type} . {brand} . {season} . {description}``.

    A missing field goes together with the separator behind it (the last one with the separator before it). Text
    before the first and behind the last field always stays. The official code's order is
    ``composition.sub_category.brand.season.description``.

    Raises:
        E2FashionError: braces that do not pair, an empty or formatted field, no field at all.
    """

    template: str = "{description}"
    _literals: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _fields: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        literals, names = _parse(self.template)
        object.__setattr__(self, "_literals", literals)
        object.__setattr__(self, "_fields", names)

    @property
    def columns(self) -> tuple[str, ...]:
        """The tag columns it reads, each once, in order; the description is none of them."""
        return tuple(dict.fromkeys(name for name in self._fields if name != DESCRIPTION))

    def states(self, column: str) -> bool:
        """Whether a text says the tag of this column (or the description), where a product has it."""
        return column in self._fields

    def validate(self, columns: Iterable[str]) -> None:
        """Check that a catalogue with these tag columns can fill the template.

        Raises:
            E2FashionError: a field is no column; the message lists those that exist and suggests the nearest.
        """
        known = [*columns, DESCRIPTION]
        for name in self._fields:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f" Did you mean '{{{near[0]}}}'?" if near else ""
                raise E2FashionError(
                    f"text.template '{self.template}' has the field '{{{name}}}', which the catalogue lacks. "
                    f"Its columns: {', '.join(known)}.{hint}"
                )

    def render(self, sample_tags: Mapping[str, str | None], description: str) -> str:
        """The text of one product; tags that are absent, None or blank are missing."""
        return self.render_placed(sample_tags, description)[0]

    def render_placed(
        self, sample_tags: Mapping[str, str | None], description: str
    ) -> tuple[str, tuple[int, int] | None]:
        """As :meth:`render`, and the range of characters of the description in it (None: it has none)."""
        text, separator, span = self._literals[0], "", None
        for name, literal in zip(self._fields, self._literals[1:], strict=True):
            value = description if name == DESCRIPTION else sample_tags.get(name)
            if value is None or not value.strip():
                continue
            text += separator
            if name == DESCRIPTION:
                span = len(text), len(text) + len(value)
            text += value
            separator = literal
        return text + self._literals[-1], span

    def without_tags(self) -> TextTemplate:
        """The same template with the description alone, for evaluation without tags."""
        before, behind = (
            part.replace("{", "{{").replace("}", "}}") for part in (self._literals[0], self._literals[-1])
        )
        return TextTemplate(f"{before}{{{DESCRIPTION}}}{behind}")


def normalize_text(text: str) -> str:
    """The form in which two texts count as identical: case and white space do not matter."""
    return " ".join(text.split()).casefold()


@lru_cache(maxsize=65536)
def stable_id(text: str) -> int:
    """A signed 64-bit id of a text's content, the same on every rank, machine and run; never 0 or -1.

    Case and white space do not count.
    """
    digest = hashlib.blake2b(normalize_text(text).encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little", signed=True)
    return number if number not in (ABSENT_ID, -1) else 1


def _parse(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The literal texts around the fields (one more than there are fields), and the fields' names."""
    literals, names = [""], []
    try:
        for literal, name, form, conversion in Formatter().parse(template):
            literals[-1] += literal
            if name is None:
                continue
            if not name.strip() or form or conversion:
                written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise E2FashionError(
                    f"text.template '{template}': '{{{written}}}' is no field. Write {{column}} alone."
                )
            names.append(name)
            literals.append("")
    except ValueError as error:
        raise E2FashionError(
            f"text.template '{template}': {error}. Write fields as {{column}}, and a brace itself as {{{{ or }}}}."
        ) from error
    if not names:
        raise E2FashionError(f"text.template '{template}' has no field. Write {{description}} at least.")
    return tuple(literals), tuple(names)
