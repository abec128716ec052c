"""The process that holds the model: LitServe's side of :mod:`~e2fashion.tasks.serving.backend`.

The main process imports this module without PyTorch, hence the backend only in the process that computes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from queue import Empty
from typing import TYPE_CHECKING, Any

import litserve
from litserve.loops.simple_loops import BatchedLoop

from e2fashion.lifetime import end_with_parent
from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.work import Answer, Work
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    from e2fashion.tasks.serving.backend import Backend

IDLE = 1.0
"""Seconds for which an idle process waits at a time."""


class WaitingLoop(BatchedLoop):
    """Waits for a first request and then for further ones; LitServe's own loop asks the queue 1,000 times a second."""

    def get_batch_requests(self, lit_api: Any, request_queue: Any, transport: Any) -> tuple[list[Any], list[Any]]:
        """Requests as (response queue, id, work), and those that have waited too long."""
        batch: list[Any] = []
        late: list[Any] = []
        until = None
        while len(batch) < lit_api.max_batch_size:
            try:
                wait = IDLE if until is None else max(0.0, until - time.monotonic())
                queue_id, uid, sent, work = request_queue.get(timeout=wait)
            except Empty:
                break
            if time.monotonic() - sent > lit_api.request_timeout:
                late.append((queue_id, uid))
                continue
            batch.append((queue_id, uid, work))
            until = until or time.monotonic() + lit_api.batch_timeout
        return batch, late


class EncoderAPI(litserve.LitAPI):
    """Answers batches of requests to one model."""

    def __init__(self, config: ServeConfig, path: str) -> None:
        super().__init__(config.batch_size, config.batch_wait / 1000, path, loop=WaitingLoop())
        self.config = config
        self.trouble, self._tell = multiprocessing.Pipe(duplex=False)
        """Why the process cannot start, for the main process."""
        self.backend: Backend

    def setup(self, device: str) -> None:
        """Load model, index and tags; where that fails, report the reason to the main process and exit."""
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the main process, which ends this one
        from e2fashion.terminal import prepare_terminal

        prepare_terminal()
        try:
            from e2fashion.tasks.serving.backend import Backend

            self.backend = Backend.load(self.config, device)
        except E2FashionError as error:
            self._tell.send(str(error))
            os._exit(1)

    def predict(self, works: list[Work], **_: Any) -> list[Answer]:
        """The answer to each request."""
        return self.backend.answer(works)
