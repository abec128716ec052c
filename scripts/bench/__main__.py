"""``python -m scripts.bench [name ...] [key=value ...]``: run all benchmarks or those named, print one table.

Options: ``output=<file.md>`` keeps the table (between its marks, if the file has them), ``turns=5`` is how often every
arm runs, ``queries=2000`` bounds the memory measurement (100000: all of it), ``products=100000`` the larger index whose
memory is measured, ``model=<folder>`` measures flips on a trained E2 instead of random weights.
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
from scripts.bench import (
    attention,
    captions,
    filip_memory,
    flips,
    image_encoder,
    index_memory,
    matmul,
    mixed_sizes,
    occlusion,
    pictures,
    probe,
    ranking,
    ranking_memory,
    search,
    start_up,
    training_loop,
    training_step,
)
from scripts.bench.report import Result, keep, machine, table
from scripts.bench.workplace import Workplace

BENCHMARKS: dict[str, Callable[[Workplace], list[Result]]] = {
    "training_step": training_step.run,
    "pictures": pictures.run,
    "mixed_sizes": mixed_sizes.run,
    "image_encoder": image_encoder.run,
    "training_loop": training_loop.run,
    "matmul": matmul.run,
    "ranking": ranking.run,
    "ranking_memory": ranking_memory.run,
    "filip_memory": filip_memory.run,
    "probe": probe.run,
    "search": search.run,
    "index_memory": index_memory.run,
    "attention": attention.run,
    "occlusion": occlusion.run,
    "flips": flips.run,
    "captions": captions.run,
    "start_up": start_up.run,
}
#: Whose progress has no part in a table.
TALKATIVE = ("pytorch_lightning", "lightning", "e2fashion")
OPTIONS = ("output", "turns", "queries", "products", "model")


def parse(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of benchmarks (none: all) and options.

    Raises:
        E2FashionError: a word is neither.
    """
    names = [word for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
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


def main(words: Sequence[str]) -> int:
    """Run, print, and say by the exit code whether every target was met (2: the words were not understood)."""
    try:
        names, options = parse(words)
        results: list[Result] = []
        with errors_alone(TALKATIVE), tempfile.TemporaryDirectory(prefix="e2fashion-bench-") as folder:
            trained = Path(options["model"]) if "model" in options else None
            workplace = Workplace(Path(folder), model=trained)
            workplace.turns = int(options.get("turns", workplace.turns))
            workplace.queries = int(options.get("queries", workplace.queries))
            workplace.index_products = int(options.get("products", workplace.index_products))
            for name in names:
                start = time.perf_counter()
                print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
                results += BENCHMARKS[name](workplace)
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
