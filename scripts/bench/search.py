"""Exact search in an index against faiss's flat index, and embedding an index against the bare encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.encoder import Encoder
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.tasks.search.ann import require_faiss
from e2fashion.tasks.search.build import EmbedSettings, build_index
from e2fashion.tasks.search.exact import nearest
from e2fashion.tasks.search.gallery import ShardGallery
from e2fashion.tasks.search.sources import CatalogueProducts
from scripts.bench.encoders import random_clip
from scripts.bench.ranking import embeddings
from scripts.bench.report import Result
from scripts.bench.timing import interleave
from scripts.bench.workplace import Workplace

SEARCH_TARGET, EMBED_TARGET = 1.0, 0.9
QUERIES, ITEMS, DIMENSION, TOP = 1_000, 200_000, 512, 10
SHARD_ROWS = 8_192
PRODUCTS, BATCH_SIZE = 160, 32


class ExactSearch:
    """Both arms search the same vectors: ours fp16 shards as an index maps them, faiss its own fp32 copy."""

    def __init__(self, queries: int, items: int, dimension: int = DIMENSION) -> None:
        image, text = embeddings(items, dimension)
        self.query = text[:queries].clone()
        stored = image.half()
        self.gallery = ShardGallery(stored.split(SHARD_ROWS))
        self.tie = torch.arange(items)
        self.faiss = require_faiss().IndexFlatIP(dimension)  # on as many threads as PyTorch
        self.faiss.add(stored.float().numpy())

    def ours(self) -> Tensor:
        """Places of the best (Q, k)."""
        return nearest(self.query, self.gallery, TOP, self.tie)[1]

    def flat(self) -> Tensor:
        """The same by faiss."""
        return torch.from_numpy(self.faiss.search(self.query.numpy(), TOP)[1])


@dataclass
class Embedding:
    """Both arms encode the same pictures in the same batches: one builds an index, one has the squares ready."""

    encoder: Encoder
    products: CatalogueProducts
    folder: Path
    batch_size: int = BATCH_SIZE
    _built: int = 0

    def __post_init__(self) -> None:
        transform = self.encoder.transform
        self.positions = range(len(self.products.ids))
        self.squares = torch.stack([self.products.square(position, transform) for position in self.positions])

    def index(self) -> Tensor:
        """Build an index from the catalogue's JPEGs: its vectors (N, C)."""
        self._built += 1
        settings = EmbedSettings(batch_size=self.batch_size, progress=False)
        target = self.folder / f"index-{self._built}"
        split = ",".join(self.products.splits)
        index = build_index(self.encoder, self.products.catalogue, target, split, settings)
        return index.gallery.chunk(0, len(index))

    def bare(self) -> Tensor:
        """The encoder alone, normalisation of pixels and of features included: (N, C)."""
        model, transform = self.encoder.model, self.encoder.transform
        parts = []
        with torch.inference_mode():
            for squares in self.squares.split(self.batch_size):
                pixels = normalize(squares, transform.mean, transform.std)
                parts.append(F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1))
        return torch.cat(parts)


def bench_encoder(model: CLIPModel, size: int) -> Encoder:
    """A random CLIP with what an encoder needs beside it."""
    tokenizer: Any = train_tokenizer(["a plain shirt"], "word", 64, 16)
    transform = ImageTransform(size=size, resize="squeeze")
    return Encoder(model.eval(), tokenizer, transform, TextTemplate("{description}"), "bench")


def run(workplace: Workplace) -> list[Result]:
    """Time both pairs."""
    return [_embedding(workplace), _search(workplace)]


def _search(workplace: Workplace) -> Result:
    arms = ExactSearch(QUERIES, ITEMS)
    timing = interleave({"ours": arms.ours, "faiss": arms.flat}, workplace.turns)
    ratio = timing.ratio("ours", "faiss")
    return Result(
        "search",
        f"{QUERIES:,} queries in {ITEMS:,} x {DIMENSION}, exact / faiss flat",
        f"at most {SEARCH_TARGET:.2f} x",
        f"{ratio:.2f} x ({timing.spread('ours', 'faiss')})",
        ratio <= SEARCH_TARGET,
        f"best {TOP}; ours from fp16 shards with final scores in fp64, faiss from fp32 with the same threads; "
        f"{timing.median('ours'):.2f} and {timing.median('faiss'):.2f} s",
    )


def _embedding(workplace: Workplace) -> Result:
    products = workplace.large_pictures(PRODUCTS)
    folder = workplace.folder / "indexes"
    arms = Embedding(bench_encoder(random_clip(), 224), CatalogueProducts(products.catalogue), folder)
    timing = interleave({"bare": arms.bare, "index": arms.index}, workplace.turns)
    share = timing.ratio("bare", "index")
    rate = {arm: len(arms.squares) / timing.median(arm) for arm in timing.seconds}
    return Result(
        "index",
        "building an index / the bare encoder, images/s",
        f"at least {EMBED_TARGET:.0%}",
        f"{share:.1%} ({timing.spread('bare', 'index')})",
        share >= EMBED_TARGET,
        f"ViT-B/32 shape, random weights, fp32, batch {BATCH_SIZE}, one process; {len(arms.squares)} JPEGs of "
        f"{products.origin} to 224 pixels, decoded, made square, embedded, written with checksums and opened; the bare "
        f"encoder has the squares ready; {rate['index']:.1f} and {rate['bare']:.1f} images/s",
    )
