"""``python -m scripts.bench [name ...] [key=value ...]``: run all benchmarks or those named, print one table.

Options: ``output=<file.md>`` keeps the table (between its marks, if the file has them), ``turns=5`` is how often every
variant runs, ``queries=2000`` bounds the memory measurement (100000: all of it), ``products=100000`` the larger index
whose memory is measured, ``model=<folder>`` measures flips on a trained E2 instead of random weights.
Real products are used where ``E2FASHION_DATA`` names their folder, SynthFashion otherwise.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from e2fashion.terminal import errors_alone
from e2fashion.types import E2FashionError
from scripts.bench.captions import captions
from scripts.bench.encoders import flips, image_encoder
from scripts.bench.harness import Context, Result, keep, machine, table
from scripts.bench.images import images_of_a_catalogue, mixed_sizes
from scripts.bench.large_batches import large_batches
from scripts.bench.occlusion import occlusion
from scripts.bench.probe import probe
from scripts.bench.ranking import filip_memory, ranking, ranking_memory
from scripts.bench.search import exact_search, index_build, index_memory, inverted_lists
from scripts.bench.start_up import start_up
from scripts.bench.training_loop import attention, matmul, training_loop
from scripts.bench.training_step import training_step

BENCHMARKS: dict[str, Callable[[Context], list[Result]]] = {
    "training_step": training_step,
    "images": images_of_a_catalogue,
    "mixed_sizes": mixed_sizes,
    "image_encoder": image_encoder,
    "training_loop": training_loop,
    "large_batches": large_batches,
    "matmul": matmul,
    "ranking": ranking,
    "ranking_memory": ranking_memory,
    "filip_memory": filip_memory,
    "probe": probe,
    "index_build": index_build,
    "exact_search": exact_search,
    "index_memory": index_memory,
    "inverted_lists": inverted_lists,
    "attention": attention,
    "occlusion": occlusion,
    "flips": flips,
    "captions": captions,
    "start_up": start_up,
}
#: Loggers that write errors alone while a table is made.
QUIET = ("pytorch_lightning", "lightning", "e2fashion")
OPTIONS = ("output", "turns", "queries", "products", "model")


def parse(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of benchmarks (none: all) and options.

    Raises:
        E2FashionError: an argument is neither.
    """
    names = [argument for argument in arguments if "=" not in argument]
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    for name in names:
        if name not in BENCHMARKS:
            raise E2FashionError(f"There is no benchmark '{name}'. Benchmarks: {', '.join(BENCHMARKS)}.")
    for key in options:
        if key not in OPTIONS:
            raise E2FashionError(f"There is no option '{key}'. Options: {', '.join(OPTIONS)}, as in turns=5.")
    for key in ("turns", "queries", "products"):
        if key in options and not (options[key].isdecimal() and int(options[key]) > 0):
            raise E2FashionError(f"{key}={options[key]}: give a whole number above 0.")
    return names or list(BENCHMARKS), options


def main(arguments: Sequence[str]) -> int:
    """Run, print, and say by the exit code whether every target was met (2: a mistake in the arguments)."""
    try:
        names, options = parse(arguments)
        results: list[Result] = []
        with errors_alone(QUIET), tempfile.TemporaryDirectory(prefix="e2fashion-bench-") as folder:
            trained = Path(options["model"]) if "model" in options else None
            context = Context(Path(folder), model=trained)
            context.turns = int(options.get("turns", context.turns))
            context.queries = int(options.get("queries", context.queries))
            context.index_products = int(options.get("products", context.index_products))
            for name in names:
                start = time.perf_counter()
                print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
                results += BENCHMARKS[name](context)
                print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
                text = f"{table(results)}\n{machine()}\n"
                if "output" in options:  # after each: what is measured stays if a later one is interrupted
                    keep(text, Path(options["output"]))
    except E2FashionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{table(results)}\n{machine()}\n")
    return int(any(result.passed is False for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
