"""Images become the vectors of an index: in this process, or by actors of Ray (extra ``ray``).

Ray's driver sends positions, actors open the images themselves and return vectors: every machine must reach the source
by the same path, and have this package installed. Only the driver writes the index.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from e2fashion.arithmetic import build_device
from e2fashion.data.transforms import ImageTransform
from e2fashion.embedding import join_regions
from e2fashion.encoder import Encoder
from e2fashion.tasks.search.config import EmbedConfig
from e2fashion.tasks.search.facts import IndexFacts
from e2fashion.tasks.search.sources import Products
from e2fashion.tasks.search.storage import DESCRIPTION
from e2fashion.tasks.search.tags import as_texts
from e2fashion.types import E2FashionError

#: An image's position, and its square (or vector (W,) fp16), or why there is none.
Item: TypeAlias = tuple[int, Tensor | str]


class Squares(Dataset[Item]):
    """The square of every image, uint8 (3, S, S), or why there is none."""

    def __init__(self, products: Products, transform: ImageTransform) -> None:
        self._products, self._transform = products, transform

    def __getitem__(self, position: int) -> Item:
        try:
            return position, self._products.square(position, self._transform)
        except E2FashionError as error:  # raised by the main process: a worker's would come with its traceback
            return position, str(error)


@dataclass(frozen=True)
class Embedder:
    """An encoder, the products it embeds, and how an index joins texts and regions to their vectors."""

    encoder: Encoder
    products: Products
    facts: IndexFacts

    @property
    def squares(self) -> Squares:
        """The images as the encoder reads them."""
        return Squares(self.products, self.encoder.transform)

    def vectors(self, batch: Sequence[Item]) -> list[Item]:
        """The vectors (W,) fp16 of squares; a reason why there is none stays one."""
        readable = {position: square for position, square in batch if isinstance(square, Tensor)}
        if not readable:
            return list(batch)
        embedded = self._embed(torch.stack(list(readable.values())), list(readable)).half()
        vectors = dict(zip(readable, embedded, strict=True))
        return [(position, vectors.get(position, given)) for position, given in batch]

    def _embed(self, squares: Tensor, positions: Sequence[int]) -> Tensor:
        """The vectors (n, W) of images, joined with their texts and regions as the index has it."""
        encoder, weight = self.encoder, self.facts.text_weight
        if self.facts.regions:
            images, regions = encoder.embed_images_and_regions(squares, len(squares))
        else:
            images, regions = encoder.embed_squares(squares), None
        if weight:
            texts = texts_of(encoder, self.products.table(positions))
            images = joined(images, texts, encoder.embed_texts(texts), weight)
        return images if regions is None else join_regions(images, regions)


def embed_here(embedder: Embedder, batches: Sequence[list[int]], config: EmbedConfig) -> Generator[Item, None, None]:
    """Embed batches of positions in this process, all items in their order; ``workers`` others decode the images."""
    loader = DataLoader(
        embedder.squares,
        batch_sampler=batches,
        collate_fn=list,
        num_workers=config.workers,
        # The threads of LanceDB do not survive a fork.
        multiprocessing_context="spawn" if config.workers else None,
    )
    for batch in loader:
        yield from embedder.vectors(batch)


def texts_of(encoder: Encoder, rows: pa.Table) -> list[str]:
    """The texts of a source's rows by the encoder's template; empty where a product has none."""
    rows = pa.table({name: as_texts(rows[name]) for name in rows.column_names})
    return [encoder.template.render(row, row[DESCRIPTION] or "").strip() for row in rows.to_pylist()]


def joined(images: Tensor, texts: Sequence[str], text_embeds: Tensor, weight: float) -> Tensor:
    """The normalized ``weight`` x text + (1 - ``weight``) x image, (n, C) each; without a text the image alone."""
    share = weight * torch.tensor([bool(text) for text in texts], dtype=images.dtype)[:, None]
    return F.normalize(share * text_embeds + (1 - share) * images, dim=-1)


BATCHES_PER_TASK = 16
"""What an actor is given at once, and repeats after it was killed."""
RETRIES = 3
"""How often a task is repeated whose actor died, before the build stops: an image may be what kills it."""
CONNECT_SECONDS = 10.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Environment of Ray, where it is not set: no statistics are sent, and what fails comes as an exception."""


def embed_with_ray(
    embedder: Embedder, batches: Sequence[list[int]], config: EmbedConfig
) -> Generator[Item, None, None]:
    """Embed with ``workers`` actors of ``threads`` cores each; the batches are those of one process.

    Raises:
        E2FashionError: Ray is not installed, no cluster answers, it has no GPU that was asked for, or an actor failed.
    """
    if not batches:
        return
    with connected(config) as ray:
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0
        device = {"auto": "gpu" if has_gpu else "cpu"}.get(config.accelerator, config.accelerator)
        if device in ("gpu", "cuda") and not has_gpu:
            raise E2FashionError(f"accelerator is '{device}', but the Ray cluster has no GPU: use accelerator=cpu")
        step = min(BATCHES_PER_TASK, math.ceil(len(batches) / config.workers))
        tasks = [
            pa.table({"positions": pa.array(batches[start : start + step], pa.list_(pa.int64()))})
            for start in range(0, len(batches), step)
        ]
        threads = config.threads or 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of retries, which have no other place yet
            embedded = ray.data.from_arrow(tasks).map_batches(
                _Actor,
                fn_constructor_args=(_sent(ray, embedder), device, threads),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(config.workers, len(tasks))),
                num_cpus=threads,
                num_gpus=int(device in ("gpu", "cuda")),
                max_restarts=-1,
                max_task_retries=RETRIES,
            )
        embedded.context.execution_options.preserve_order = True
        embedded.context.enable_progress_bars = False
        embedded.context.print_on_execution_start = False
        try:
            for table in embedded.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from _items(table)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            reason = next((line for line in lines if re.match(r"[\w.]+: ", line)), lines[0])
            raise E2FashionError(f"an actor of Ray failed ({reason}): repeat the command to go on") from error


class _Actor:
    """An embedder on its device in a process of Ray."""

    def __init__(self, embedder: Any, accelerator: str, threads: int) -> None:
        import ray

        torch.set_num_threads(threads)
        self._embedder: Embedder = ray.get(embedder)
        self._embedder.encoder.to(build_device(accelerator))
        self._squares = self._embedder.squares

    def __call__(self, task: pa.Table) -> pa.Table:
        """Embed one batch, a list of positions."""
        (positions,) = task["positions"].to_pylist()
        items = self._embedder.vectors([self._squares[position] for position in positions])
        made = [made for _, made in items]
        width = self._embedder.facts.width
        vectors = [one.numpy() if isinstance(one, Tensor) else None for one in made]
        return pa.table(
            {
                "position": pa.array(positions, pa.int64()),
                "vector": pa.array(vectors, pa.list_(pa.float16(), width)),
                "problem": pa.array([None if isinstance(one, Tensor) else one for one in made], pa.string()),
            }
        )


def _items(table: pa.Table) -> Iterator[Item]:
    columns = (table[name] for name in ("position", "vector", "problem"))
    for position, vector, problem in zip(*columns, strict=True):
        reason = problem.as_py()
        made = torch.from_numpy(vector.values.to_numpy().copy()) if reason is None else reason
        yield position.as_py(), made


def _sent(ray: Any, embedder: Embedder) -> Any:
    """A reference to the embedder; weights are sent from the CPU, as those of a GPU load where there is one alone."""
    encoder = embedder.encoder
    device = encoder.model.device
    encoder.to("cpu")
    try:
        return ray.put(embedder)
    finally:
        encoder.to(device)


@contextmanager
def connected(config: EmbedConfig) -> Iterator[Any]:
    """The module of Ray, connected; a connection that this process has already is used and kept.

    Raises:
        E2FashionError: Ray is not installed, or no cluster answers.
    """
    if find_spec("ray") is None:
        raise E2FashionError("engine=ray needs Ray. Install it: pip install 'e2fashion[ray]'")
    address, environment, local = config.address or "local", QUIET, {}
    if config.address is None:
        local = {"num_cpus": config.workers * (config.threads or 1), "include_dashboard": False}
    else:
        environment = QUIET | {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # of the first answer, after 40 s each
        _check_answers(address)
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails comes as an exception
    if ray.is_initialized():
        yield ray
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # LanceDB's of forks, which become programs of Ray
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **local)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens, which Ray itself would wait for."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise E2FashionError(f"address is '{address}'; give host:port of a Ray cluster, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> E2FashionError:
    reason = str(error).strip().splitlines()[0]
    if address == "local":
        return E2FashionError(
            f"Ray does not start on this machine ({reason}): its log is in /tmp/ray/session_latest/logs"
        )
    return E2FashionError(
        f"no Ray cluster answers at {address} ({reason}): start one with 'ray start --head', set RAY_AUTH_MODE=token "
        "if it asks for a token, or leave address out"
    )
