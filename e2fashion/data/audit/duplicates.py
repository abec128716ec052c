"""What products share that should be theirs alone, within a split and across splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from e2fashion.data.audit.content import Content
from e2fashion.data.audit.findings import Cell, Finding, Severity, counted

#: Rows by what they share.
Groups: TypeAlias = dict[Hashable, list[int]]
#: Two keys of groups, and how alike what they stand for is.
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
    return {key: sorted(own, key=content.name) for key, own in groups.items()}


def equal_findings(content: Content, groups: Groups, kind: Kind) -> list[Finding]:
    """Groups with products of several splits, and groups with several products of one split."""
    across, within = [], []
    for rows in sorted(groups.values(), key=lambda rows: content.name(rows[0])):
        by_split: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            by_split[content.split[row]].append(row)
        if len({content.product[row] for row in rows}) > 1 and len(by_split) > 1:
            across.append(rows)
        within += [own for own in by_split.values() if len({content.product[row] for row in own}) > 1]
    return [
        _equal_finding(content, found, kind, place, where)
        for place, (where, found) in enumerate((("across", across), ("within", within)))
    ]


def near_findings(content: Content, groups: Groups, near: NearKeys, kind: Kind) -> list[Finding]:
    """Near keys as one pair of rows each: of different products in different splits, and in one split."""
    across: list[tuple[int, int, float]] = []
    within: list[tuple[int, int, float]] = []
    for one, other, alike in near:
        for found, same_split in ((across, False), (within, True)):
            pair = _example(content, groups[one], groups[other], same_split)
            if pair is not None:
                found.append((*pair, alike))
    best_first = -1 if kind.measure == "similarity" else 1
    findings = []
    for place, (where, pairs) in enumerate((("across", across), ("within", within))):
        ordered = sorted(
            pairs, key=lambda pair: (best_first * round(pair[2], 6), content.name(pair[0]), content.name(pair[1]))
        )
        products = {content.product[row] for pair in pairs for row in pair[:2]}
        number, owners = counted(len(pairs), "pairs"), counted(len(products), "products")
        summary = f"{number} of nearly the same {kind.what} {_WHERE[where]}, of {owners}"
        findings.append(
            Finding(
                check=f"near_{kind.name}_{where}",
                title=f"Near-identical {kind.what} {_WHERE[where]}",
                if_found=kind.severities[place],
                count=len(pairs),
                unit="pairs",
                summary=f"{summary}: {kind.means}.",
                remedy=kind.remedies[place],
                columns=(kind.measure, *PAIR_COLUMNS),
                rows=tuple(
                    (round(alike, 4), *row_cells(content, a), *row_cells(content, b)) for a, b, alike in ordered
                ),
                pairs=tuple((a, b) for a, b, _ in ordered),
            )
        )
    return findings


_WHERE = {"across": "across splits", "within": "within a split"}


def _equal_finding(content: Content, found: list[list[int]], kind: Kind, place: int, where: str) -> Finding:
    products = {content.product[row] for rows in found for row in rows}
    texts = sum(len({content.description[row] for row in rows}) > 1 for rows in found)
    said = f"{len(products):,} products share {counted(len(found), kind.what)} {_WHERE[where]}"
    if kind.name == "pictures" and found:
        said += f"; of these pictures, {texts:,} with several texts"
    pairs = []
    for rows in found:
        others = [row for row in rows if content.product[row] != content.product[rows[0]]]
        if where == "across":
            others = [row for row in others if content.split[row] != content.split[rows[0]]] or others
        pairs.append((rows[0], others[0]))
    return Finding(
        check=f"equal_{kind.name}_{where}",
        title=f"Identical {kind.what} {_WHERE[where]}",
        if_found=kind.severities[place],
        count=len(found),
        unit="groups",
        summary=f"{said}.",
        remedy=kind.remedies[place],
        columns=GROUP_COLUMNS,
        rows=tuple((number, *row_cells(content, row)) for number, rows in enumerate(found, start=1) for row in rows),
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
        own = chosen[content.split[row]]
        if len(own) < 2:
            own.setdefault(content.product[row], row)
    return [row for own in chosen.values() for row in own.values()]


def row_cells(content: Content, row: int) -> tuple[Cell, ...]:
    """Split, product id, view and description, as a list of rows shows them."""
    return (*content.name(row), " ".join(content.description[row].split()))
