"""Whether a catalogue is fit: the questions of `data check`, each answered by one finding or two."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from e2fashion.data.audit.content import Content, near_images, read_content
from e2fashion.data.audit.findings import (
    SEVERITIES,
    Cell,
    Finding,
    Kind,
    Severity,
    against_findings,
    equal_findings,
    group_rows,
    near_findings,
    near_sets,
    words_of,
)
from e2fashion.data.audit.tags import SIGNIFICANT, Association, associate, similar_values, size_traits
from e2fashion.data.catalogue import SKIPPED_FILE, Catalogue
from e2fashion.data.config import CheckConfig, Thresholds
from e2fashion.data.numbers import NumberRange
from e2fashion.data.rows import has_markup
from e2fashion.data.text import TextLength, TextMeter, normalize_text
from e2fashion.terminal import counted
from e2fashion.types import E2FashionError, TokenCounter

_MOVE = (
    "Put them into one split: give such products the same `group`, name no column as `split`, and prepare again; "
    "or remove them from all splits but one."
)


def check_thresholds(config: Thresholds) -> None:
    """Raise an E2FashionError for a bound that makes no sense, by its key."""
    if not 0 <= config.near_bits <= 16:
        raise E2FashionError(f"near_bits is {config.near_bits}; give a number of differing bits from 0 to 16.")
    if not 0 <= config.near_pixels <= 1:
        raise E2FashionError(f"near_pixels is {config.near_pixels}; give a share of the contrast from 0 to 1.")
    for name, value in (("near_text", config.near_text), ("skew", config.skew)):
        if not 0 < value <= 1:
            raise E2FashionError(f"{name} is {value}; give a number above 0, at most 1.")


def image_findings(content: Content, config: Thresholds) -> list[Finding]:
    """Images with the same pixels, and images that look the same. Views of one product are none."""
    readable = [row for row in range(len(content)) if content.pixels[row] is not None]
    groups = group_rows(content, readable, [content.pixels[row] for row in readable])
    keys = list(groups)
    firsts = [groups[key][0] for key in keys]
    near = near_images(content.hashes[firsts], content.thumbs[firsts], config.near_bits, config.near_pixels)
    kind = Kind(
        name="images",
        what="images",
        severities=("leak", "look"),
        remedies=(
            f"An image of train is asked for in val or test. {_MOVE}",
            "Products that are the same: keep one. Images that show several products (packs, placeholders): "
            "retrieval cannot distinguish them; replace them, or leave them out.",
        ),
        measure="difference",
        means=(f"at most {config.near_bits} of 64 bits of the hash and {config.near_pixels:g} of the contrast differ"),
    )
    return [
        *equal_findings(content, groups, kind),
        *near_findings(content, groups, [(keys[one], keys[other], gap) for one, other, gap in near], kind),
    ]


def text_findings(content: Content, config: Thresholds) -> list[Finding]:
    """Descriptions that are the same but for case and white space, and those of nearly the same words."""
    groups = group_rows(
        content, content.products, [normalize_text(content.description[row]) for row in content.products]
    )
    keys = sorted(groups, key=str)
    near = near_sets([words_of(str(key)) for key in keys], config.near_text)
    kind = Kind(
        name="texts",
        what="texts",
        severities=("leak", "look"),
        remedies=(
            f"A text of train is asked for in val or test. {_MOVE}",
            "A text that several products share has several right images: count each as a hit (records with "
            "positives `text`), or lengthen the texts by tags with text.template.",
        ),
    )
    near_kind = Kind(
        name="texts",
        what="texts",
        severities=("look", "look"),
        remedies=(
            f"Look whether they mean the same product. If so: {_MOVE[0].lower()}{_MOVE[1:]}",
            "Look whether the words that differ distinguish the products; if not, they are one text to a model.",
        ),
        measure="similarity",
        means=f"{config.near_text:.0%} of the words of both are shared, order and punctuation aside",
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
    """Images that cannot be decoded now, and rows that were left out when the catalogue was prepared."""
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
            check="unreadable_images",
            title="Images that cannot be decoded",
            if_found="broken",
            count=len(broken),
            unit="images",
            summary=f"{len(broken):,} of {counted(len(content), 'images')} of the catalogue cannot be decoded.",
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
            remedy=f"Mend what {SKIPPED_FILE} of the catalogue lists, each with a remedy, and prepare again.",
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
        texts = {"description": content.description[row], **{tag: values[row] for tag, values in content.tags.items()}}
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


def associations(content: Content, config: Thresholds) -> list[Association]:
    """Split and every tag column against every trait of the images, products' first views alone, strongest first.

    Raises:
        E2FashionError: there is no column ``source_column``.
    """
    rows = [row for row in content.products if content.size[row] is not None]
    sizes = [size for row in rows if (size := content.size[row]) is not None]
    traits = size_traits(sizes, [content.kind[row] for row in rows])
    if (source := config.source_column) is not None:
        if source not in content.tags:
            raise E2FashionError(
                f"source_column is '{source}', which is not a tag column of the catalogue; it has: "
                f"{', '.join(content.tags) or 'none'}."
            )
        traits[source] = [content.tags[source][row] or "(unknown)" for row in rows]
    columns: dict[str, Sequence[str | None]] = {"split": [content.split[row] for row in rows]}
    columns |= {tag: [values[row] for row in rows] for tag, values in content.tags.items() if tag != source}
    measured = [
        associate(trait, of_trait, column, values, config.seed)
        for trait, of_trait in traits.items()
        for column, values in columns.items()
    ]
    return sorted((one for one in measured if one is not None), key=lambda one: -one.cramers_v)


def skewed(measured: Sequence[Association], config: Thresholds) -> list[Association]:
    """Those that are strong enough, and not by chance."""
    return [one for one in measured if one.cramers_v >= config.skew and one.p_value <= SIGNIFICANT]


def skew_finding(measured: Sequence[Association], config: Thresholds) -> Finding:
    """Columns that go with the images' size, shape, file format or source."""
    strong = skewed(measured, config)
    columns = list(dict.fromkeys(one.column for one in strong))
    rows: list[tuple[Cell, ...]] = []
    for one in strong:
        total = one.table.sum(axis=0)
        for value, counts in zip(one.values, one.table, strict=True):
            rest = total - counts
            gap = counts / counts.sum() - rest / max(1, rest.sum())
            trait = int(gap.argmax())
            measures = (one.trait, one.column, round(one.cramers_v, 3), one.p_value)
            shares = (round(float(counts[trait] / counts.sum()), 3), round(float(rest[trait] / max(1, rest.sum())), 3))
            rows.append((*measures, value, int(counts.sum()), one.traits[trait], *shares))
    by_column = {one.column: one for one in reversed(strong)}  # the strongest trait of each
    details = ", ".join(
        f"{column} with {by_column[column].trait} {by_column[column].cramers_v:.2f} (guessed right from it "
        f"{by_column[column].guessed:.0%}, from nothing {by_column[column].guessed_blind:.0%})"
        for column in columns
    )
    return Finding(
        check="skew",
        title="Tags and splits that go with the images' size or source",
        if_found="look",
        count=len(columns),
        unit="columns",
        summary=f"Size, shape, file format or source of the images go with {counted(len(columns), 'columns')} "
        f"(Cramer's V of {config.skew:g} or more){f': {details}' if details else ''}.",
        remedy="A model can predict such a tag from traces of the origin of an image. Bring all images to one "
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


def length_finding(content: Content, meter: TextMeter) -> Finding:
    """Products whose rendered text is longer than the context."""
    long = sorted((row for row in content.products if content.tokens[row] > meter.context_length), key=content.name)
    return Finding(
        check="long_texts",
        title="Texts cut at the context length",
        if_found="look",
        count=len(long),
        unit="texts",
        summary=f"{len(long):,} of {len(content.products):,} texts have more than {meter.context_length} tokens "
        f"({meter.rule}).",
        remedy="A model reads their beginnings alone. Put what matters first, shorten them, or train with a longer "
        "context (text.context_length, as far as the text encoder reads).",
        columns=("split", "product_id", "view", "tokens"),
        rows=tuple((*content.name(row), content.tokens[row]) for row in long),
    )


@dataclass(frozen=True)
class Checked:
    """The findings of a catalogue, the content that was checked, and the associations that are strong.

    ``other`` is the catalogue that it was compared with and ``other_content`` what was read of it, if any.
    """

    catalogue: Catalogue
    content: Content
    findings: list[Finding]
    skewed: list[Association]
    config: Thresholds
    other: Catalogue | None = None
    other_content: Content | None = None

    @property
    def worst(self) -> Severity:
        """The highest severity."""
        return max((finding.severity for finding in self.findings), key=SEVERITIES.index, default="fit")

    @property
    def numbers(self) -> dict[str, NumberRange]:
        """The columns of numbers, over all products."""
        firsts = self.content.products
        return {name: NumberRange.of([values[row] for row in firsts]) for name, values in self.content.numbers.items()}


def check(config: CheckConfig, counter: TokenCounter | None = None, progress: bool = True) -> Checked:
    """Check the catalogue that ``config`` names, see :func:`check_catalogue`.

    Nothing is reused from an earlier check: files may have been damaged since.
    """
    against = Catalogue.load(config.against) if config.against else None
    return check_catalogue(Catalogue.load(config.data, again=True), config, counter, progress, against)


def check_catalogue(
    catalogue: Catalogue,
    config: CheckConfig | None = None,
    counter: TokenCounter | None = None,
    progress: bool = True,
    against: Catalogue | None = None,
) -> Checked:
    """Decode every image of ``catalogue`` once and look for what makes it unfit.

    ``counter`` counts the tokens of texts (None: words and punctuation marks); ``against`` is a catalogue whose train
    split must share nothing with val and test.

    Raises:
        E2FashionError: a bound that makes no sense, or a column of ``config`` that does not exist.
    """
    config = config or CheckConfig()
    check_thresholds(config)
    meter = TextMeter(config, catalogue.tag_columns, counter)
    content = read_content(catalogue, meter, progress)
    measured = associations(content, config)
    findings = [
        *unreadable_findings(catalogue, content),
        *image_findings(content, config),
        *text_findings(content, config),
        group_finding(content),
        spelling_finding(content),
        markup_finding(content),
        skew_finding(measured, config),
        length_finding(content, meter),
    ]
    other = None
    if against is not None:
        other = read_content(against, TextMeter(TextLength(), against.tag_columns), progress)
        findings += against_findings(content, other, against.manifest.name, config.near_bits, config.near_pixels)
    return Checked(catalogue, content, findings, skewed(measured, config), config, against, other)
