"""The words of ``docs/configuration.md`` about the keys of indexes, search and recommendations."""

from __future__ import annotations

from e2fashion.schema import (
    IndexBuildConfig,
    IndexChangeConfig,
    IndexEvaluateConfig,
    IndexRemoveConfig,
    RecommendConfig,
    SearchConfig,
)

SECTIONS: tuple[tuple[str, type, str], ...] = (
    ("index build", IndexBuildConfig, "`e2fashion index build <catalogue> key=value ...` ([search.md](search.md))."),
    (
        "index add, index update",
        IndexChangeConfig,
        "`e2fashion index add <index> <catalogue> key=value ...`, and the same with `update` ([search.md](search.md)).",
    ),
    ("index remove", IndexRemoveConfig, "`e2fashion index remove <index> key=value ...` ([search.md](search.md))."),
    (
        "index evaluate",
        IndexEvaluateConfig,
        "`e2fashion index evaluate <index> key=value ...` ([search.md](search.md)).",
    ),
    ("search", SearchConfig, "`e2fashion search <index> key=value ...` ([search.md](search.md))."),
    ("recommend", RecommendConfig, "`e2fashion recommend <index> key=value ...` ([search.md](search.md))."),
)

_INDEX = {"index": ("The folder of the index; the first word of the command", "-")}
_COMPUTING = {
    "accelerator": ("Where the encoder computes; `auto` takes a GPU if there is one", "ours"),
    "threads": ("Processor threads; null takes all", "ours"),
}
_SOURCE = {
    "source": ("A catalogue, a folder of pictures, or a text file that lists pictures, one a line", "-"),
    "split": ("Splits of a catalogue, separated by commas, or `all`; of every product the first view", "ours"),
}
_EMBEDDING = {
    "shard_rows": ("Products per file, and at most lost by an interrupt", "ours"),
    "batch_size": ("Pictures per step", "ours"),
    "workers": ("Processes that decode pictures; 0 decodes in this one", "ours"),
    "on_error": ("What to do with a picture that cannot be read: `stop`, or `skip` and list it in the index", "ours"),
    **_COMPUTING,
}
_MODEL = {"model": ("The encoder's folder or hub name, if it lies elsewhere than when the index was built", "ours")}
_OPENING = {
    "figure": ("A PNG of the products that were found; null draws none", "ours"),
    **_MODEL,
    "verify": ("Whether the checksums of all shards are compared first", "ours"),
    **_COMPUTING,
}
_WHERE = {
    "where": (
        "Tags that products must have: `where.season=Summer`, one of several `where.brand=[Puma,Nike]`, none "
        "`where.brand=null`",
        "ours",
    )
}

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    IndexBuildConfig: {
        **_SOURCE,
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "output": ("Folder of the index", "-"),
        "name": ("Name of the model in tables and messages; null is that of its run or folder", "ours"),
        **_EMBEDDING,
        "resize": ("Overrides the saved processor's way of making a square", "ours"),
        "size": ("Overrides the saved processor's size", "ours"),
    },
    IndexChangeConfig: {**_INDEX, **_SOURCE, **_MODEL, **_EMBEDDING},
    IndexRemoveConfig: {
        **_INDEX,
        "ids": ("Products, separated by commas", "ours"),
        "file": ("A text file with one product id a line", "ours"),
    },
    IndexEvaluateConfig: {
        **_INDEX,
        "columns": ("Tags whose values are asked for by name, separated by commas", "ours"),
        "template": ("Text of such a query, with a slot `{}` for the value", "ours"),
        "min_products": ("Values of fewer products are not asked for: their P@10 could not be 100", "ours"),
        **_MODEL,
        "resamples": ("Bootstrap resamples behind the intervals", "ours"),
        "seed": ("Of the bootstrap", "ours"),
        **_COMPUTING,
        "output": ("Records file; null is the run's `results.jsonl`, else `runs/search/<model>/results.jsonl`", "ours"),
    },
    SearchConfig: {
        **_INDEX,
        "text": ("What to look for in words", "ours"),
        "image": ("A picture of it", "ours"),
        "weight": ("With both, the text's share of the query, from 0 to 1", "ours"),
        **_WHERE,
        "top": ("Number of products", "ours"),
        "engine": ("`exact`, `faiss` (extra `ann`), or `auto`: exact up to a million products", "ours"),
        **_OPENING,
    },
    RecommendConfig: {
        **_INDEX,
        "product": ("The product of the index to start from", "ours"),
        "image": ("A picture to start from instead", "ours"),
        "text": ("Where to", "-"),
        "away": ("Where from; null is the mean of all products that `where` leaves", "ours"),
        **_WHERE,
        "steps": ("Steps of the way, and at most so many products", "ours"),
        "stride": ("Length of a step; vectors have length 1", "ours"),
        "support": ("Pictures nearest to a text whose mean stands for it", "ours"),
        **_OPENING,
    },
}
