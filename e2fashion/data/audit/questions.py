"""The questions that ``data check`` asks of a catalogue, each answered by one finding or two."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from e2fashion.data.audit.content import Content
from e2fashion.data.audit.duplicates import Kind, equal_findings, group_rows, near_findings
from e2fashion.data.audit.findings import Cell, Finding, counted
from e2fashion.data.audit.image_hash import near_pictures
from e2fashion.data.audit.skew import SIGNIFICANT, Association, associate, size_traits
from e2fashion.data.audit.spelling import similar_values
from e2fashion.data.audit.text_pairs import near_sets, words_of
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.manifest import SKIPPED_FILE
from e2fashion.data.markup import has_markup
from e2fashion.data.text import normalize_text
from e2fashion.data.text_length import TextLimit
from e2fashion.types import E2FashionError

_MOVE = (
    "Put them into one split: give such products the same `group`, leave out the split column, and prepare again; or "
    "remove them from all splits but one."
)


@dataclass(frozen=True)
class CheckSettings:
    """From where on a check speaks up.

    Pictures are near that differ in at most ``near_bits`` of 64 bits of their hash and by at most ``near_pixels`` of
    their contrast; texts whose word sets overlap by ``near_text`` (Jaccard). ``skew`` is the least Cramer's V that is
    reported, and ``source_column`` a tag column that names where a picture comes from.

    Raises:
        E2FashionError: a value that makes no sense.
    """

    near_bits: int = 6
    near_pixels: float = 0.07
    near_text: float = 0.9
    skew: float = 0.2
    source_column: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.near_bits <= 16:
            raise E2FashionError(f"near_bits is {self.near_bits}; give a number of differing bits from 0 to 16.")
        if not 0 <= self.near_pixels <= 1:
            raise E2FashionError(f"near_pixels is {self.near_pixels}; give a share of the contrast from 0 to 1.")
        for name in ("near_text", "skew"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise E2FashionError(f"{name} is {value}; give a number above 0, at most 1.")


def picture_findings(content: Content, settings: CheckSettings) -> list[Finding]:
    """Pictures with the same pixels, and pictures that look the same. Views of one product are none."""
    readable = [row for row in range(len(content)) if content.pixels[row] is not None]
    groups = group_rows(content, readable, [content.pixels[row] for row in readable])
    keys = list(groups)
    stands = [groups[key][0] for key in keys]
    near = near_pictures(content.hashes[stands], content.thumbs[stands], settings.near_bits, settings.near_pixels)
    kind = Kind(
        name="pictures",
        what="pictures",
        severities=("leak", "look"),
        remedies=(
            f"A picture of train is asked for in val or test. {_MOVE}",
            "Products that are the same: keep one. Pictures that stand for several products (packs, placeholders): "
            "retrieval cannot tell them apart; replace them, or leave them out.",
        ),
        measure="difference",
        means=(
            f"at most {settings.near_bits} of 64 bits of the hash and {settings.near_pixels:g} of the contrast differ"
        ),
    )
    return [
        *equal_findings(content, groups, kind),
        *near_findings(content, groups, [(keys[one], keys[other], gap) for one, other, gap in near], kind),
    ]


def text_findings(content: Content, settings: CheckSettings) -> list[Finding]:
    """Descriptions that are the same but for case and white space, and those of nearly the same words."""
    groups = group_rows(
        content, content.products, [normalize_text(content.description[row]) for row in content.products]
    )
    keys = sorted(groups, key=str)
    near = near_sets([words_of(str(key)) for key in keys], settings.near_text)
    kind = Kind(
        name="texts",
        what="texts",
        severities=("leak", "look"),
        remedies=(
            f"A text of train is asked for in val or test. {_MOVE}",
            "A text that several products share has several right pictures: count each as a hit (records with "
            "positives `text`), or lengthen the texts by tags with text.template.",
        ),
    )
    near_kind = Kind(
        name="texts",
        what="texts",
        severities=("look", "look"),
        remedies=(
            f"Look whether they mean the same product. If so: {_MOVE[0].lower()}{_MOVE[1:]}",
            "Look whether the words that differ tell the products apart; if not, they are one text to a model.",
        ),
        measure="similarity",
        means=f"{settings.near_text:.0%} of the words of both are shared, order and punctuation aside",
    )
    return [
        *equal_findings(content, groups, kind),
        *near_findings(content, groups, [(keys[one], keys[other], same) for one, other, same in near], near_kind),
    ]


def group_finding(content: Content) -> Finding:
    """Whether products that the source puts into one group are in several splits."""
    kind = Kind("groups", "groups", ("leak", "fit"), (_MOVE, ""))
    return equal_findings(content, group_rows(content, range(len(content)), content.group), kind)[0]


def unreadable_findings(catalogue: Catalogue, content: Content) -> list[Finding]:
    """Pictures that cannot be decoded now, and rows that were left out when the catalogue was prepared."""
    broken = sorted(content.unreadable, key=content.name)
    skipped = catalogue.manifest.skipped
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(skipped.items()))
    listed: list[tuple[Cell, ...]] = []
    columns: tuple[str, ...] = ("reason", "rows")
    file = catalogue.path / SKIPPED_FILE
    if skipped and file.is_file():
        with file.open(encoding="utf-8", newline="") as stream:
            head, *lines = csv.reader(stream)
        columns, listed = tuple(head), [tuple(line) for line in lines]
    elif skipped:
        listed = sorted(skipped.items())
    return [
        Finding(
            check="unreadable_pictures",
            title="Pictures that cannot be decoded",
            if_found="broken",
            count=len(broken),
            unit="pictures",
            summary=f"{len(broken):,} of {counted(len(content), 'pictures')} of the catalogue cannot be decoded.",
            remedy="The catalogue's files were damaged after it was prepared: prepare it again.",
            columns=("split", "product_id", "view", "error"),
            rows=tuple((*content.name(row), content.unreadable[row]) for row in broken),
        ),
        Finding(
            check="skipped_rows",
            title="Rows left out in preparation",
            if_found="look",
            count=sum(skipped.values()),
            unit="rows",
            summary=f"Left out: {counted(sum(skipped.values()), 'rows')} of the source"
            f"{': ' + reasons if reasons else ''}.",
            remedy=f"Mend what {SKIPPED_FILE} of the catalogue lists, each with its own remedy, and prepare again.",
            columns=columns,
            rows=tuple(listed),
        ),
    ]


def spelling_finding(content: Content) -> Finding:
    """Tag values of one column that may be the same value, counted in products."""
    pairs = []
    for column, values in content.tags.items():
        counts = Counter(value for row in content.products if (value := values[row]) is not None)
        pairs += similar_values(column, counts)
    columns = ", ".join(f"{column} {count}" for column, count in Counter(pair.column for pair in pairs).items())
    return Finding(
        check="similar_tag_values",
        title="Tag values that differ by case, punctuation or a letter",
        if_found="look",
        count=len(pairs),
        unit="pairs",
        summary=f"{counted(len(pairs), 'pairs')} of tag values that may be one value each"
        f"{f' ({columns})' if columns else ''}.",
        remedy="Look through the list: different names may be alike. What is one value, write in one way in the "
        "source and prepare again; two spellings are two classes and two prompts to a model.",
        columns=("column", "value", "products", "other_value", "other_products", "difference"),
        rows=tuple((p.column, p.value, p.products, p.other, p.other_products, p.difference) for p in pairs),
    )


def markup_finding(content: Content) -> Finding:
    """Descriptions and tags with tags or entities of HTML."""
    rows: list[tuple[Cell, ...]] = []
    for row in sorted(content.products, key=content.name):
        texts = {"description": content.description[row], **{tag: own[row] for tag, own in content.tags.items()}}
        rows += [(*content.name(row), column, text) for column, text in texts.items() if text and has_markup(text)]
    products = len({row[:3] for row in rows})
    return Finding(
        check="html_in_texts",
        title="Texts with HTML",
        if_found="look",
        count=products,
        unit="products",
        summary=f"{counted(products, 'products')} with tags or entities of HTML in their texts.",
        remedy="A model reads them as words. Prepare again with clean_html=true, which takes them out.",
        columns=("split", "product_id", "view", "column", "text"),
        rows=tuple(rows),
    )


def associations(content: Content, settings: CheckSettings) -> list[Association]:
    """Split and every tag column against every trait of the pictures, products' first views alone, strongest first.

    Raises:
        E2FashionError: there is no column ``source_column``.
    """
    rows = [row for row in content.products if content.size[row] is not None]
    sizes = [size for row in rows if (size := content.size[row]) is not None]
    traits = size_traits(sizes, [content.kind[row] for row in rows])
    if (source := settings.source_column) is not None:
        if source not in content.tags:
            raise E2FashionError(
                f"source_column is '{source}', which is no tag column of the catalogue; it has: "
                f"{', '.join(content.tags) or 'none'}."
            )
        traits[source] = [content.tags[source][row] or "(unknown)" for row in rows]
    columns: dict[str, Sequence[str | None]] = {"split": [content.split[row] for row in rows]}
    columns |= {tag: [values[row] for row in rows] for tag, values in content.tags.items() if tag != source}
    found = [
        associate(trait, own, column, values, settings.seed)
        for trait, own in traits.items()
        for column, values in columns.items()
    ]
    return sorted((one for one in found if one is not None), key=lambda one: -one.cramers_v)


def skewed(found: Sequence[Association], settings: CheckSettings) -> list[Association]:
    """Those that are strong enough, and not by chance."""
    return [one for one in found if one.cramers_v >= settings.skew and one.p_value <= SIGNIFICANT]


def skew_finding(found: Sequence[Association], settings: CheckSettings) -> Finding:
    """Columns that go with the pictures' size, shape, file format or source."""
    strong = skewed(found, settings)
    columns = list(dict.fromkeys(one.column for one in strong))
    rows: list[tuple[Cell, ...]] = []
    for one in strong:
        total = one.table.sum(axis=0)
        for value, own in zip(one.values, one.table, strict=True):
            rest = total - own
            gap = own / own.sum() - rest / max(1, rest.sum())
            place = int(gap.argmax())
            measures = (one.trait, one.column, round(one.cramers_v, 3), one.p_value)
            shares = (round(float(own[place] / own.sum()), 3), round(float(rest[place] / max(1, rest.sum())), 3))
            rows.append((*measures, value, int(own.sum()), one.traits[place], *shares))
    by_column = {one.column: one for one in reversed(strong)}  # the strongest trait of each
    told = ", ".join(
        f"{column} with {by_column[column].trait} {by_column[column].cramers_v:.2f} (guessed right from it "
        f"{by_column[column].guessed:.0%}, from nothing {by_column[column].guessed_blind:.0%})"
        for column in columns
    )
    return Finding(
        check="skew",
        title="Tags and splits that go with the pictures' size or source",
        if_found="look",
        count=len(columns),
        unit="columns",
        summary=f"Size, shape, file format or source of the pictures go with {counted(len(columns), 'columns')} "
        f"(Cramer's V of {settings.skew:g} or more){f': {told}' if told else ''}.",
        remedy="A model can read such a tag off the traces of where a picture comes from. Bring all pictures to one "
        "size and shape (image.resize=squeeze or pad; never crop some only), fetch them from one source where you "
        "can, and report results by source before you believe them.",
        columns=(
            "trait",
            "column",
            "cramers_v",
            "p_value",
            "value",
            "products",
            "trait_value",
            "share",
            "share_of_rest",
        ),
        rows=tuple(rows),
    )


def length_finding(content: Content, limit: TextLimit) -> Finding:
    """Products whose rendered text is longer than the context."""
    long = sorted((row for row in content.products if content.tokens[row] > limit.context_length), key=content.name)
    return Finding(
        check="long_texts",
        title="Texts cut at the context length",
        if_found="look",
        count=len(long),
        unit="texts",
        summary=f"{len(long):,} of {len(content.products):,} texts have more than {limit.context_length} tokens "
        f"({limit.rule}).",
        remedy="A model reads their beginnings alone. Put what matters first, shorten them, or train with a longer "
        "context (text.context_length, as far as the text encoder reads).",
        columns=("split", "product_id", "view", "tokens"),
        rows=tuple((*content.name(row), content.tokens[row]) for row in long),
    )
