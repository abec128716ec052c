"""A real service in a process of its own, and a client for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tiny_encoder import save_tiny_run

import e2fashion
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.classification.tag_predictor import NAME, TagPredictor, TagValues, save_tag_predictor

KEY = "a key of the test"
TAGS = (TagValues("brand", ("Calderwick", "Jasperine"), "region"), TagValues("kind", ("dress", "coat"), threshold=1.1))


def save_tagged_run(catalogue: Catalogue, folder: Path) -> Encoder:
    """Save a run that predicts :data:`TAGS`."""
    save_tiny_run(catalogue, folder)
    encoder = e2fashion.load_encoder(str(folder))
    save_tag_predictor(TagPredictor(encoder, TAGS), encoder, folder / NAME, {})
    return encoder


class Client:
    """Asks a service on a loopback port."""

    def __init__(self, port: int, key: str | None = KEY) -> None:
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer; a body of bytes is sent as it is."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        kinds = {"Content-Type": "application/json", **self.headers, **headers}
        try:
            connection.request("GET" if data is None else "POST", path, data, kinds)
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, json.loads(text) if "json" in (response.getheader("content-type") or "") else text
        finally:
            connection.close()

    def get(self, path: str, body: Any = None) -> Any:
        """The JSON of an answer that must be good."""
        status, answer = self.ask(path, body)
        assert status == 200, answer
        return answer

    def wait(self, process: "subprocess.Popen[str]") -> None:
        """Wait until the service is ready."""
        while process.poll() is None:
            try:
                if self.ask("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the service ended with {process.returncode}")


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[tuple[Client, "subprocess.Popen[str]"]]:
    """A ready service; it is ended by SIGTERM and must then exit with 0."""
    port = free_port()
    command = [sys.executable, "-m", "e2fashion", *arguments, f"port={port}", "accelerator=cpu", "threads=1"]
    environment = {**os.environ, "E2FASHION_API_KEY": KEY, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, text=True)
    client = Client(port)
    try:
        client.wait(process)
        yield client, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code in (0, -signal.SIGKILL), (folder / "log.txt").read_text(encoding="utf-8")
