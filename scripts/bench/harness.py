"""The harness of all benchmarks: products, variants timed in turns, fresh processes, and the table of results."""

from __future__ import annotations

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import build_source
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.run_folder import RECORDED_PACKAGES, git_commit
from e2fashion.types import E2FashionError

MARKS = ("<!-- bench: begin -->", "<!-- bench: end -->")

Variant = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of every run by variant; run i of all variants was in one turn."""

    seconds: Mapping[str, list[float]]

    def median(self, variant: str) -> float:
        """Median seconds of one run."""
        return statistics.median(self.seconds[variant])

    def ratios(self, slow: str, fast: str) -> list[float]:
        """The ratio of the two variants' seconds in each turn."""
        return [a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True)]

    def ratio(self, slow: str, fast: str) -> float:
        """Median of the ratios: what slows a whole turn down cancels out."""
        return statistics.median(self.ratios(slow, fast))

    def spread(self, slow: str, fast: str) -> str:
        """The smallest and the largest ratio of a turn."""
        ratios = self.ratios(slow, fast)
        return f"{min(ratios):.2f} to {max(ratios):.2f}"


@dataclass(frozen=True)
class Result:
    """One measured claim: ``passed`` is None where there is no target, ``detail`` says on what it was measured."""

    benchmark: str
    claim: str
    target: str
    measured: str
    passed: bool | None = None
    detail: str = ""

    def also(self, target: str, measured: str, passed: bool) -> Result:
        """The result with a second condition."""
        both = bool(self.passed) and passed
        return replace(self, target=f"{self.target}{target}", measured=f"{self.measured}, {measured}", passed=both)


def interleave(
    variants: Mapping[str, Variant], turns: int, warmup: int = 1, clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Run A B A B ...: every variant once a turn, in the given order, after ``warmup`` turns that are not counted."""

    def timed(variant: Variant) -> float:
        start = clock()
        variant()
        return clock() - start

    return in_turns({name: partial(timed, variant) for name, variant in variants.items()}, turns, warmup)


def in_turns(variants: Mapping[str, Callable[[], float]], turns: int, warmup: int = 1) -> Timing:
    """:func:`interleave` of variants that return their seconds themselves."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(-warmup, turns):
        for name, variant in variants.items():
            measured = variant()
            if turn >= 0:
                seconds[name].append(measured)
    return Timing(seconds)


def compare(
    benchmark: str,
    claim: str,
    timing: Timing,
    pair: tuple[str, str],
    detail: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    percent: bool = False,
) -> Result:
    """The ratio of the seconds of a pair of variants, its spread over the turns, and whether it meets its target."""
    ratio = timing.ratio(*pair)
    target, passed = "-", None
    if at_least is not None:
        target, passed = f"at least {at_least:.0%}" if percent else f"at least {at_least:g} x", ratio >= at_least
    elif at_most is not None:
        target, passed = f"at most {at_most:.0%}" if percent else f"at most {at_most:g} x", ratio <= at_most
    measured = f"{ratio:.1%}" if percent else f"{ratio:.2f} x"
    return Result(benchmark, claim, target, f"{measured} ({timing.spread(*pair)})", passed, detail)


def in_fresh_process(function: Callable[..., Mapping[str, float]], *arguments: int) -> dict[str, float]:
    """What a function of a module returns in a process that has done nothing else: for measurements of memory."""
    code = (
        f"import json, sys; from {function.__module__} import {function.__name__} as measure; "
        "print(json.dumps(measure(*map(int, sys.argv[1:]))))"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    measured: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return measured


def memory_mb(entry: str) -> float:
    """Resident memory of this process in MB (10^6 bytes): ``VmRSS`` now, ``VmHWM`` at its peak. Linux only.

    Not ``ru_maxrss``: a process inherits the peak of the one that started it.
    """
    listing = Path("/proc/self/status")
    if not listing.is_file():
        raise E2FashionError(f"The memory benchmark reads {listing}, which this system lacks: run it on Linux.")
    lines = listing.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{entry}:"))


def extra_memory(function: Variant) -> dict[str, float]:
    """``seconds`` of a function, and ``extra_mb``: the peak of this process less what was resident before the call.

    A peak from before the call counts too, which makes the number an upper bound.
    """
    before, start = memory_mb("VmRSS"), time.perf_counter()
    function()
    return {"extra_mb": memory_mb("VmHWM") - before, "seconds": time.perf_counter() - start}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch on ``number`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def table(results: Sequence[Result]) -> str:
    """The results as Markdown, what they were measured on below."""
    lines = ["| benchmark | claim | target | measured | |", "|---|---|---|---|---|"]
    for result in results:
        verdict = {True: "pass", False: "**miss**", None: ""}[result.passed]
        lines.append(f"| {result.benchmark} | {result.claim} | {result.target} | {result.measured} | {verdict} |")
    notes = [f"- {result.benchmark}, {result.claim}: {result.detail}" for result in results if result.detail]
    return "\n".join([*lines, "", *notes]) + "\n"


def machine() -> str:
    """Processor (no benchmark uses a GPU), threads, versions and commit in one paragraph."""
    versions = ", ".join(f"{package} {version(package)}" for package in RECORDED_PACKAGES)
    return (
        f"Measured on {_processor_name()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, torch {torch.__version__}, {versions}; "
        f"commit {git_commit() or 'unknown'}. "
        "Ratios are medians over turns in which every variant ran once; in brackets the smallest and the largest."
    )


def keep(text: str, file: Path) -> None:
    """Write ``text`` as the file, or where the file has the two :data:`MARKS`, between them: prose around it stays."""
    content = file.read_text(encoding="utf-8") if file.is_file() else ""
    before, begin, rest = content.partition(MARKS[0])
    _, end, behind = rest.partition(MARKS[1])
    file.write_text(f"{before}{begin}\n{text}{end}{behind}" if begin and end else text, encoding="utf-8")


def _processor_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


KAGL = "fashion-product-images"
KAGL_LARGE = "fashion-product-images-1k-hires"
LARGE_PIXELS = 256
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Products:
    """A catalogue, where its products come from, five columns that hold a tag of (nearly) every product, and the
    template of the text that ``configs/run`` trains on."""

    catalogue: Catalogue
    origin: str
    columns: tuple[str, ...]
    text: str


@dataclass
class Context:
    """Options of one call, and the products, prepared once each when first used.

    ``turns``: how often every variant runs; ``queries``: of the memory measurement; ``index_products``: of the larger
    index whose memory is measured; ``model``: a trained E2 for the measurement of flips (None: random weights).
    """

    folder: Path
    turns: int = 5
    queries: int = 2_000
    index_products: int = 100_000
    model: Path | None = None
    data: Path | None = field(default_factory=lambda: _data_folder())
    _prepared: dict[str, Products] = field(default_factory=dict)

    def products(self, count: int = 1_600) -> Products:
        """Products of KAGL where ``E2FASHION_DATA`` names the folder that holds it, else of SynthFashion."""
        return self._products(f"products-{count}", KAGL, count, None)

    def large_images(self, count: int = 128) -> Products:
        """Products with JPEGs of 256 x 256 pixels, as Fashion-Gen has them."""
        return self._products(f"large-{count}", KAGL_LARGE, count, LARGE_PIXELS)

    def _products(self, name: str, kagl: str, count: int, pixels: int | None) -> Products:
        if name not in self._prepared:
            folder = self.folder / name
            if self.data is None:
                self._prepared[name] = _synthetic(folder, count, pixels or 128)
            else:
                self._prepared[name] = _kagl(self.data / kagl, folder, count, pixels)
        return self._prepared[name]


def _synthetic(folder: Path, count: int, pixels: int) -> Products:
    source = build_source("synthetic", {"products": count, "image_size": pixels, "views": 1})
    catalogue = prepare_catalogue(source, folder, progress=False)
    # SynthFashion has four tags; the official code's fifth group is the description.
    columns = ("sub_category", "brand", "season", "composition", "description")
    text = "{sub_category} . {brand} . {season} . {description}"
    return Products(catalogue, f"{count} products of SynthFashion", columns, text)


def _kagl(data: Path, folder: Path, count: int, pixels: int | None) -> Products:
    """The first ``count`` products by a fixed shuffle, their images squeezed to ``pixels`` if that is given."""
    excerpt = folder.with_name(f"{folder.name}-source")
    (excerpt / "images").mkdir(parents=True)
    rows = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    rows = rows.sample(n=min(count, len(rows)), random_state=0)
    rows["image"] = [str(_image(data / image, excerpt, pixels)) for image in rows["image"]]
    rows.to_csv(excerpt / "metadata.csv", index=False)
    source = build_source("kagl", {"path": str(excerpt), "outside": True})
    catalogue = prepare_catalogue(source, folder, progress=False)
    columns = ("sub_category", "brand", "season", "article_type", "colour")
    text = "{article_type} . {brand} . {season} . {description}"
    return Products(catalogue, f"{len(rows)} products of KAGL", columns, text)


def _image(file: Path, excerpt: Path, pixels: int | None) -> Path:
    if pixels is None:
        return file.resolve()
    target = (excerpt / "images" / file.name).resolve()
    with Image.open(file) as image:
        square = image.convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=JPEG_QUALITY)
    target.write_bytes(buffer.getvalue())
    return target


def _data_folder() -> Path | None:
    named = os.environ.get("E2FASHION_DATA")
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise E2FashionError(f"E2FASHION_DATA is '{named}', not a folder: name the one with {KAGL}, or unset it.")
    return folder
