"""What the HTTP process asks of the process that holds the model, and its answer; both cross by queues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Task: TypeAlias = Literal["embed", "search", "recommend", "classify", "tags", "explain", "describe"]


@dataclass(frozen=True)
class Work:
    """One request: texts (str) and encoded images (bytes) in the client's order, and the task's options.

    Options of ``search`` are ``weight``, ``where``, ``tags``, ``region_weight``, ``top`` and ``thumbnail``; of
    ``recommend`` ``product``, ``text``, ``away``, ``where``, ``steps`` and ``thumbnail``; of ``classify`` ``labels``,
    ``templates``, ``features``, ``entity`` and ``region_weight``; of ``explain`` ``texts``.
    """

    task: Task
    items: tuple[str | bytes, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The result of a request, or an error with its HTTP status; ``batch`` requests were answered together."""

    result: Any = None
    error: str | None = None
    status: int = 200
    batch: int = 1
