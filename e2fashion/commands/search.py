"""``index build | add | update | remove | describe | evaluate``, ``search`` and ``recommend``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.search.config import (
    IndexBuildConfig,
    IndexChangeConfig,
    IndexConfig,
    IndexEvaluateConfig,
    IndexRemoveConfig,
    RecommendConfig,
    SearchConfig,
)

if TYPE_CHECKING:
    from e2fashion.tasks.search.index import Hit, ProductIndex

COMMANDS = Commands()
#: Widest cell of a printed table, in characters; the last column may be twice as wide.
CELL = 40


@COMMANDS.add(
    "index build",
    "<catalogue, folder or list of images> model=<model> output=<index> [split=all]",
    "embed products into a search index, or resume an interrupted build",
    IndexBuildConfig,
    positional=("source",),
    page="search.md",
)
def build(config: IndexBuildConfig, arguments: Arguments) -> str:
    """Build an index and describe it."""
    from e2fashion.tasks.search.build import build

    return description(build(config, arguments.progress))


@COMMANDS.add(
    "index add",
    "<index> <catalogue, folder or list of images>",
    "embed more products into an index",
    IndexChangeConfig,
    positional=("index", "source"),
    page="search.md",
)
def add(config: IndexChangeConfig, arguments: Arguments) -> str:
    """Add products and describe the index."""
    from e2fashion.tasks.search.build import change

    return description(change(config, update=False, progress=arguments.progress))


@COMMANDS.add(
    "index update",
    "<index> <catalogue, folder or list of images>",
    "embed products of an index again",
    IndexChangeConfig,
    positional=("index", "source"),
    page="search.md",
)
def update(config: IndexChangeConfig, arguments: Arguments) -> str:
    """Embed products again and describe the index."""
    from e2fashion.tasks.search.build import change

    return description(change(config, update=True, progress=arguments.progress))


@COMMANDS.add(
    "index remove",
    "<index> ids=<id>,<id> [file=<ids.txt>]",
    "remove products from an index",
    IndexRemoveConfig,
    positional=("index",),
    page="search.md",
)
def remove(config: IndexRemoveConfig, arguments: Arguments) -> str:
    """Remove products and describe the index."""
    from e2fashion.tasks.search.build import remove

    return description(remove(config))


@COMMANDS.add(
    "index describe",
    "<index>",
    "describe an index and check that it is complete",
    IndexConfig,
    positional=("index",),
    page="search.md",
)
def describe(config: IndexConfig, arguments: Arguments) -> str:
    """The description of an index, after verifying all checksums."""
    from e2fashion.tasks.search.index import open_index

    return description(open_index(config.index))


@COMMANDS.add(
    "index evaluate",
    "<index> columns=brand,season [min_products=10]",
    "measure retrieval of products by their text, and of categories by their name",
    IndexEvaluateConfig,
    positional=("index",),
    page="search.md",
)
def evaluate(config: IndexEvaluateConfig, arguments: Arguments) -> str:
    """Append records and show them as tables."""
    from e2fashion.report import keep_records
    from e2fashion.tasks.search.index import model_of
    from e2fashion.tasks.search.measure import evaluate

    return keep_records(*evaluate(config), model_of(config))


@COMMANDS.add(
    "search",
    "<index> text=... [image=<image>] [where.<tag>=<value>] [top=10] [figure=<file.png>]",
    "find products by text, image or both",
    SearchConfig,
    positional=("index",),
    page="search.md",
)
def search(config: SearchConfig, arguments: Arguments) -> str:
    """The nearest products, as a table; with ``figure`` also as images."""
    from e2fashion.figures import draw_sheet
    from e2fashion.tasks.search.index import search

    found = search(config)
    query = _query(config)
    rows = [[str(rank), f"{hit.score:.4f}", *_cells(hit)] for rank, hit in enumerate(found.hits, start=1)]
    table = columns(["", "score", "product", "description", "tags"], rows)
    lines = [f"{query} among {found.products:,} products of {config.index} ({found.method})", "", table]
    if config.figure:
        panes = [hit.pane(str(rank)) for rank, hit in enumerate(found.hits, start=1)]
        lines += ["", str(draw_sheet(panes, Path(config.figure), query))]
    return "\n".join(lines)


@COMMANDS.add(
    "recommend",
    "<index> product=<id> text=... [away=...] [where.<tag>=<value>] [figure=<file.png>]",
    "move from a product towards a text: a graded list",
    RecommendConfig,
    positional=("index",),
    page="search.md",
)
def recommend(config: RecommendConfig, arguments: Arguments) -> str:
    """The products on the path, as a table; with ``figure`` also as images."""
    from e2fashion.figures import draw_sheet
    from e2fashion.tasks.search.recommend import recommend

    path = recommend(config)
    start = f"product {config.product}" if config.product is not None else str(config.image)
    title = f"from {start} towards '{config.text}'" + (f", away from '{config.away}'" if config.away else "")
    rows = [
        [str(step), f"{item.grade:+.3f}", f"{item.similarity:.3f}", f"{item.hit.score:.3f}", *_cells(item.hit)]
        for step, item in enumerate(path.hits, start=1)
    ]
    table = columns(["", "grade", "similarity", "score", "product", "description", "tags"], rows)
    lines = [f"{title} (the start has grade {path.start_grade:+.3f})", "", table]
    if not rows:
        lines = [f"{title}: no product lies further along. Leave a condition out, or take another text."]
    if config.figure:
        panes = [path.start.pane("start", f"   grade {path.start_grade:+.3f}")] if path.start else []
        panes += [item.hit.pane(str(step), f"   grade {item.grade:+.3f}") for step, item in enumerate(path.hits, 1)]
        lines += ["", str(draw_sheet(panes, Path(config.figure), title))]
    return "\n".join(lines)


def description(index: ProductIndex) -> str:
    """Products, shards, encoder, tags and origins of an index."""
    manifest = index.manifest
    encoder = manifest.encoder
    removed = sum(len(shard.removed) for shard in manifest.shards)
    size = sum((index.path / name).stat().st_size for s in manifest.shards for name in (s.embeds_file, s.products_file))
    lines = [
        f"{index.path}: {len(index):,} products in {len(manifest.shards)} shards, {size / 1e6:.1f} MB"
        + (f", {removed:,} rows removed" if removed else ""),
        f"encoder: {encoder.name} ({encoder.fingerprint[:12]}), {encoder.dimension} wide, images {encoder.resize} at "
        f"{encoder.image_size} px" + (f", from {encoder.source}" if encoder.source else ""),
        f"tags: {', '.join(index.tag_columns) or 'none'}",
    ]
    for origin in {shard.origin.fingerprint: shard.origin for shard in manifest.shards}.values():
        splits = f" ({', '.join(origin.splits)})" if origin.splits else ""
        lines.append(f"from {origin.kind} {origin.path}{splits}, {origin.fingerprint[:12]}")
    if manifest.skipped:
        lines.append(f"{len(manifest.skipped)} products skipped, listed in {index.path / 'index.json'}")
    if (pending := manifest.pending) is not None:
        lines.append(f"an {pending.verb} was interrupted at {pending.done:,} of {pending.total:,}: repeat its command")
    return "\n".join(lines)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in columns as wide as their longest cell."""
    lines = [header, *([*(_cut(cell, CELL) for cell in row[:-1]), _cut(row[-1], 2 * CELL)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _query(config: SearchConfig) -> str:
    """Text, image and conditions of a search in one line."""
    parts = [f"'{config.text}'"] if config.text is not None else []
    parts += [config.image] if config.image is not None else []
    conditions = [
        f"{column} {' or '.join(map(str, value)) if isinstance(value, list) else 'unknown' if value is None else value}"
        for column, value in config.where.items()
    ]
    return " + ".join(parts) + (f" where {', '.join(conditions)}" if conditions else "")


def _cells(hit: Hit) -> list[str]:
    return [hit.product_id, hit.description or "", ", ".join(hit.tags.values())]


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
