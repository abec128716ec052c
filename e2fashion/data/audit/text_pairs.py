"""Texts that say nearly the same: pairs of word sets that overlap almost entirely."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from e2fashion.data.text import normalize_text

_WORDS = re.compile(r"\w+")


def words_of(text: str) -> frozenset[str]:
    """The words of a text, case, order, punctuation and repetition aside."""
    return frozenset(_WORDS.findall(normalize_text(text)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared words over all words; 0 for two empty sets."""
    return len(one & other) / max(1, len(one | other))


def near_sets(sets: Sequence[frozenset[str]], limit: float) -> list[tuple[int, int, float]]:
    """All pairs whose Jaccard similarity is at least ``limit`` (above 0), the most alike first.

    With its words in order of rarity, a set of n words can reach ``limit`` only with sets that share one of its first
    n - ceil(limit n) + 1 words (prefix filtering: Chaudhuri et al., ICDE 2006; Bayardo et al., WWW 2007): what shares
    frequent words alone is never compared. Equal sets are compared once.

    Returns:
        first and second index, the smaller first, and the similarity.
    """
    alike: dict[frozenset[str], list[int]] = defaultdict(list)
    for index, words in enumerate(sets):
        if words:
            alike[words].append(index)
    frequency = Counter(word for words in alike for word in words)
    distinct = sorted(alike, key=len)
    with_word: dict[str, list[int]] = defaultdict(list)
    found = [(one, other, 1.0) for members in alike.values() for n, one in enumerate(members) for other in members[:n]]
    for number, words in enumerate(distinct):
        least = math.ceil(limit * len(words) - 1e-9)
        ordered = sorted(words, key=lambda word: (frequency[word], word))
        prefix = ordered[: len(words) - least + 1]
        # Shorter sets come first and have at least `least` words, or they cannot overlap enough.
        rivals = {rival for word in prefix for rival in with_word[word] if len(distinct[rival]) >= least}
        for rival in rivals:
            if (similarity := jaccard(words, distinct[rival])) >= limit:
                found += [(one, other, similarity) for one in alike[words] for other in alike[distinct[rival]]]
        for word in prefix:
            with_word[word].append(number)
    ordered_pairs = [(min(one, other), max(one, other), similarity) for one, other, similarity in found]
    return sorted(ordered_pairs, key=lambda item: (-item[2], item[:2]))
