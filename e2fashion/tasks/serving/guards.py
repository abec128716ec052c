"""What every request passes: a limit on its body, and the counts and times of ``/metrics``."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2fashion.tasks.serving.worker import Answer, Work

DRAINED = 8
"""A body of up to so many limits is read, and forgotten, before its refusal: a client hears it only after sending."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)
KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 503: "overloaded_error"}
"""OpenAI's types of errors by status; others: by their first digit."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Prometheus metrics of one HTTP process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("path", "status")
        self.requests = Counter("e2fashion_requests", "Answered requests", labels, registry=self.registry)
        self.seconds = Histogram(
            "e2fashion_request_seconds", "Time until the answer", ("path",), buckets=SECONDS, registry=self.registry
        )
        self.items = Counter("e2fashion_items", "Encoded texts and images", ("kind",), registry=self.registry)
        self.batches = Histogram(
            "e2fashion_batch_requests", "Requests encoded together", buckets=BATCHES, registry=self.registry
        )
        self.waiting = Gauge("e2fashion_waiting_requests", "Requests without an answer yet", registry=self.registry)

    def answered(self, work: Work, answer: Answer) -> None:
        """Count the items of a request."""
        self.batches.observe(answer.batch)
        if answer.error is None:
            texts = sum(isinstance(item, str) for item in work.items)
            self.items.labels("text").inc(texts)
            self.items.labels("image").inc(len(work.items) - texts)


class Observed:
    """ASGI middleware that counts requests and measures their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, observe)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")  # not the URL: anybody could fill the memory with labels
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)


class BodyLimit:
    """ASGI middleware that refuses a body of more than ``limit`` bytes with status 413, by its header if it has one."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        parts, size, more = [], 0, True
        while more and size <= DRAINED * self.limit:
            received = await receive()
            if received["type"] == "http.disconnect":
                return
            part = received.get("body", b"")
            size += len(part)
            if size <= self.limit:
                parts.append(part)
            more = received.get("more_body", False)
        if size > self.limit:
            message = f"a body of {size / 1e6:,.1f} MB or more; this service takes up to {self.limit / 1e6:g} MB"
            response = error_response(message, 413)
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        body = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def replay() -> Message:
            return body.pop() if body else await receive()

        await self.app(scope, replay, send)


def error_response(message: str, status: int) -> JSONResponse:
    """An error in the shape of OpenAI's API."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status)
