"""Values of a tag column that may be one value written in several ways."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LEAST_LETTERS = 5
"""Of both values, for a difference of one letter to count: short words differ by one letter all the time."""

_NOT_LETTERS = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class ValuePair:
    """Two values of ``column``, the more frequent one first, with their numbers of products."""

    column: str
    value: str
    products: int
    other: str
    other_products: int
    difference: Literal["case, white space, punctuation or accents", "one letter"]


def letters_of(value: str) -> str:
    """What is left of a value without case, white space, punctuation and accents; ``&`` is ``and``."""
    plain = unicodedata.normalize("NFKD", value.replace("&", " and ")).casefold()
    return _NOT_LETTERS.sub("", "".join(letter for letter in plain if not unicodedata.combining(letter)))


def one_edit_apart(one: str, other: str) -> bool:
    """Whether one letter more, less or other, or two neighbours swapped, makes one word of the other."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1 or one == other:
        return False
    same = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[same:] == other[same + 1 :]
    swapped = one[:same] + one[same + 1 : same + 2] + one[same] + one[same + 2 :]
    return one[same + 1 :] == other[same + 1 :] or swapped == other


def similar_values(column: str, counts: Mapping[str, int]) -> list[ValuePair]:
    """Pairs of the values of a column (each with its number of products) that may mean the same, the frequent first.

    Values that are equal but for case, white space, punctuation and accents; and values that differ in one letter,
    if both have five letters or more, begin with the same letter and hold the same digits: sizes and years are no
    misspellings of each other.
    """
    written: dict[str, list[str]] = defaultdict(list)
    for value in sorted(counts):
        written[letters_of(value)].append(value)
    pairs = []
    for letters, values in written.items():
        if letters:
            first = _by_frequency(values, counts)
            pairs += [_pair(column, first[0], other, counts, same_letters=True) for other in first[1:]]
    near: dict[str, list[str]] = defaultdict(list)
    for letters in written:
        if len(letters) >= LEAST_LETTERS:
            # Two words one edit apart become equal when a letter is left out of one or of both.
            for form in {letters, *(letters[:place] + letters[place + 1 :] for place in range(len(letters)))}:
                near[form].append(letters)
    candidates = {
        tuple(sorted((one, two))) for found in near.values() for n, one in enumerate(found) for two in found[:n]
    }
    for one, two in candidates:
        same_digits = _DIGITS.findall(one) == _DIGITS.findall(two)
        if one[0] == two[0] and same_digits and one_edit_apart(one, two):
            value, other = (_by_frequency(written[letters], counts)[0] for letters in (one, two))
            pairs.append(_pair(column, value, other, counts, same_letters=False))
    return sorted(pairs, key=lambda pair: (-pair.other_products, -pair.products, pair.value, pair.other))


def _by_frequency(values: list[str], counts: Mapping[str, int]) -> list[str]:
    return sorted(values, key=lambda value: (-counts[value], value))


def _pair(column: str, value: str, other: str, counts: Mapping[str, int], same_letters: bool) -> ValuePair:
    first, second = _by_frequency([value, other], counts)
    kind: Literal["case, white space, punctuation or accents", "one letter"]
    kind = "case, white space, punctuation or accents" if same_letters else "one letter"
    return ValuePair(column, first, counts[first], second, counts[second], kind)
