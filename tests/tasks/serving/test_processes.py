"""How the service's processes end, without starting them."""

import threading
from typing import Any
from unittest.mock import patch

import litserve

from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.server import build_server


def test_no_model_is_started_again_while_the_service_ends() -> None:
    watched = []

    def end(server: Any, *_: Any) -> None:
        watched.append(not server._shutdown_event.is_set())

    server = build_server(ServeConfig(model="tiny", name="tiny"))
    server._shutdown_event = threading.Event()
    with patch.object(litserve.LitServer, "_perform_graceful_shutdown", end):
        server._perform_graceful_shutdown(None, {}, "keyboard_interrupt")
    assert watched == [False]
