"""Tag values that may be one value, and tags that depend on size, shape or format of the image files."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

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
    """Whether one letter more, less or other, or two neighbors swapped, makes one word of the other."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1 or one == other:
        return False
    same = next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
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
            for form in {letters, *(letters[:index] + letters[index + 1 :] for index in range(len(letters)))}:
                near[form].append(letters)
    candidates = {
        tuple(sorted((one, two))) for alike in near.values() for n, one in enumerate(alike) for two in alike[:n]
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


PERMUTATIONS = 199
SIGNIFICANT = 0.01
COMMON_SIZE = 0.01
"""Share of products from which a size is a trait by itself."""
RARE = 10
"""Values of fewer products are taken together."""
OTHER = "(other)"


@dataclass(frozen=True)
class Association:
    """How strongly a column goes with a trait of the images.

    ``cramers_v`` (0 independent, 1 determined) is corrected for bias; ``p_value`` comes from shuffling the column.
    ``guessed`` is the share of products whose value one would guess right knowing the trait alone, ``guessed_blind``
    knowing nothing. ``table`` (values, traits) counts products; its rows begin with the value that departs most from
    the rest, by its part of chi square.
    """

    trait: str
    column: str
    products: int
    cramers_v: float
    p_value: float
    guessed: float
    guessed_blind: float
    values: tuple[str, ...]
    traits: tuple[str, ...]
    table: np.ndarray


def size_traits(sizes: Sequence[tuple[int, int]], kinds: Sequence[str]) -> dict[str, list[str]]:
    """What images are like as files: ``size`` in pixels, ``shape`` (width over height) and ``file`` format.

    A size of fewer than one product in a hundred counts by its side in powers of two; shapes in steps of a tenth.
    """
    counts = Counter(sizes)
    least = COMMON_SIZE * len(sizes)
    return {
        "size": [f"{w}x{h}" if counts[w, h] >= least else f"about {_rounded_side(w, h)}" for w, h in sizes],
        "shape": [f"{w / h:.1f}" for w, h in sizes],
        "file": list(kinds),
    }


def associate(
    trait: str, traits: Sequence[str], column: str, values: Sequence[str | None], seed: int = 0
) -> Association | None:
    """The association of a column with a trait over products whose value is known; None if there is none.

    Values and traits of fewer than ten products count as one; fewer than two of either cannot be compared.
    """
    known = [(value, of_trait) for value, of_trait in zip(values, traits, strict=True) if value is not None]
    value_names, value_codes = _codes([value for value, _ in known])
    trait_names, trait_codes = _codes([of_trait for _, of_trait in known])
    if len(value_names) < 2 or len(trait_names) < 2:
        return None
    shape = len(value_names), len(trait_names)
    table = _crossed(value_codes, trait_codes, shape)
    observed = _chi_square(table)
    generator = np.random.default_rng(seed)
    shuffled = [
        _chi_square(_crossed(generator.permutation(value_codes), trait_codes, shape)) for _ in range(PERMUTATIONS)
    ]
    order = np.argsort(-_departures(table).sum(axis=1), kind="stable")
    return Association(
        trait=trait,
        column=column,
        products=len(known),
        cramers_v=_cramers_v(observed, table),
        p_value=(1 + sum(value >= observed * (1 - 1e-9) for value in shuffled)) / (1 + PERMUTATIONS),
        guessed=float(table.max(axis=0).sum() / len(known)),
        guessed_blind=float(table.sum(axis=1).max() / len(known)),
        values=tuple(value_names[number] for number in order),
        traits=tuple(trait_names),
        table=table[order],
    )


def _rounded_side(width: int, height: int) -> int:
    return int(2 ** round(np.log2(max(1.0, np.sqrt(width * height)))))


def _codes(values: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names, the most frequent first and rare ones as one last, and for every value the number of its name."""
    counts = Counter(values)
    names = sorted((name for name, count in counts.items() if count >= RARE), key=lambda name: (-counts[name], name))
    if len(names) < len(counts):
        names.append(OTHER)
    number = {name: code for code, name in enumerate(names)}
    return names, np.array([number.get(value, len(names) - 1) for value in values], dtype=np.int64)


def _crossed(one: np.ndarray, other: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.bincount(one * shape[1] + other, minlength=shape[0] * shape[1]).reshape(shape)


def _chi_square(table: np.ndarray) -> float:
    return float(_departures(table).sum())


def _departures(table: np.ndarray) -> np.ndarray:
    """What each cell adds to chi square."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return np.square(table - expected) / expected


def _cramers_v(chi_square: float, table: np.ndarray) -> float:
    """Bias-corrected (Bergsma, 2013): 0 is expected of independent columns, however many values they have."""
    total = int(table.sum())
    rows, columns = table.shape
    strength = max(0.0, chi_square / total - (rows - 1) * (columns - 1) / (total - 1))
    least = min(n - (n - 1) ** 2 / (total - 1) for n in (rows, columns)) - 1
    return float(np.sqrt(strength / least)) if least > 0 else 0.0
