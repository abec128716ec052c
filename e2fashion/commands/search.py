"""``index build | sync | add | remove | compact | upgrade | describe | evaluate``, ``search`` and ``recommend``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.search.config import (
    IndexAddConfig,
    IndexBuildConfig,
    IndexCompactConfig,
    IndexConfig,
    IndexEvaluateConfig,
    IndexRemoveConfig,
    IndexSyncConfig,
    RecommendConfig,
    SearchConfig,
)
from e2fashion.terminal import counted

if TYPE_CHECKING:
    from e2fashion.tasks.search.index import ProductIndex
    from e2fashion.tasks.search.snapshot import Hit

COMMANDS = Commands("search.md")
#: Widest cell of a printed table, in characters; the last column may be twice as wide.
CELL = 40
#: Tags below an image of a contact sheet.
TAGS_SHOWN = 3


@COMMANDS.add(
    "index build",
    "<catalogue, folder or list of images> model=<model> output=<index> [split=all]",
    "embed products into a search index, or resume an interrupted build",
    IndexBuildConfig,
    positional=("source",),
)
def build(config: IndexBuildConfig, arguments: Arguments) -> str:
    """Build an index and describe it."""
    from e2fashion.tasks.search.build import build

    return description(build(config, arguments.progress))


@COMMANDS.add(
    "index sync",
    "<index> <catalogue, folder or list of images>",
    "make an index equal to its source",
    IndexSyncConfig,
    positional=("index", "source"),
)
def sync(config: IndexSyncConfig, arguments: Arguments) -> str:
    """Embed what is new, remove what is gone, and describe the index."""
    from e2fashion.tasks.search.build import sync

    return description(sync(config, arguments.progress))


@COMMANDS.add(
    "index add",
    "<index> <catalogue, folder or list of images> [replace=true]",
    "embed more products into an index",
    IndexAddConfig,
    positional=("index", "source"),
)
def add(config: IndexAddConfig, arguments: Arguments) -> str:
    """Add products and describe the index."""
    from e2fashion.tasks.search.build import add

    return description(add(config, arguments.progress))


@COMMANDS.add(
    "index remove",
    "<index> ids=<id>,<id> [file=<ids.txt>]",
    "remove products from an index",
    IndexRemoveConfig,
    positional=("index",),
)
def remove(config: IndexRemoveConfig, arguments: Arguments) -> str:
    """Remove products and describe the index."""
    from e2fashion.tasks.search.build import remove

    return description(remove(config))


@COMMANDS.add(
    "index compact",
    "<index> [lists=true]",
    "merge the files that many changes left, and remove old versions",
    IndexCompactConfig,
    positional=("index",),
)
def compact(config: IndexCompactConfig, arguments: Arguments) -> str:
    """Compact an index and describe it."""
    from e2fashion.tasks.search.build import compact

    return description(compact(config))


@COMMANDS.add(
    "index describe",
    "<index>",
    "describe an index and check all that it holds",
    IndexConfig,
    positional=("index",),
)
def describe(config: IndexConfig, arguments: Arguments) -> str:
    """The description of an index, after comparing every row with its checksums."""
    from e2fashion.tasks.search.index import open_index

    index = open_index(config.index)
    index.snapshot().check()
    return description(index)


@COMMANDS.add(
    "index upgrade",
    "<index>",
    "rewrite an index of an earlier version",
    IndexConfig,
    positional=("index",),
)
def upgrade(config: IndexConfig, arguments: Arguments) -> str:
    """Upgrade an index and describe it."""
    from e2fashion.tasks.search.index import open_index
    from e2fashion.tasks.search.places import place_of
    from e2fashion.tasks.search.upgrade import upgrade

    upgrade(place_of(config.index))
    return description(open_index(config.index))


@COMMANDS.add(
    "index evaluate",
    "<index> columns=brand,season [min_products=10]",
    "measure retrieval of products by their text, and of categories by their name",
    IndexEvaluateConfig,
    positional=("index",),
)
def evaluate(config: IndexEvaluateConfig, arguments: Arguments) -> str:
    """Append records and show them as tables."""
    from e2fashion.report import keep_records
    from e2fashion.tasks.search.index import model_of
    from e2fashion.tasks.search.measure import evaluate

    return keep_records(*evaluate(config), model_of(config))


@COMMANDS.add(
    "search",
    "<index> text=... [image=<image>] [where.<tag>=<value>] [tags.<entity>=<tag>] [top=10] [figure=<file.png>]",
    "find products by text, image or both",
    SearchConfig,
    positional=("index",),
)
def search(config: SearchConfig, arguments: Arguments) -> str:
    """The nearest products, as a table; with ``figure`` also as images."""
    from e2fashion.tasks.search.index import search

    found = search(config)
    query = _query(config) + _with_tags(found.tags)
    rows = [[str(rank), f"{hit.score:.4f}", *_cells(hit)] for rank, hit in enumerate(found.hits, start=1)]
    table = columns(["", "score", "product", "description", "tags"], rows)
    lines = [f"{query} among {found.products:,} products of {config.index} ({found.method})", "", table]
    if config.figure:
        cells = [(str(rank), hit, "") for rank, hit in enumerate(found.hits, start=1)]
        lines += ["", _sheet(cells, config.figure, query)]
    return "\n".join(lines)


@COMMANDS.add(
    "recommend",
    "<index> product=<id> text=... [away=...] [where.<tag>=<value>] [figure=<file.png>]",
    "move from a product towards a text: a graded list",
    RecommendConfig,
    positional=("index",),
)
def recommend(config: RecommendConfig, arguments: Arguments) -> str:
    """The products on the path, as a table; with ``figure`` also as images."""
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
        cells = [("start", path.start, f"   grade {path.start_grade:+.3f}")] if path.start else []
        cells += [(str(step), item.hit, f"   grade {item.grade:+.3f}") for step, item in enumerate(path.hits, 1)]
        lines += ["", _sheet(cells, config.figure, title)]
    return "\n".join(lines)


def _sheet(cells: Sequence[tuple[str, Hit, str]], file: str, title: str) -> str:
    """Draw a contact sheet of ranks, products and what follows their scores; its file."""
    from e2fashion.figures import Pane, draw_sheet
    from e2fashion.tasks.search.tags import tag_text

    panes = [
        Pane(
            hit.image(),
            [
                f"{rank}   {hit.score:.3f}{note}",
                hit.description or hit.product_id,
                *[tag_text(value) for value in hit.tags.values()][:TAGS_SHOWN],
            ],
        )
        for rank, hit, note in cells
    ]
    return str(draw_sheet(panes, Path(file), title))


def description(index: ProductIndex) -> str:
    """Products, encoder, tags and origin of an index."""
    snapshot, facts = index.snapshot(), index.facts
    encoder, origin = facts.encoder, facts.origin
    state = snapshot.table.stats()
    images = f" with {len(snapshot.row_ids):,} images" if len(snapshot.row_ids) > len(index) else ""
    kinds = [name if kind == "text" else f"{name} ({kind})" for name, kind in facts.typing.kinds.items()]
    splits = f" ({', '.join(origin.splits)})" if origin.splits else ""
    lines = [
        f"{index.path}: {len(index):,} products{images}, {state['total_bytes'] / 1e6:.1f} MB, version {index.version}",
        f"encoder: {encoder.name} ({encoder.fingerprint[:12]}), {encoder.dimension} wide, images {encoder.resize} at "
        f"{encoder.image_size} px" + (f", from {encoder.source}" if encoder.source else ""),
        f"tags: {', '.join(kinds) or 'none'}",
        f"from {origin.kind} {origin.path}{splits}, {origin.fingerprint[:12]}"
        + ("" if snapshot.content == origin.content else ", changed since"),
    ]
    if facts.text_weight:
        lines.append(f"vectors of image and text, {facts.text_weight:g} of it the text")
    if facts.regions:
        lines.append(f"vectors of image and regions ({', '.join(facts.regions)}), which weigh {facts.region_weight:g}")
    if (known := facts.approximation) is not None:
        lines.append(f"inverted lists: {known.words()}")
    if facts.skipped:
        lines.append(f"{counted(len(facts.skipped), 'products')} skipped, listed in {index.path}/index.json")
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
        f"{column}{' not' if excluded else ''} {'unknown' if value is None else _listed(value)}"
        for excluded, where in ((False, config.where), (True, config.where_not))
        for column, value in where.items()
    ]
    conditions += [config.filter] if config.filter else []
    return " + ".join(parts) + (f" where {', '.join(conditions)}" if conditions else "")


def _with_tags(tags: Mapping[str, str]) -> str:
    return f" with {', '.join(f'{entity} {value}' for entity, value in tags.items())}" if tags else ""


def _listed(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cells(hit: Hit) -> list[str]:
    from e2fashion.tasks.search.tags import tag_text

    return [hit.product_id, hit.description or "", ", ".join(map(tag_text, hit.tags.values()))]


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
