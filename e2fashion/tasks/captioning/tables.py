"""Tables of captions: one row per method, encoder and way of reading, one column per metric."""

from __future__ import annotations

from collections.abc import Sequence

from e2fashion.metrics.captioning import BLEU, CAPTION_METRICS, CIDER, CLIP_SCORE, METEOR, ROUGE_L
from e2fashion.published import PublishedRow
from e2fashion.tables import Column, KnownRow, Table, pivot
from e2fashion.tasks.captioning.measure import CAPTIONING
from e2fashion.types import ResultRecord

NEAREST_METHOD = "nearest caption (CLIPRe)"
OWN_CAPTION = "most frequent caption"
BASELINES = (OWN_CAPTION, NEAREST_METHOD)

Key = tuple[str, str, str, str, str]
"""Method, encoder, how the picture is read, training noise, prompt."""

HEADER = ("method", "encoder", "read", "noise", "prompt")
#: Settings of decoding with their defaults.
USUAL = {"beams": 1, "temperature": 100.0, "length_penalty": 1.0}
PUBLISHED_NAMES = {**{name: name for name in BLEU}, CIDER: "CIDEr", METEOR: "METEOR", ROUGE_L: "ROUGE"}
"""Our metrics as the file of published values calls them."""


def caption_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table per split, caption, catalogue and tokenizer; none without caption records."""
    kinds: dict[tuple[str, ...], list[ResultRecord]] = {}
    for record in records:
        if record.task == CAPTIONING.task and record.metric != CLIP_SCORE:
            kind = (record.split, record.text, record.data_fingerprint, record.extra["caption_tokenizer"])
            kinds.setdefault(kind, []).append(record)
    scored = [record for record in records if record.task == CAPTIONING.task and record.metric == CLIP_SCORE]
    tables = []
    for (split, text, data, _), alike in kinds.items():
        own = [r for r in scored if (r.split, r.text, r.data_fingerprint) == (split, text, data)]
        tables.append(caption_table([*alike, *own]))
    return tables


def caption_table(
    records: Sequence[ResultRecord],
    published: Sequence[KnownRow] = (),
    digits: int = 1,
) -> Table:
    """All metrics in percent; CIDEr of a single record has its 95 % interval over products.

    ``published`` are known rows (:func:`published_caption_rows`). What is not known or could not be computed is
    ``n/a``.
    """
    metrics = [*CAPTION_METRICS, *([CLIP_SCORE] if any(r.metric == CLIP_SCORE for r in records) else [])]
    return pivot(
        records,
        HEADER,
        [Column(metric, metric, digits, interval=metric == CIDER) for metric in metrics],
        row=lambda record: row_key(record, records),
        column=lambda record: record.metric,
        known=published,
        caption=_caption(records),
    )


def published_caption_rows(rows: Sequence[PublishedRow]) -> list[KnownRow]:
    """Published systems as rows of the table."""
    ours = {theirs: own for own, theirs in PUBLISHED_NAMES.items()}
    return [
        KnownRow((row.label(), "", "", "", ""), {ours.get(name, name): value for name, value in row.values.items()})
        for row in rows
    ]


def row_key(record: ResultRecord, among: Sequence[ResultRecord] = ()) -> Key:
    """Which row of the table a record belongs to.

    Settings of decoding stand behind the way of reading where they are not the usual ones, lengths and memories where
    they differ ``among`` the records: only what was told alike may be averaged.
    """
    noise, read = record.extra.get("noise_variance"), record.protocol
    shown = "" if noise is None else f"{noise:g}"
    base = (record.extra["caption_method"], record.model, read, shown, record.extra.get("prompt", ""))
    for name, usual in USUAL.items():
        if (value := record.extra.get(name, usual)) != usual:
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
