"""What a check of a catalogue finds: a severity, rows and a remedy; here of what products share, equal or nearly so."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

import numpy as np

from e2fashion.data.audit.content import Content, near_images
from e2fashion.data.text import normalize_text
from e2fashion.terminal import counted
from e2fashion.types import E2FashionError

Severity = Literal["fit", "look", "leak", "broken"]

SEVERITIES: tuple[Severity, ...] = ("fit", "look", "leak", "broken")
"""From harmless to grave: nothing found; a list for a person to look through; val or test hold something
of train; an image that training would stop at."""

Cell: TypeAlias = str | int | float


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    ``check`` is its name in files, ``title`` what it asks, ``if_found`` how grave it is if there is any, ``summary``
    what was found, ``count`` how many (in ``unit``), ``remedy`` what helps. ``rows`` are listed under ``columns``.
    ``pairs`` are images to be looked at side by side, as row numbers of the catalogue's content, worst first; the
    second is of the other catalogue where two are compared.
    """

    check: str
    title: str
    if_found: Severity
    count: int
    unit: str
    summary: str
    remedy: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def severity(self) -> Severity:
        """``fit`` where nothing was found."""
        return self.if_found if self.count else "fit"


def reaches(severity: Severity, bound: str) -> bool:
    """Whether a severity is at least ``bound``; ``never`` is reached by none, and nothing that is fit reaches any."""
    return severity != "fit" and bound != "never" and SEVERITIES.index(severity) >= SEVERITIES.index(bound)


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
    pairs = [(one, other, 1.0) for members in alike.values() for n, one in enumerate(members) for other in members[:n]]
    for number, words in enumerate(distinct):
        least = math.ceil(limit * len(words) - 1e-9)
        ordered = sorted(words, key=lambda word: (frequency[word], word))
        prefix = ordered[: len(words) - least + 1]
        # Shorter sets come first and have at least `least` words, or they cannot overlap enough.
        rivals = {rival for word in prefix for rival in with_word[word] if len(distinct[rival]) >= least}
        for rival in rivals:
            if (similarity := jaccard(words, distinct[rival])) >= limit:
                pairs += [(one, other, similarity) for one in alike[words] for other in alike[distinct[rival]]]
        for word in prefix:
            with_word[word].append(number)
    ordered_pairs = [(min(one, other), max(one, other), similarity) for one, other, similarity in pairs]
    return sorted(ordered_pairs, key=lambda item: (-item[2], item[:2]))


#: Rows by what they share.
Groups: TypeAlias = dict[Hashable, list[int]]
#: Two keys of groups, and how alike what they represent is.
NearKeys: TypeAlias = Sequence[tuple[Hashable, Hashable, float]]

GROUP_COLUMNS = ("group", "split", "product_id", "view", "description")
PAIR_COLUMNS = tuple(f"{column}_{side}" for side in "ab" for column in ("split", "product_id", "view", "description"))


@dataclass(frozen=True)
class Kind:
    """What is compared, in words: ``what`` is in the plural; ``remedies`` are for across and within splits."""

    name: str
    what: str
    severities: tuple[Severity, Severity]
    remedies: tuple[str, str]
    measure: str = ""
    means: str = ""


def group_rows(content: Content, rows: Iterable[int], keys: Iterable[Hashable | None]) -> Groups:
    """Rows by key, each list sorted by split, product and view; rows whose key is None are in none."""
    groups: Groups = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        if key is not None:
            groups[key].append(row)
    return {key: sorted(members, key=content.name) for key, members in groups.items()}


def equal_findings(content: Content, groups: Groups, kind: Kind) -> list[Finding]:
    """Groups with products of several splits, and groups with several products of one split."""
    across, within = [], []
    for rows in sorted(groups.values(), key=lambda rows: content.name(rows[0])):
        by_split: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            by_split[content.split[row]].append(row)
        if len({content.product[row] for row in rows}) > 1 and len(by_split) > 1:
            across.append(rows)
        within += [members for members in by_split.values() if len({content.product[row] for row in members}) > 1]
    return [
        _equal_finding(content, listed, kind, number, where)
        for number, (where, listed) in enumerate((("across", across), ("within", within)))
    ]


def near_findings(content: Content, groups: Groups, near: NearKeys, kind: Kind) -> list[Finding]:
    """Near keys as one pair of rows each: of different products in different splits, and in one split."""
    across: list[tuple[int, int, float]] = []
    within: list[tuple[int, int, float]] = []
    for one, other, alike in near:
        for listed, same_split in ((across, False), (within, True)):
            pair = _example(content, groups[one], groups[other], same_split)
            if pair is not None:
                listed.append((*pair, alike))
    best_first = -1 if kind.measure == "similarity" else 1
    findings = []
    for number, (where, pairs) in enumerate((("across", across), ("within", within))):
        ordered = sorted(
            pairs, key=lambda pair: (best_first * round(pair[2], 6), content.name(pair[0]), content.name(pair[1]))
        )
        products = {content.product[row] for pair in pairs for row in pair[:2]}
        pair_count, owners = counted(len(pairs), "pairs"), counted(len(products), "products")
        summary = f"{pair_count} of nearly the same {kind.what} {_WHERE[where]}, of {owners}"
        findings.append(
            Finding(
                check=f"near_{kind.name}_{where}",
                title=f"Near-identical {kind.what} {_WHERE[where]}",
                if_found=kind.severities[number],
                count=len(pairs),
                unit="pairs",
                summary=f"{summary}: {kind.means}.",
                remedy=kind.remedies[number],
                columns=(kind.measure, *PAIR_COLUMNS),
                rows=tuple(
                    (round(alike, 4), *row_cells(content, a), *row_cells(content, b)) for a, b, alike in ordered
                ),
                pairs=tuple((a, b) for a, b, _ in ordered),
            )
        )
    return findings


_WHERE = {"across": "across splits", "within": "within a split"}


def _equal_finding(content: Content, groups: list[list[int]], kind: Kind, number: int, where: str) -> Finding:
    products = {content.product[row] for rows in groups for row in rows}
    texts = sum(len({content.description[row] for row in rows}) > 1 for rows in groups)
    summary = f"{len(products):,} products share {counted(len(groups), kind.what)} {_WHERE[where]}"
    if kind.name == "images" and groups:
        summary += f"; of these images, {texts:,} with several texts"
    pairs = []
    for rows in groups:
        others = [row for row in rows if content.product[row] != content.product[rows[0]]]
        if where == "across":
            others = [row for row in others if content.split[row] != content.split[rows[0]]] or others
        pairs.append((rows[0], others[0]))
    return Finding(
        check=f"equal_{kind.name}_{where}",
        title=f"Identical {kind.what} {_WHERE[where]}",
        if_found=kind.severities[number],
        count=len(groups),
        unit="groups",
        summary=f"{summary}.",
        remedy=kind.remedies[number],
        columns=GROUP_COLUMNS,
        rows=tuple((number, *row_cells(content, row)) for number, rows in enumerate(groups, start=1) for row in rows),
        pairs=tuple(pairs),
    )


def _example(content: Content, ones: list[int], others: list[int], same_split: bool) -> tuple[int, int] | None:
    """Two rows of different products, in one split or in two; None where there are none."""
    for one, other in product(_few(content, ones), _few(content, others)):
        if content.product[one] == content.product[other]:
            continue
        if (content.split[one] == content.split[other]) == same_split:
            first, second = sorted((one, other), key=content.name)
            return first, second
    return None


def _few(content: Content, rows: list[int]) -> list[int]:
    """A row each of the first two products of every split: if any two rows make a pair, two of these do."""
    chosen: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        rows_of = chosen[content.split[row]]
        if len(rows_of) < 2:
            rows_of.setdefault(content.product[row], row)
    return [row for rows_of in chosen.values() for row in rows_of.values()]


def row_cells(content: Content, row: int) -> tuple[Cell, ...]:
    """Split, product id, view and description, as a list of rows shows them."""
    return (*content.name(row), " ".join(content.description[row].split()))


_REMEDY = (
    "A model that was trained on {name} has seen them: leave these products out of it, or say with the results that "
    "its pretraining was not clean."
)


def against_findings(content: Content, other: Content, name: str, bits: int, difference: float) -> list[Finding]:
    """Products of val and test whose image or text train of the other catalogue, called ``name``, holds too.

    Images count if they are identical or near, as within a catalogue; texts if they are identical but for case and
    white space. Equal product ids mean nothing, for two shops may count alike.

    Raises:
        E2FashionError: the first catalogue has neither val nor test, or the second no train.
    """
    ours = [row for row, split in enumerate(content.split) if split != "train"]
    theirs = [row for row, split in enumerate(other.split) if split == "train"]
    if not ours or not theirs:
        raise E2FashionError(
            f"against={name}: val and test of the catalogue are compared with train of {name}, but there are "
            f"{len(ours):,} and {len(theirs):,} such rows. Name a catalogue with a train split, and check one with val "
            "or test."
        )
    images = _closest_images(content, ours, other, theirs, bits, difference)
    with_text = {normalize_text(other.description[row]): row for row in reversed(theirs)}
    texts = {
        row: (1.0, with_text[text])
        for row in ours
        if content.first[row] and (text := normalize_text(content.description[row])) in with_text
    }
    return [
        _finding(content, other, name, images, "images", "difference", "identical or near-identical images"),
        _finding(content, other, name, texts, "texts", "similarity", "identical texts"),
    ]


def _closest_images(
    content: Content, ours: list[int], other: Content, theirs: list[int], bits: int, difference: float
) -> dict[int, tuple[float, int]]:
    """For each of our rows that has one: how much the closest image of theirs differs, and its row."""
    ours_by_digest: dict[bytes, list[int]] = defaultdict(list)
    for row in ours:
        if (digest := content.pixels[row]) is not None:
            ours_by_digest[digest].append(row)
    foreign = {digest: row for row in reversed(theirs) if (digest := other.pixels[row]) is not None}
    closest = {
        row: (0.0, foreign[digest]) for digest, rows in ours_by_digest.items() if digest in foreign for row in rows
    }
    groups, firsts = list(ours_by_digest.values()), list(foreign.values())
    first = [rows[0] for rows in groups]
    hashes = np.concatenate([content.hashes[first], other.hashes[firsts]])
    thumbs = np.concatenate([content.thumbs[first], other.thumbs[firsts]])
    for one, two, gap in near_images(hashes, thumbs, bits, difference):
        if one < len(first) <= two:
            for row in groups[one]:
                closest.setdefault(row, (gap, firsts[two - len(first)]))  # the closest come first
    return closest


def _finding(
    content: Content,
    other: Content,
    name: str,
    closest: dict[int, tuple[float, int]],
    what: str,
    measure: str,
    words: str,
) -> Finding:
    ordered = sorted(closest, key=lambda row: (abs(closest[row][0]), content.name(row)))
    products = {content.product[row] for row in closest}
    return Finding(
        check=f"against_{what}",
        title=f"{words[0].upper()}{words[1:]} in train of {name}",
        if_found="leak",
        count=len(products),
        unit="products",
        summary=f"Of val and test, {counted(len(products), 'products')} with {words} in train of {name}.",
        remedy=_REMEDY.format(name=name),
        columns=(measure, *PAIR_COLUMNS),
        rows=tuple(
            (round(closest[row][0], 4), *row_cells(content, row), *row_cells(other, closest[row][1])) for row in ordered
        ),
        pairs=tuple((row, closest[row][1]) for row in ordered),
    )
