"""What a catalogue holds: the numbers to know before training on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.markup import has_markup
from e2fashion.data.text import TextTemplate, normalize_text
from e2fashion.data.text_length import TextLimit, TokenLengths

_TEXTS_AT_ONCE = 1024


@dataclass(frozen=True)
class SplitDescription:
    """One split. Texts are counted once per product (its first view), pictures once per row.

    ``pairs`` are rows; ``mean_words`` is the mean length of the descriptions; ``coverage`` the share of products
    that have each tag, ``values`` the number of its distinct values. ``equal_texts`` counts products whose text
    (case and white space aside) another product of the split has too, ``equal_pictures`` rows whose stored bytes
    another row has; ``long_texts`` products whose rendered text exceeds the context length, ``long_sentences`` those
    among them whose first sentence alone (with the template's tags) does, ``longest_text`` in tokens;
    ``html_texts`` those whose description holds HTML.
    """

    pairs: int
    products: int
    mean_words: float
    coverage: dict[str, float]
    values: dict[str, int]
    equal_texts: int
    equal_pictures: int
    long_texts: int
    long_sentences: int
    longest_text: int
    html_texts: int = 0


@dataclass(frozen=True)
class CatalogueDescription:
    """All splits, and what they share.

    ``values`` counts distinct tag values in the whole catalogue, ``crossing_texts`` and ``crossing_pictures`` the
    texts and pictures that occur in more than one split. ``length_rule`` says how text lengths were counted.
    """

    name: str
    fingerprint: str
    split_rule: str
    splits: dict[str, SplitDescription]
    values: dict[str, int]
    crossing_texts: int
    crossing_pictures: int
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
            ["pictures with an equal picture", *(f"{split.equal_pictures:,}" for split in described)],
            [f"texts over {self.context_length} tokens", *(f"{split.long_texts:,}" for split in described)],
            ["- by their first sentence alone", *(f"{split.long_sentences:,}" for split in described)],
            ["longest text, tokens", *(f"{split.longest_text:,}" for split in described)],
        ]
        rows += [
            [f"{tag}: coverage, values", *(f"{split.coverage[tag]:.1%}, {split.values[tag]:,}" for split in described)]
            for tag in self.values
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
            f"In more than one split: {self.crossing_texts:,} texts, {self.crossing_pictures:,} pictures",
            f"Text length: {self.length_rule}",
            f"Splits: {self.split_rule}",
            f"Rows skipped in preparation: {skipped}",
            f"Catalogue '{self.name}', fingerprint {self.fingerprint[:16]}",
        ]
        return "\n".join(lines)


def describe_catalogue(
    catalogue: Catalogue,
    context_length: int = 77,
    token_lengths: TokenLengths | None = None,
    tokenizer_name: str = "the tokenizer that was given",
    template: TextTemplate | None = None,
) -> CatalogueDescription:
    """Read every row of ``catalogue`` once and count.

    The texts whose length is counted, as :class:`~e2fashion.data.text_length.TextLimit` says, are those of
    ``template`` (None: the description); all other counts are of descriptions.

    Raises:
        E2FashionError: a context length below 1, or a template with a field that the catalogue lacks.
    """
    limit = TextLimit(context_length, token_lengths, tokenizer_name, template or TextTemplate())
    limit.template.validate(catalogue.tag_columns)
    counters = {split: _SplitCounter(catalogue, split, limit) for split in catalogue.split_names}
    tags = catalogue.tag_columns
    return CatalogueDescription(
        name=catalogue.manifest.name,
        fingerprint=catalogue.fingerprint,
        split_rule=catalogue.manifest.split_rule,
        splits={split: counter.description() for split, counter in counters.items()},
        values={tag: len(set().union(*(counter.values[tag] for counter in counters.values()))) for tag in tags},
        crossing_texts=_crossing({split: counter.texts for split, counter in counters.items()}),
        crossing_pictures=_crossing({split: counter.pictures for split, counter in counters.items()}),
        context_length=context_length,
        length_rule=limit.rule,
        skipped=catalogue.manifest.skipped,
    )


class _SplitCounter:
    """One pass over a split; digests instead of texts and pictures stay in memory."""

    def __init__(self, catalogue: Catalogue, split: str, limit: TextLimit) -> None:
        self.texts: Counter[bytes] = Counter()
        self.pictures: Counter[bytes] = Counter()
        self.values: dict[str, Counter[str]] = {tag: Counter() for tag in catalogue.tag_columns}
        self.html_texts = 0
        self.words = self.long_texts = self.long_sentences = self.longest_text = 0
        previous: str | None = None
        for batch in catalogue.split(split).iter(_TEXTS_AT_ONCE):
            self.pictures.update(hashlib.sha256(image).digest() for image in batch["image"])
            first_views = []
            for row, product in enumerate(batch["product_id"]):  # rows of a product stand together
                if product != previous:
                    first_views.append(row)
                previous = product
            texts = [batch["description"][row] for row in first_views]
            self.texts.update(hashlib.sha256(normalize_text(text).encode()).digest() for text in texts)
            self.html_texts += sum(map(has_markup, texts))
            self.words += sum(len(text.split()) for text in texts)
            lengths = limit.lengths(batch, first_views)
            self.longest_text = max([self.longest_text, *lengths])
            long = [row for row, tokens in zip(first_views, lengths, strict=True) if tokens > limit.context_length]
            self.long_texts += len(long)
            beginnings = limit.lengths(batch, long, first_sentence=True)
            self.long_sentences += sum(tokens > limit.context_length for tokens in beginnings)
            for tag, values in self.values.items():
                values.update(value for row in first_views if (value := batch[tag][row]) is not None)

    def description(self) -> SplitDescription:
        products = self.texts.total()
        return SplitDescription(
            pairs=self.pictures.total(),
            products=products,
            mean_words=self.words / products,
            coverage={tag: values.total() / products for tag, values in self.values.items()},
            values={tag: len(values) for tag, values in self.values.items()},
            equal_texts=_shared(self.texts),
            equal_pictures=_shared(self.pictures),
            long_texts=self.long_texts,
            long_sentences=self.long_sentences,
            longest_text=self.longest_text,
            html_texts=self.html_texts,
        )


def _shared(counts: Counter[bytes]) -> int:
    return sum(count for count in counts.values() if count > 1)


def _crossing(by_split: Mapping[str, Counter[bytes]]) -> int:
    occurrences = Counter(digest for counts in by_split.values() for digest in counts)
    return sum(count > 1 for count in occurrences.values())
