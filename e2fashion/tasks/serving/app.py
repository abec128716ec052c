"""The HTTP side of the service: routes, limits, the key, errors as JSON, metrics."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from litserve.utils import LitAPIStatus, ResponseBufferItem, WorkerSetupStatus
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2fashion import __version__
from e2fashion.tasks.serving.bodies import (
    Body,
    ClassifyBody,
    EmbeddingsBody,
    ExplainBody,
    RecommendBody,
    RequestError,
    SearchBody,
    TagsBody,
)
from e2fashion.tasks.serving.config import KEY_VARIABLE, ServeConfig
from e2fashion.tasks.serving.work import Answer, Work

DRAINED = 8
"""A body of up to this many limits is read and discarded before its refusal: clients read only after sending."""
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


PAGE = Path(__file__).parent / "page"
#: The page may load nothing and send nothing anywhere else.
POLICY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


class Queues(Protocol):
    """What the HTTP process uses of a :class:`litserve.LitServer`."""

    app: FastAPI
    litapi_request_queues: dict[str, Any]
    response_buffer: dict[str, Any]
    workers_setup_status: Any
    lifespan: Callable[[FastAPI], Any]


class Service:
    """Sends work to the processes that hold the models.

    Args:
        server: LitServe's queues.
        config: the limits.
        paths: the queue of each model, by its name; the first one answers requests that name none.
    """

    def __init__(self, server: Queues, config: ServeConfig, paths: dict[str, str]) -> None:
        self.server = server
        self.config = config
        self.paths = paths
        self.metrics = Metrics()

    @property
    def ready(self) -> bool:
        """Whether every process has its model."""
        states = self.server.workers_setup_status.values()
        return all(state == WorkerSetupStatus.READY for state in states)

    async def ask(self, work: Work, model: str | None = None) -> Any:
        """The result of ``work``.

        Raises:
            RequestError: an unknown model, too many waiting requests, no answer in time, or what the worker says.
        """
        name = next(iter(self.paths)) if model is None else model
        if name not in self.paths:
            raise RequestError(f"there is no model '{name[:80]}'; this service has {', '.join(self.paths)}", 404)
        waiting = self.server.response_buffer
        if len(waiting) >= self.config.max_waiting:
            raise RequestError(f"{len(waiting)} requests are waiting: try again later", 503)
        uid, event = uuid.uuid4().hex, asyncio.Event()
        waiting[uid] = ResponseBufferItem(event)
        try:
            request = (self.server.app.response_queue_id, uid, time.monotonic(), work)  # type: ignore[attr-defined]
            self.server.litapi_request_queues[self.paths[name]].put(request)
            await asyncio.wait_for(event.wait(), self.config.timeout)
            answer, status = waiting[uid].response
        except TimeoutError as error:
            raise RequestError(f"no answer within {self.config.timeout:g} s: try again later", 504) from error
        except OSError as error:
            raise RequestError("the service is stopping", 503) from error
        finally:
            waiting.pop(uid, None)
        if status != LitAPIStatus.OK or not isinstance(answer, Answer):
            if isinstance(answer, HTTPException):
                raise answer
            raise RequestError("the model failed at this request; the log of the service says why", 500)
        self.metrics.answered(work, answer)
        if answer.error is not None:
            raise RequestError(answer.error, answer.status)
        return answer.result


def build_app(server: Queues, config: ServeConfig, paths: dict[str, str]) -> FastAPI:
    """The application, to be run by LitServe in place of its own."""
    service = Service(server, config, paths)
    app = FastAPI(
        title="e2fashion",
        summary="Embeddings, search, zero-shot classification and tags of fashion images",
        version=__version__,
        lifespan=server.lifespan,
        docs_url=None,  # its page fetches scripts from a foreign host
        redoc_url=None,
    )
    app.include_router(_open_routes(service))
    app.include_router(_routes(service), dependencies=[Depends(_key_check(os.environ.get(KEY_VARIABLE)))])
    app.mount("/page", StaticFiles(directory=PAGE))
    for kind in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _error)
    app.add_middleware(BodyLimit, limit=config.max_body * 1_000_000)
    app.add_middleware(Observed, metrics=service.metrics)
    return app


def _open_routes(service: Service) -> APIRouter:
    """Routes that need no key."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        """The page of the demonstration."""
        return FileResponse(PAGE / "index.html", headers=POLICY)

    @router.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        """The page that shows the schema."""
        return FileResponse(PAGE / "docs.html", headers=POLICY)

    @router.get("/health")
    async def health() -> JSONResponse:
        """Status 200 when the models are loaded, else 503."""
        status, code = ("ok", 200) if service.ready else ("starting", 503)
        return JSONResponse({"status": status, "models": list(service.paths)}, code)

    return router


def _routes(service: Service) -> APIRouter:
    router = APIRouter()

    async def answer(body: Body) -> dict[str, Any]:
        result: dict[str, Any] = await service.ask(body.work(service.config), body.model)
        return result

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingsBody) -> dict[str, Any]:
        """L2-normalized embeddings of texts and images."""
        found = await answer(body)
        rows = found["embeds"]
        if body.dimensions not in (None, rows.shape[1]):
            raise RequestError(f"dimensions is {body.dimensions}; this model has {rows.shape[1]}")
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(row, body.encoding_format)}
            for index, row in enumerate(rows)
        ]
        usage = {"prompt_tokens": found["tokens"], "total_tokens": found["tokens"]}
        return {"object": "list", "data": data, "model": body.model or next(iter(service.paths)), "usage": usage}

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The models with their widths, entities, indexes and tags."""
        facts = await asyncio.gather(*(service.ask(Work("describe"), name) for name in service.paths))
        data = [{"id": name, "object": "model", **fact} for name, fact in zip(service.paths, facts, strict=True)]
        return {"object": "list", "data": data}

    @router.post("/search")
    async def search(body: SearchBody) -> dict[str, Any]:
        """The nearest products of the index, best first."""
        return await answer(body)

    @router.post("/recommend")
    async def recommend(body: RecommendBody) -> dict[str, Any]:
        """Products from a start towards a text, each further along than the one before."""
        return await answer(body)

    @router.post("/classify")
    async def classify(body: ClassifyBody) -> dict[str, Any]:
        """The nearest of the given labels for each image."""
        return await answer(body)

    @router.post("/tags")
    async def tags(body: TagsBody) -> dict[str, Any]:
        """The tags of each image; null where the model is not sure."""
        return await answer(body)

    @router.post("/explain")
    async def explain(body: ExplainBody) -> dict[str, Any]:
        """Where the model looks: occlusion maps of texts, selection maps of an E2's entities."""
        return await answer(body)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        service.metrics.waiting.set(len(service.server.response_buffer))
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _encoded(row: np.ndarray, encoding: str) -> list[float] | str:
    return row.tolist() if encoding == "float" else base64.b64encode(row.astype("<f4").tobytes()).decode()


def _key_check(key: str | None) -> Callable[..., None]:
    """Compares the key of a request with the service's, if it has one."""

    def check(
        authorization: Annotated[str | None, Header()] = None, x_api_key: Annotated[str | None, Header()] = None
    ) -> None:
        given = x_api_key or (authorization or "").removeprefix("Bearer ")
        if key and not hmac.compare_digest(given.encode(), key.encode()):
            raise RequestError("give the key of this service, as Authorization: Bearer <key> or X-API-Key: <key>", 401)

    return check


def _error(request: Request, error: Exception) -> JSONResponse:
    """Any error in the shape of OpenAI's API."""
    if isinstance(error, RequestValidationError):
        found: Sequence[Any] = error.errors()
        if any(item["type"] == "json_invalid" for item in found):
            return error_response("the body is not JSON", 400)
        parts = [f"{'.'.join(str(part) for part in item['loc'][1:]) or 'body'}: {item['msg']}" for item in found[:5]]
        return error_response("; ".join(parts), 422)
    if not isinstance(error, HTTPException):
        return error_response("the service failed at this request; its log says why", 500)
    if (error.status_code, error.detail) == (404, "Not Found"):  # of the router
        return error_response(f"there is no {request.url.path[:80]}; /openapi.json lists what there is", 404)
    return error_response(str(error.detail), error.status_code)
