"""Peak memory of building an index and searching it, each size in a process of its own: ``... index_memory N``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.data.transforms import ImageTransform
from e2fashion.tasks.search.build import EmbedSettings, build_index
from e2fashion.tasks.search.manifest import Origin
from scripts.bench.ranking_memory import memory_mb
from scripts.bench.report import Result
from scripts.bench.workplace import Workplace

TARGET_MB = 100
GROWTH = 10
SIZE, DIMENSION = 32, 512


class RenderedProducts:
    """Pictures that are drawn when they are asked for: nothing of them lies in memory or on disk."""

    def __init__(self, count: int) -> None:
        self.ids: pa.Array = pa.array([f"product-{number:07d}" for number in range(count)])
        self.origin = Origin("rendered", "rendered", f"rendered-{count}")

    def square(self, position: int, transform: ImageTransform) -> Tensor:
        """Noise that depends on the product, uint8 (3, S, S)."""
        generator = torch.Generator().manual_seed(position)
        return torch.randint(256, (3, transform.size, transform.size), dtype=torch.uint8, generator=generator)

    def table(self, positions: Sequence[int]) -> pa.Table:
        """Ids, a text each, and a tag."""
        ids = self.ids.take(pa.array(positions))
        texts = [f"a rendered garment, number {position}, of no particular make" for position in positions]
        tags = [f"brand {position % 97}" for position in positions]
        return pa.table({"product_id": ids, "description": texts, "place": ids, "brand": tags})


class ProjectingEncoder:
    """A seeded linear map of the pixels: memory is measured, not an encoder."""

    name, fingerprint, dimension, compares_tokens = "projection", "projection", DIMENSION, False
    transform = ImageTransform(size=SIZE, resize="squeeze")

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._weight = torch.randn(3 * SIZE * SIZE, DIMENSION, generator=generator)

    def embed_squares(self, squares: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, C)."""
        return F.normalize((squares.flatten(1).float() / 255 - 0.5) @ self._weight, dim=-1)


def measure(products: int, folder: Path) -> dict[str, float]:
    """Build an index of so many products and search it: ``peak_mb`` of the process, and ``seconds``."""
    start = time.perf_counter()
    encoder: Any = ProjectingEncoder()
    source = RenderedProducts(products)
    index = build_index(encoder, source, folder / "index", settings=EmbedSettings(progress=False))
    built = memory_mb("VmHWM")
    index.nearest(index.vector_of("product-0000000"), top=10)
    return {"peak_mb": built, "searched_mb": memory_mb("VmHWM"), "seconds": time.perf_counter() - start}


def run(workplace: Workplace) -> list[Result]:
    """Measure a tenth of the products and all of them."""
    most = workplace.index_products
    found = {}
    for count in (most // GROWTH, most):
        command = [sys.executable, "-m", "scripts.bench.index_memory", str(count)]
        found[count] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    few, many = found.values()
    more = many["peak_mb"] - few["peak_mb"]
    return [
        Result(
            "index, memory",
            f"building {most:,} products against {most // GROWTH:,}",
            f"at most {TARGET_MB} MB more",
            f"{more:.0f} MB",
            more <= TARGET_MB,
            f"C = {DIMENSION}, pictures rendered when asked for; peak of a fresh process {few['peak_mb']:.0f} and "
            f"{many['peak_mb']:.0f} MB, with a search that maps every shard {few['searched_mb']:.0f} and "
            f"{many['searched_mb']:.0f} MB; {few['seconds']:.0f} and {many['seconds']:.0f} s",
        )
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="e2fashion-bench-") as place:
        print(json.dumps(measure(int(sys.argv[1]), Path(place))))
