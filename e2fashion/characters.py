"""Characters that nobody sees or that belong in no value: which there are."""

from __future__ import annotations

import re
import unicodedata

#: C0 controls but tab, line feed and carriage return; DEL; C1 controls.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_C1_CONTROLS = re.compile(r"[\x80-\x9f]")
#: Drawn as nothing without being white space or of the category Cf: joiners, fillers, variation selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
#: Marks of nothing at the ends of a value: zero-width space, word joiner, byte order mark.
_EMPTY_ENDS = "\u200b\u2060\ufeff"
_ENDS = re.compile(rf"^[\s{_EMPTY_ENDS}]+|[\s{_EMPTY_ENDS}]+$")


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: white space, zero-width and other invisible characters, or no character."""
    if not text or text.isspace():
        return True
    return all(_unseen(character) for character in text)


def trimmed(text: str) -> str:
    """``text`` without the white space, zero-width spaces and byte order marks at its ends."""
    return _ENDS.sub("", text)


def first_control(text: str) -> str | None:
    """The first control character but tab and line ends, or None."""
    found = _CONTROLS.search(text)
    return found.group() if found else None


def is_c1_control(character: str) -> bool:
    """Whether it is one of U+0080 to U+009F, which cp1252 has letters and quotation marks for."""
    return bool(_C1_CONTROLS.fullmatch(character))


def _unseen(character: str) -> bool:
    return (
        character.isspace() or unicodedata.category(character) in ("Cf", "Cc") or bool(_INVISIBLE.fullmatch(character))
    )
