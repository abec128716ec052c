"""What a catalogue holds: the numbers to know before training on it, and those of a table of data statistics."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import DescribeConfig
from e2fashion.data.numbers import NumberRange
from e2fashion.data.rows import has_markup
from e2fashion.data.text import TextLength, TextMeter, normalize_text
from e2fashion.published import PublishedRow
from e2fashion.records import RecordContext, declare
from e2fashion.tables import Column, KnownRow, Table, pivot
from e2fashion.types import E2FashionError, ResultRecord, TokenCounter

_TEXTS_AT_ONCE = 1024


@dataclass(frozen=True)
class SplitDescription:
    """One split. Texts are counted once per product (its first view), images once per row.

    ``pairs`` are rows; ``mean_words`` is the mean length of the descriptions; ``coverage`` the share of products
    that have each tag, ``values`` the number of its distinct values. ``equal_texts`` counts products whose text
    (case and white space aside) another product of the split has too, ``equal_images`` rows whose stored bytes
    another row has; ``long_texts`` products whose rendered text exceeds the context length, ``long_sentences`` those
    among them whose first sentence alone (with the template's tags) does, ``longest_text`` in tokens;
    ``html_texts`` those whose description holds HTML. ``numbers`` are the columns of numbers.
    """

    pairs: int
    products: int
    mean_words: float
    coverage: dict[str, float]
    values: dict[str, int]
    equal_texts: int
    equal_images: int
    long_texts: int
    long_sentences: int
    longest_text: int
    html_texts: int = 0
    numbers: dict[str, NumberRange] = field(default_factory=dict)


@dataclass(frozen=True)
class CatalogueDescription:
    """All splits, and what they share.

    ``values`` counts distinct tag values in the whole catalogue, ``crossing_texts`` and ``crossing_images`` the
    texts and images that occur in more than one split. ``length_rule`` says how text lengths were counted.
    """

    name: str
    fingerprint: str
    split_rule: str
    splits: dict[str, SplitDescription]
    values: dict[str, int]
    crossing_texts: int
    crossing_images: int
    context_length: int
    length_rule: str
    skipped: dict[str, int]

    def as_text(self) -> str:
        """A table of the splits with the facts that concern all of them below."""
        head = ["", *self.splits]
        described = list(self.splits.values())
        rows = [
            ["pairs", *(f"{split.pairs:,}" for split in described)],
            ["products", *(f"{split.products:,}" for split in described)],
            ["mean words per description", *(f"{split.mean_words:.1f}" for split in described)],
            ["products with an equal text", *(f"{split.equal_texts:,}" for split in described)],
            ["products with HTML in their text", *(f"{split.html_texts:,}" for split in described)],
            ["images with an equal image", *(f"{split.equal_images:,}" for split in described)],
            [f"texts over {self.context_length} tokens", *(f"{split.long_texts:,}" for split in described)],
            ["- by their first sentence alone", *(f"{split.long_sentences:,}" for split in described)],
            ["longest text, tokens", *(f"{split.longest_text:,}" for split in described)],
        ]
        rows += [
            [f"{tag}: coverage, values", *(f"{split.coverage[tag]:.1%}, {split.values[tag]:,}" for split in described)]
            for tag in self.values
        ]
        rows += [
            [f"{name}: number, coverage, range", *(split.numbers[name].words() for split in described)]
            for name in described[0].numbers
        ]
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (head, *rows)
        ]
        distinct = ", ".join(f"{tag} {count:,}" for tag, count in self.values.items()) or "no tags"
        skipped = ", ".join(f"{reason} {count:,}" for reason, count in self.skipped.items()) or "none"
        lines += [
            "",
            f"Distinct values in all splits: {distinct}",
            f"In more than one split: {self.crossing_texts:,} texts, {self.crossing_images:,} images",
            f"Text length: {self.length_rule}",
            f"Splits: {self.split_rule}",
            f"Rows skipped in preparation: {skipped}",
            f"Catalogue '{self.name}', fingerprint {self.fingerprint[:16]}",
        ]
        return "\n".join(lines)


def describe(config: DescribeConfig, counter: TokenCounter | None = None) -> CatalogueDescription:
    """What the catalogue that ``config`` names holds, see :func:`describe_catalogue`."""
    return describe_catalogue(Catalogue.load(config.catalogue), config, counter)


def describe_catalogue(
    catalogue: Catalogue, config: TextLength | None = None, counter: TokenCounter | None = None
) -> CatalogueDescription:
    """Read every row of ``catalogue`` once and count.

    ``config`` says which texts are measured against which length, and ``counter`` counts their tokens (see
    :class:`~e2fashion.data.text.TextMeter`); all other counts are of descriptions.

    Raises:
        E2FashionError: a context length below 1, or a template with a field that the catalogue lacks.
    """
    meter = TextMeter(config or TextLength(), catalogue.tag_columns, counter)
    counters = {split: _SplitCounter(catalogue, split, meter) for split in catalogue.split_names}
    tags = catalogue.tag_columns
    return CatalogueDescription(
        name=catalogue.manifest.name,
        fingerprint=catalogue.fingerprint,
        split_rule=catalogue.manifest.split_rule,
        splits={split: counter.description() for split, counter in counters.items()},
        values={tag: len(set().union(*(counter.values[tag] for counter in counters.values()))) for tag in tags},
        crossing_texts=_crossing({split: counter.texts for split, counter in counters.items()}),
        crossing_images=_crossing({split: counter.images for split, counter in counters.items()}),
        context_length=meter.context_length,
        length_rule=meter.rule,
        skipped=catalogue.manifest.skipped,
    )


class _SplitCounter:
    """One pass over a split; digests instead of texts and images stay in memory."""

    def __init__(self, catalogue: Catalogue, split: str, meter: TextMeter) -> None:
        self.texts: Counter[bytes] = Counter()
        self.images: Counter[bytes] = Counter()
        self.values: dict[str, Counter[str]] = {tag: Counter() for tag in catalogue.tag_columns}
        self.numbers: dict[str, list[float | None]] = {name: [] for name in catalogue.number_columns}
        self.html_texts = 0
        self.words = self.long_texts = self.long_sentences = self.longest_text = 0
        previous: str | None = None
        for batch in catalogue.split(split).iter(_TEXTS_AT_ONCE):
            self.images.update(hashlib.sha256(image).digest() for image in batch["image"])
            first_views = []
            for row, product in enumerate(batch["product_id"]):  # rows of a product are adjacent
                if product != previous:
                    first_views.append(row)
                previous = product
            texts = [batch["description"][row] for row in first_views]
            self.texts.update(hashlib.sha256(normalize_text(text).encode()).digest() for text in texts)
            self.html_texts += sum(map(has_markup, texts))
            self.words += sum(len(text.split()) for text in texts)
            lengths = meter.lengths(batch, first_views)
            self.longest_text = max([self.longest_text, *lengths])
            long = [row for row, tokens in zip(first_views, lengths, strict=True) if tokens > meter.context_length]
            self.long_texts += len(long)
            beginnings = meter.lengths(batch, long, first_sentence=True)
            self.long_sentences += sum(tokens > meter.context_length for tokens in beginnings)
            for tag, values in self.values.items():
                values.update(value for row in first_views if (value := batch[tag][row]) is not None)
            for name, numbers in self.numbers.items():
                numbers += [batch[name][row] for row in first_views]

    def description(self) -> SplitDescription:
        products = self.texts.total()
        return SplitDescription(
            pairs=self.images.total(),
            products=products,
            mean_words=self.words / products,
            coverage={tag: values.total() / products for tag, values in self.values.items()},
            values={tag: len(values) for tag, values in self.values.items()},
            equal_texts=_shared(self.texts),
            equal_images=_shared(self.images),
            long_texts=self.long_texts,
            long_sentences=self.long_sentences,
            longest_text=self.longest_text,
            html_texts=self.html_texts,
            numbers={name: NumberRange.of(numbers) for name, numbers in self.numbers.items()},
        )


def _shared(counts: Counter[bytes]) -> int:
    return sum(count for count in counts.values() if count > 1)


def _crossing(by_split: Mapping[str, Counter[bytes]]) -> int:
    occurrences = Counter(digest for counts in by_split.values() for digest in counts)
    return sum(count > 1 for count in occurrences.values())


STATISTICS = declare("data_statistics")
COLUMNS = ("pairs", "brands", "products", "mean words per description")


def statistics_records(title: str, catalogue: Catalogue) -> list[ResultRecord]:
    """Pairs, brands, products and mean description length of all splits together.

    A catalogue without brands has no record of them. Words are what white space separates, counted once a product.
    """
    counts = describe_catalogue(catalogue)
    splits = list(counts.splits.values())
    products = sum(split.products for split in splits)
    values = {"pairs": float(sum(split.pairs for split in splits)), "products": float(products)}
    values[COLUMNS[3]] = sum(split.mean_words * split.products for split in splits) / products
    if "brand" in counts.values:
        values["brands"] = float(counts.values["brand"])
    context = RecordContext(run=counts.fingerprint[:12], model=title, split="", data_fingerprint=counts.fingerprint)
    return [
        STATISTICS.record(context, metric, values[metric], queries=products) for metric in COLUMNS if metric in values
    ]


def statistics_table(records: Sequence[ResultRecord], published: Sequence[PublishedRow] = ()) -> Table:
    """A row per data set, the published one of the same name below it."""
    ours = {record.model for record in records}
    return pivot(
        records,
        ("data set",),
        [Column(name, name, int(name.startswith("mean")), best="", thousands=True) for name in COLUMNS],
        row=lambda record: record.model,
        column=lambda record: record.metric,
        known=[
            KnownRow((f"{row.system} (published)",), row.values, after=row.system, last=row.system not in ours)
            for row in published
        ],
        caption="All splits together; words are what white space separates.",
    )


def tag_counts(catalogue: Catalogue, column: str) -> list[int]:
    """Products of every value of a tag column in all splits, the most frequent first.

    Raises E2FashionError when the catalogue has no such column, or nothing in it.
    """
    catalogue.check_tag(column)
    counts: Counter[str] = Counter()
    for split in catalogue.split_names:
        rows = catalogue.split(split)
        tags = dict(zip(rows["product_id"], rows[column], strict=True))
        counts.update(tag for tag in tags.values() if tag is not None)
    if not counts:
        raise E2FashionError(f"no product of {catalogue.path} has a value in the tag column '{column}'")
    return sorted(counts.values(), reverse=True)


def share_of_rare(counts: Sequence[int]) -> float:
    """The share of values that fewer than ten products have, in percent."""
    return 100 * statistics.fmean(count < 10 for count in counts)
