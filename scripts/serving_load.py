"""Load on a real service: mixed requests with malformed ones and a kill, then images alone beside the bare encoder.

Command: ``python -m scripts.serving_load <model> <index> <catalogue> [<requests>]``; prints Markdown, as
docs/serving.md has it. The service and the bare encoder have one thread each.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np

CLIENTS = 16
BATCH = 16
MALFORMED = 0.05
PATIENCE = 120.0
"""Seconds for which a client repeats a request while the service starts again."""


class Service:
    """A service in a process of its own, which can be killed and started again."""

    def __init__(self, model: str, index: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        settings = ["serve", model, f"index={index}", f"port={self.port}", "threads=1", f"batch_size={BATCH}"]
        self.command = [sys.executable, "-m", "e2fashion", *settings, "accelerator=cpu"]
        self.restarts = 0
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self.command)
        while self.ask("/health", None)[0] != 200:
            if self.process.poll() is not None:
                raise SystemExit("the service does not start")
            time.sleep(0.2)

    def ask(self, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and content; 0 without a connection."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException):
            return 0, b""
        finally:
            connection.close()

    def kill(self) -> None:
        """Kill the first process without a warning, and start the same command again."""
        self.process.kill()
        self.process.wait()
        self.restarts += 1
        self.start()

    def stop(self) -> int:
        """End it as an operator would; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def requests(images: list[bytes], texts: list[str], count: int) -> Iterator[tuple[str, str, bytes]]:
    """Kind, path and body of mixed requests; the same ones each time."""
    generator = random.Random(0)
    uris = ["data:image/png;base64," + base64.b64encode(image).decode() for image in images]
    for _ in range(count):
        text, uri = generator.choice(texts), generator.choice(uris)
        bodies: dict[str, tuple[str, Any]] = {
            "embed a text": ("/v1/embeddings", {"input": text}),
            "embed an image": ("/v1/embeddings", {"input": uri, "encoding_format": "base64"}),
            "search by text": ("/search", {"text": text}),
            "search by image": ("/search", {"image": uri}),
            "search by both": ("/search", {"text": text, "image": uri}),
            "classify": ("/classify", {"images": uri, "labels": ["dress", "coat", "trousers", "skirt"]}),
        }
        if generator.random() < MALFORMED:
            bad = [b'{"text":', b'{"txet": "x"}', json.dumps({"image": uri[:60]}).encode(), b"\xff" * 100]
            yield "malformed", "/search", generator.choice(bad)
            continue
        kind = generator.choice(list(bodies))
        path, body = bodies[kind]
        yield kind, path, json.dumps(body).encode()


def mixed(service: Service, work: list[tuple[str, str, bytes]]) -> tuple[dict[str, list[float]], Counter[str], float]:
    """Seconds by kind, statuses by kind, and the seconds of all; the service is killed after half of the requests."""
    seconds: dict[str, list[float]] = defaultdict(list)
    statuses: Counter[str] = Counter()
    lock, done = threading.Lock(), 0

    def send(item: tuple[str, str, bytes]) -> None:
        nonlocal done
        kind, path, body = item
        began = time.monotonic()
        repeated, status = 0, 0
        while status == 0 and time.monotonic() - began < PATIENCE:
            started = time.monotonic()
            status, _ = service.ask(path, body)
            if status == 0:
                repeated += 1
                time.sleep(0.2)
        with lock:
            seconds[kind].append(time.monotonic() - started)
            statuses[f"{kind}: {status}{' after the kill' if repeated else ''}"] += 1
            done += 1
            killed = done == len(work) // 2
        if killed:
            service.kill()

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, work))
    return seconds, statuses, time.monotonic() - began


def rate_of(images: int, run: Callable[[], object], rounds: int = 3) -> float:
    """Images per second, the best of some rounds."""
    found = []
    for _ in range(rounds):
        began = time.monotonic()
        run()
        found.append(images / (time.monotonic() - began))
    return max(found)


def bare_rate(model: str, images: list[bytes]) -> float:
    """Images per second of the encoder alone, from encoded bytes, in batches."""
    import torch

    from e2fashion.data.images import read_image
    from e2fashion.encoder import load_encoder

    torch.set_num_threads(1)
    encoder = load_encoder(model)

    def embed() -> None:
        for start in range(0, len(images), BATCH):
            encoder.embed_images([read_image(image) for image in images[start : start + BATCH]], BATCH)

    embed()
    return rate_of(len(images), embed)


def served_rate(service: Service, images: list[bytes]) -> float:
    """Images per second of clients that each send one image per request."""
    uris = ["data:image/png;base64," + base64.b64encode(image).decode() for image in images]
    bodies = [json.dumps({"input": uri, "encoding_format": "base64"}).encode() for uri in uris]

    def embed() -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            assert all(
                status == 200 for status, _ in pool.map(lambda body: service.ask("/v1/embeddings", body), bodies)
            )

    embed()
    return rate_of(len(images), embed)


def main() -> int:
    """Measure, and print the tables."""
    from e2fashion.data.catalogue import Catalogue

    model, index, catalogue = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
    rows = Catalogue.load(catalogue).split("test").select(range(256))
    images, texts = [bytes(image) for image in rows["image"]], list(rows["description"])
    bare = bare_rate(model, images)
    service = Service(model, index)
    served = served_rate(service, images)
    seconds, statuses, total = mixed(service, list(requests(images, texts, count)))
    metrics = service.ask("/metrics", None)[1].decode()
    code = service.stop()
    print(f"| {CLIENTS} clients | requests | p50 ms | p95 ms |\n|---|---|---|---|")
    for kind, times in sorted(seconds.items()):
        p50, p95 = np.percentile(times, (50, 95)) * 1000
        print(f"| {kind} | {len(times)} | {p50:.0f} | {p95:.0f} |")
    print(f"\n{count} requests in {total:.1f} s, with {service.restarts} kill and restart; exit code {code}")
    print("\n".join(f"- {name}: {number}" for name, number in sorted(statuses.items())))
    print(
        f"\nbare encoder {bare:.1f} images/s, served {served:.1f} ({100 * served / bare:.0f} %), {os.cpu_count()} cores"
    )
    print("\n".join(line for line in metrics.splitlines() if line.startswith("e2fashion_batch_requests_")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
