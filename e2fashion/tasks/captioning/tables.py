"""Captions to look at: tables of their metrics, and a sheet of products with the captions of several decoders."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.images import read_stored
from e2fashion.disk import write_text
from e2fashion.escape import markdown
from e2fashion.figures import ImageArray, Pane, draw_sheet
from e2fashion.metrics.captioning import BLEU, CAPTION_METRICS, CIDER, CLIP_SCORE, METEOR, ROUGE_L
from e2fashion.published import PublishedRow
from e2fashion.tables import Column, KnownRow, Table, pivot
from e2fashion.tasks.captioning.measure import CAPTIONING, ProductCaption
from e2fashion.types import E2FashionError, ResultRecord

Key = tuple[str, str, str, str, str]
"""Method, encoder, reading, training noise, prompt."""

HEADER = ("method", "encoder", "reading", "noise", "prompt")
#: Settings of decoding that a row names where they differ.
DEFAULTS = {"beams": 1, "temperature": 100.0, "length_penalty": 1.0}
PUBLISHED_NAMES = {**{name: name for name in BLEU}, CIDER: "CIDEr", METEOR: "METEOR", ROUGE_L: "ROUGE"}
"""Our metrics by their names in the file of published values."""

TRUTH = "truth"
PRODUCTS = 24
SIDE = 160  #: pixels of an image's longer edge
LETTERS, LINES = 26, 3


def caption_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table per split, caption, catalogue and tokenizer; none without caption records."""
    data = CAPTIONING.grouped(records, lambda one: (one.split, one.text, one.data_fingerprint))
    tables = []
    for alike in data.values():
        clip_scores = [record for record in alike if record.metric == CLIP_SCORE]
        others = [record for record in alike if record.metric != CLIP_SCORE]
        for tokenizer in CAPTIONING.grouped(others, lambda one: one.extra["caption_tokenizer"]).values():
            tables.append(caption_table([*tokenizer, *clip_scores]))
    return tables


def caption_table(records: Sequence[ResultRecord], published: Sequence[KnownRow] = ()) -> Table:
    """All metrics in percent; CIDEr of a single record has its 95 % interval over products.

    ``published`` are known rows (:func:`published_caption_rows`). Values that are not known are ``n/a``.
    """
    metrics = [*CAPTION_METRICS, *([CLIP_SCORE] if any(r.metric == CLIP_SCORE for r in records) else [])]
    return pivot(
        records,
        HEADER,
        [Column(metric, metric, interval=metric == CIDER) for metric in metrics],
        row=lambda record: row_key(record, records),
        column=lambda record: record.metric,
        known=published,
        caption=_caption(records),
    )


def published_caption_rows(rows: Sequence[PublishedRow]) -> list[KnownRow]:
    """Published systems as rows of the table."""
    ours = {theirs: metric for metric, theirs in PUBLISHED_NAMES.items()}
    return [
        KnownRow((row.label(), "", "", "", ""), {ours.get(name, name): value for name, value in row.values.items()})
        for row in rows
    ]


def row_key(record: ResultRecord, among: Sequence[ResultRecord] = ()) -> Key:
    """The row of the table that a record belongs to.

    Settings of decoding follow the reading where they are not the defaults, lengths and memories where they differ
    ``among`` the records: only captions of the same settings are averaged.
    """
    noise, read = record.extra.get("noise_variance"), record.protocol
    shown = "" if noise is None else f"{noise:g}"
    base = (record.extra["caption_method"], record.model, read, shown, record.extra.get("prompt", ""))
    for name, default in DEFAULTS.items():
        if (value := record.extra.get(name, default)) != default:
            read += f", {name.replace('_', ' ')} {value:g}"
    for name in ("caption_length", "memory_size"):
        if len({other.extra.get(name) for other in among if row_key(other)[:2] == base[:2]}) > 1:
            read += f", {name.replace('_', ' ')} {record.extra.get(name)}"
    return (*base[:2], read, *base[3:])


def _caption(records: Sequence[ResultRecord]) -> str:
    def several(values: Sequence[object]) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(values))

    left_out = max((record.extra.get("left_out", 0) for record in records), default=0)
    tokenizers = several([r.extra["caption_tokenizer"] for r in records if r.extra["caption_tokenizer"]])
    implementations = several([r.extra["implementation"] for r in records if r.metric != CLIP_SCORE])
    scored = several([r.extra["clip_score_encoder"] for r in records if r.metric == CLIP_SCORE])
    return (
        f"Captions `{several([r.text for r in records])}` of {several([r.split for r in records])}, "
        f"N = {several([r.queries for r in records])} products"
        + (f" ({left_out} without a caption left out)" if left_out else "")
        + f"; tokenizer `{tokenizers}`, {implementations}; CIDEr is CIDEr-D, which depends on the N products."
        + (f" CLIPScore by {scored}." if scored else "")
    )


@dataclass(frozen=True)
class SheetRow:
    """A product's first image (H, W, 3) and its texts by title, the true caption first."""

    product_id: str
    image: ImageArray
    texts: Mapping[str, str]


def sheet_rows(
    catalogue: Catalogue, split: str, captions: Mapping[str, Sequence[ProductCaption]], products: int = PRODUCTS
) -> list[SheetRow]:
    """Random products (seed 0) with the captions that each title has for them.

    Raises:
        E2FashionError: there are no captions, or titles have captions of different products.
    """
    by_title = {title: {item.product_id: item for item in items} for title, items in captions.items()}
    if not by_title:
        raise E2FashionError("There are no captions for a sheet: evaluate a decoder first.")
    ids = [list(items) for items in by_title.values()]
    if any(sorted(items) != sorted(ids[0]) for items in ids):
        raise E2FashionError(
            "The captions of a sheet must be of the same products: evaluate all decoders on one split."
        )
    chosen = random.Random(0).sample(sorted(ids[0]), min(products, len(ids[0])))
    first_row = catalogue.first_rows(split)
    images = catalogue.split(split).select_columns(["image"])
    rows = []
    for product in chosen:
        image = read_stored(images[first_row[product]]["image"])
        image.thumbnail((SIDE, SIDE))
        truth = next(iter(by_title.values()))[product].truth[0]
        texts = {TRUTH: truth} | {title: items[product].caption for title, items in by_title.items()}
        rows.append(SheetRow(product, np.array(image), texts))
    return rows


def write_sheet(rows: Sequence[SheetRow], file: Path, title: str, note: str = "") -> list[Path]:
    """``file`` (Markdown, one row per product), and next to it the PNG that it shows."""

    def lines(text: str) -> list[str]:
        return textwrap.wrap(text.strip() or "(nothing)", LETTERS, max_lines=LINES, placeholder=" ...")

    panes = [
        Pane(Image.fromarray(row.image), [line for name in row.texts for line in (name, *lines(row.texts[name]))])
        for row in rows
    ]
    figure = draw_sheet(panes, file.with_suffix(".png"), title)
    titles = list(rows[0].texts)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(markdown(" ".join(cell.split())) for cell in cells) + " |"

    table = [line(["product", *titles]), line(["---"] * (len(titles) + 1))]
    table += [line([row.product_id, *(row.texts[name] for name in titles)]) for row in rows]
    parts = [
        f"# {markdown(title)}\n",
        *([note + "\n"] if note else []),
        f"![{markdown(title)}]({figure.name})\n",
        *table,
    ]
    write_text(file, "\n".join(parts) + "\n")
    return [file, figure]
