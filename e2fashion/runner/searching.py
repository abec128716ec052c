"""``search`` and ``recommend``: what an index holds near a text, a picture, or on the way from one product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2fashion.arithmetic import set_threads
from e2fashion.figures import Pane, draw_sheet
from e2fashion.runner.indexing import opened
from e2fashion.tasks.search.config import RecommendConfig, SearchConfig
from e2fashion.tasks.search.index import Hit, ProductIndex
from e2fashion.tasks.search.sheet import hit_pane
from e2fashion.tasks.search.walk import GradedHit
from e2fashion.tasks.search.walk import recommend as walk

#: Widest cell of a printed table, in characters.
CELL = 40


def search(config: SearchConfig) -> str:
    """The products nearest to a query, as a table; with ``figure`` also as pictures."""
    set_threads(config.threads)
    index, _ = opened(config.index, config.model, config.accelerator, config.verify)
    where = conditions(config.where)
    hits = index.search(config.text, config.image, config.weight, where, config.top, config.engine)
    how = "exact"
    if not where and index.uses_faiss(config.engine):
        how = index.approximate.describe()
    asked = _asked(config.text, config.image, where)
    lines = [f"{asked} among {len(index):,} products of {config.index} ({how})", "", hit_table(hits)]
    if config.figure:
        panes = [hit_pane(hit, rank) for rank, hit in enumerate(hits, start=1)]
        lines += ["", str(draw_sheet(panes, Path(config.figure), asked))]
    return "\n".join(lines)


def recommend(config: RecommendConfig) -> str:
    """Products on the way from one towards a text, as a table; with ``figure`` also as pictures."""
    set_threads(config.threads)
    index, _ = opened(config.index, config.model, config.accelerator, config.verify)
    begin, found = walk(
        index,
        config.text,
        config.product,
        config.image,
        config.away,
        conditions(config.where),
        config.steps,
        config.stride,
        config.support,
    )
    start = f"product {config.product}" if config.product is not None else str(config.image)
    away = f", away from '{config.away}'" if config.away else ""
    title = f"from {start} towards '{config.text}'{away}"
    lines = [f"{title} (the start has grade {begin:+.3f})", "", _graded_table(found)]
    if not found:
        lines = [f"{title}: no product lies further along. Leave a condition out, or take another text."]
    if config.figure:
        draw_sheet(_walk_panes(index, config, begin, found), Path(config.figure), title)
        lines += ["", config.figure]
    return "\n".join(lines)


def conditions(where: Mapping[str, Any]) -> dict[str, str | list[str] | None]:
    """Values of a configuration, numbers among them, as tags are stored: strings."""
    return {
        column: None if value is None else [str(own) for own in value] if isinstance(value, list) else str(value)
        for column, value in where.items()
    }


def hit_table(hits: Sequence[Hit]) -> str:
    """Rank, score, id, description and tags, in columns."""
    rows = [[str(rank), f"{hit.score:.4f}", *_words(hit)] for rank, hit in enumerate(hits, start=1)]
    return columns(["", "score", "product", "description", "tags"], rows)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in columns as wide as their longest cell; cells of the last column may be long."""
    cut = [[*(_cut(cell, CELL) for cell in row[:-1]), _cut(row[-1], 2 * CELL)] for row in rows]
    widths = [max(len(row[place]) for row in [header, *cut]) for place in range(len(header))]
    lines = [header, *cut]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )


def _graded_table(found: Sequence[GradedHit]) -> str:
    rows = [
        [str(step), f"{item.grade:+.3f}", f"{item.similarity:.3f}", f"{item.hit.score:.3f}", *_words(item.hit)]
        for step, item in enumerate(found, start=1)
    ]
    return columns(["", "grade", "similarity", "score", "product", "description", "tags"], rows)


def _walk_panes(index: ProductIndex, config: RecommendConfig, begin: float, found: Sequence[GradedHit]) -> list[Pane]:
    panes = [hit_pane(item.hit, step, f"   grade {item.grade:+.3f}") for step, item in enumerate(found, start=1)]
    if config.product is None:
        return panes
    (start,) = index.hits([index.place_of(config.product)], [1.0])
    first = hit_pane(start, 0)
    return [Pane(first.picture, [f"start   grade {begin:+.3f}", *first.lines[1:]]), *panes]


def _asked(text: str | None, image: str | None, where: Mapping[str, str | list[str] | None]) -> str:
    parts = [f"'{text}'"] if text is not None else []
    parts += [str(image)] if image is not None else []
    kept = [f"{column} {' or '.join(v) if isinstance(v, list) else v or 'unknown'}" for column, v in where.items()]
    return " + ".join(parts) + (f" where {', '.join(kept)}" if kept else "")


def _words(hit: Hit) -> list[str]:
    return [hit.product_id, hit.description or "", ", ".join(hit.tags.values())]


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
