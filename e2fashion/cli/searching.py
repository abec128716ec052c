"""``index build | add | update | remove | describe | evaluate``, ``search`` and ``recommend``."""

from __future__ import annotations

from e2fashion.cli.words import Verb, Words, one_place, show
from e2fashion.types import E2FashionError

INDEX = "index folder"
SOURCE = "a catalogue, a folder of pictures, or a text file that lists pictures"


def _build(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import IndexBuildConfig

    config = load_config(IndexBuildConfig, None, [f"source={one_place(words, SOURCE[2:])}", *words.overrides])
    show(runner.index_build(config, progress=not words.quiet))
    return 0


def _change(words: Words, update: bool) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import IndexChangeConfig

    if len(words.places) != 2:
        raise E2FashionError(f"Give an {INDEX}, then {SOURCE}; got {', '.join(words.places) or 'nothing'}.")
    index, source = words.places
    config = load_config(IndexChangeConfig, None, [f"index={index}", f"source={source}", *words.overrides])
    show(runner.index_change(config, update, progress=not words.quiet))
    return 0


def _add(words: Words) -> int:
    return _change(words, update=False)


def _update(words: Words) -> int:
    return _change(words, update=True)


def _remove(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import IndexRemoveConfig

    config = load_config(IndexRemoveConfig, None, [f"index={one_place(words, INDEX)}", *words.overrides])
    show(runner.index_remove(config))
    return 0


def _describe(words: Words) -> int:
    from e2fashion import runner

    if words.overrides:
        raise E2FashionError(f"index describe takes an {INDEX} alone; got {', '.join(words.overrides)}.")
    show(runner.index_describe(one_place(words, INDEX)))
    return 0


def _evaluate(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import IndexEvaluateConfig

    config = load_config(IndexEvaluateConfig, None, [f"index={one_place(words, INDEX)}", *words.overrides])
    show(runner.index_evaluate(config))
    return 0


def _search(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import SearchConfig

    config = load_config(SearchConfig, None, [f"index={one_place(words, INDEX)}", *words.overrides])
    show(runner.search(config))
    return 0


def _recommend(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import RecommendConfig

    config = load_config(RecommendConfig, None, [f"index={one_place(words, INDEX)}", *words.overrides])
    show(runner.recommend(config))
    return 0


VERBS: dict[str, Verb] = {
    "index build": Verb(
        "index build <catalogue, folder or list of pictures> model=<model> output=<index> [split=all]",
        "embed products into an index that can be searched, or go on with one that was interrupted",
        _build,
        "IndexBuildConfig",
        page="search.md",
        argument="source",
    ),
    "index add": Verb(
        "index add <index> <catalogue, folder or list of pictures>",
        "embed more products into an index",
        _add,
        "IndexChangeConfig",
        page="search.md",
        argument="index",
    ),
    "index update": Verb(
        "index update <index> <catalogue, folder or list of pictures>",
        "embed products of an index anew",
        _update,
        "IndexChangeConfig",
        page="search.md",
        argument="index",
    ),
    "index remove": Verb(
        "index remove <index> ids=<id>,<id> [file=<ids.txt>]",
        "take products out of an index",
        _remove,
        "IndexRemoveConfig",
        page="search.md",
        argument="index",
    ),
    "index describe": Verb(
        "index describe <index>",
        "say what an index holds, and check that it is whole",
        _describe,
    ),
    "index evaluate": Verb(
        "index evaluate <index> columns=brand,season [min_products=10]",
        "measure how well products are found by their text, and categories by their name",
        _evaluate,
        "IndexEvaluateConfig",
        page="search.md",
        argument="index",
    ),
    "search": Verb(
        "search <index> text=... [image=<picture>] [where.<tag>=<value>] [top=10] [figure=<file.png>]",
        "find products by text, picture or both",
        _search,
        "SearchConfig",
        page="search.md",
        argument="index",
    ),
    "recommend": Verb(
        "recommend <index> product=<id> text=... [away=...] [where.<tag>=<value>] [figure=<file.png>]",
        "walk from a product towards a text: a graded list",
        _recommend,
        "RecommendConfig",
        page="search.md",
        argument="index",
    ),
}
