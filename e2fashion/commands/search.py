"""``index build | add | update | remove | describe | evaluate``, ``search`` and ``recommend``."""

from __future__ import annotations

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

COMMANDS = Commands()


@COMMANDS.add(
    "index build",
    "<catalogue, folder or list of images> model=<model> output=<index> [split=all]",
    "embed products into an index that can be searched, or go on with one that was interrupted",
    IndexBuildConfig,
    positional=("source",),
    page="search.md",
)
def build(config: IndexBuildConfig, arguments: Arguments) -> str:
    """Build an index and describe it."""
    from e2fashion import runner

    return runner.index_build(config, progress=arguments.progress)


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
    from e2fashion import runner

    return runner.index_change(config, update=False, progress=arguments.progress)


@COMMANDS.add(
    "index update",
    "<index> <catalogue, folder or list of images>",
    "embed products of an index anew",
    IndexChangeConfig,
    positional=("index", "source"),
    page="search.md",
)
def update(config: IndexChangeConfig, arguments: Arguments) -> str:
    """Embed products again and describe the index."""
    from e2fashion import runner

    return runner.index_change(config, update=True, progress=arguments.progress)


@COMMANDS.add(
    "index remove",
    "<index> ids=<id>,<id> [file=<ids.txt>]",
    "take products out of an index",
    IndexRemoveConfig,
    positional=("index",),
    page="search.md",
)
def remove(config: IndexRemoveConfig, arguments: Arguments) -> str:
    """Remove products and describe the index."""
    from e2fashion import runner

    return runner.index_remove(config)


@COMMANDS.add(
    "index describe",
    "<index>",
    "say what an index holds, and check that it is whole",
    IndexConfig,
    positional=("index",),
    page="search.md",
)
def describe(config: IndexConfig, arguments: Arguments) -> str:
    """What an index holds."""
    from e2fashion import runner

    return runner.index_describe(config.index)


@COMMANDS.add(
    "index evaluate",
    "<index> columns=brand,season [min_products=10]",
    "measure how well products are found by their text, and categories by their name",
    IndexEvaluateConfig,
    positional=("index",),
    page="search.md",
)
def evaluate(config: IndexEvaluateConfig, arguments: Arguments) -> str:
    """Append records and show them as tables."""
    from e2fashion import runner

    return runner.index_evaluate(config)


@COMMANDS.add(
    "search",
    "<index> text=... [image=<image>] [where.<tag>=<value>] [top=10] [figure=<file.png>]",
    "find products by text, image or both",
    SearchConfig,
    positional=("index",),
    page="search.md",
)
def search(config: SearchConfig, arguments: Arguments) -> str:
    """The products found, as a table."""
    from e2fashion import runner

    return runner.search(config)


@COMMANDS.add(
    "recommend",
    "<index> product=<id> text=... [away=...] [where.<tag>=<value>] [figure=<file.png>]",
    "go from a product towards a text: a graded list",
    RecommendConfig,
    positional=("index",),
    page="search.md",
)
def recommend(config: RecommendConfig, arguments: Arguments) -> str:
    """The products on the way, as a table."""
    from e2fashion import runner

    return runner.recommend(config)
