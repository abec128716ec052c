"""How the service's processes end, without starting them."""

import multiprocessing
import threading
from typing import Any
from unittest.mock import patch

import litserve

from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.server import build_server


def test_an_end_in_the_midst_of_waiting_does_not_wait_for_itself() -> None:
    """As SIGTERM ends it: the wait of the main thread is interrupted on its connection to the manager."""
    server = build_server(ServeConfig(model="tiny", name="tiny"))
    with multiprocessing.get_context("spawn").Manager() as manager:
        server._shutdown_event = event = manager.Event()
        ended: list[bool] = []

        def serve() -> None:
            event.is_set()
            event._tls.connection.send((event._id, "wait", (None,), {}))  # without receiving the answer
            with patch.object(litserve.LitServer, "_perform_graceful_shutdown"):
                server._perform_graceful_shutdown(None, {}, "keyboard_interrupt")
            ended.append(True)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        thread.join(60)
        assert ended
        assert event.is_set()


def test_no_model_is_started_again_while_the_service_ends() -> None:
    watched = []

    def end(server: Any, *_: Any) -> None:
        watched.append(not server._shutdown_event.is_set())

    server = build_server(ServeConfig(model="tiny", name="tiny"))
    server._shutdown_event = threading.Event()
    with patch.object(litserve.LitServer, "_perform_graceful_shutdown", end):
        server._perform_graceful_shutdown(None, {}, "keyboard_interrupt")
    assert watched == [False]
