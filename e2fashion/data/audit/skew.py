"""Does a tag or a split go with what the pictures are like as files? Then a model could read it off there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 199
SIGNIFICANT = 0.01
COMMON_SIZE = 0.01
"""Share of products from which a size stands for itself."""
RARE = 10
"""Values of fewer products are taken together."""
OTHER = "(other)"


@dataclass(frozen=True)
class Association:
    """How strongly a column goes with a trait of the pictures.

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
    """What pictures are like as files: ``size`` in pixels, ``shape`` (width over height) and ``file`` format.

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
    """The association of a column with a trait over products whose value is known; None where there is nothing to tell.

    Values and traits of fewer than ten products count as one; of fewer than two of either nothing can be told.
    """
    known = [(value, own) for value, own in zip(values, traits, strict=True) if value is not None]
    value_names, value_codes = _codes([value for value, _ in known])
    trait_names, trait_codes = _codes([own for _, own in known])
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
        values=tuple(value_names[place] for place in order),
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
    number = {name: place for place, name in enumerate(names)}
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
