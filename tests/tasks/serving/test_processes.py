"""How the service's processes end, without starting them."""

import threading
from typing import Any

import litserve
import pytest

from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.server import _server


def test_no_model_is_started_again_while_the_service_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = []

    def end(server: Any, *_: Any) -> None:
        watched.append(not server._shutdown_event.is_set())

    monkeypatch.setattr(litserve.LitServer, "_perform_graceful_shutdown", end)
    server = _server(ServeConfig(model="tiny", name="tiny"))
    server._shutdown_event = threading.Event()
    server._perform_graceful_shutdown(None, {}, "keyboard_interrupt")
    assert watched == [False]
