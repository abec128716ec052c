"""Starts the service: one process per model for encoding, and one for HTTP, both started by LitServe.

LitServe starts, watches and restarts the processes and carries requests between them. Its own routes, of which there is
one per model without a schema, are replaced by those of :mod:`~e2fashion.tasks.serving.app`.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from e2fashion.config import read_yaml
from e2fashion.disk import real_path
from e2fashion.lifetime import PARENT, end_with_parent
from e2fashion.tasks.serving.config import KEY_VARIABLE, LOOPBACK, DemoConfig, ServeConfig
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)
ANSWERS_WITHIN = 5.0
"""Seconds within which LitServe's manager answers, unless it has ended."""
PACKAGES = ("litserve", "fastapi", "uvicorn", "prometheus_client")


def serve(config: ServeConfig) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Raises:
        E2FashionError: a missing package, a port in use, an address without a key, or a model, an index or a file of
            tags that cannot be read.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise E2FashionError(f"{package} is not installed: pip install 'e2fashion[serve]'.")
    if config.host != LOOPBACK and not os.environ.get(KEY_VARIABLE):
        raise E2FashionError(
            f"host is {config.host}, which others can reach: set a key for them in {KEY_VARIABLE}, or leave host out"
        )
    _check_port(config)
    server = build_server(config)
    os.register_at_fork(after_in_child=end_with_parent)  # the others must not hold the port when this one is killed
    before = os.environ.get(PARENT)
    os.environ[PARENT] = str(os.getpid())
    try:
        server.run(
            host=config.host,
            port=config.port,
            num_api_servers=1,  # one Python process parses more than the model encodes; metrics stay in one place
            log_level="warning",
            generate_client_file=False,
            access_log=False,
            server_header=False,
        )
    finally:
        os.environ[PARENT] = before or ""
        if (manager := server.transport_config.manager) is not None:
            manager.shutdown()  # which LitServe leaves running where a start is refused


def _check_port(config: ServeConfig) -> None:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise E2FashionError(
                f"port {config.port} at {config.host} cannot be used ({error.strerror}): give another port=<number>"
            ) from error


def build_server(config: ServeConfig) -> Any:
    """LitServe's server with our application.

    Raises:
        E2FashionError: once it is run, the model's process ended while it began.
    """
    import litserve
    from litserve.connector import check_cuda_with_nvidia_smi
    from litserve.utils import WorkerSetupStatus

    from e2fashion.tasks.serving.app import build_app
    from e2fashion.tasks.serving.worker import EncoderAPI

    class Server(litserve.LitServer):
        """Says when it is ready, or why it cannot be."""

        def verify_worker_status(self) -> None:
            """Wait for the models.

            Raises:
                E2FashionError: a process of a model ended.
            """
            while not all(state == WorkerSetupStatus.READY for state in self.workers_setup_status.values()):
                ended = [worker for worker in self.inference_workers if not worker.is_alive()]
                if ended:
                    for worker in self.inference_workers:
                        worker.terminate()
                        worker.join()
                    said = [api.trouble.recv() for api in self.litapi_connector if api.trouble.poll()]
                    raise E2FashionError(said[0] if said else f"the model's process ended with {ended[0].exitcode}")
                time.sleep(0.05)
            address = f"[{config.host}]" if ":" in config.host else config.host
            logger.info("%s: http://%s:%d", " and ".join(paths), address, config.port)

        def _perform_graceful_shutdown(self, *arguments: Any) -> None:
            """End the processes, and first the watch over them, which would start those of the models again."""
            # This thread was interrupted while it waited for the event, and its connection to LitServe's manager still
            # waits: another thread has another one.
            ending = threading.Thread(target=_set, args=(self._shutdown_event,), daemon=True)
            ending.start()
            ending.join(ANSWERS_WITHIN)
            super()._perform_graceful_shutdown(*arguments)

    models = _models(config)
    paths = {name: f"/model-{number}" for number, name in enumerate(models)}
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if check_cuda_with_nvidia_smi() else "cpu"
    server = Server(
        [EncoderAPI(models[name], path) for name, path in paths.items()],
        accelerator=accelerator,
        workers_per_device=config.workers,
        timeout=config.timeout,
        restart_workers=True,
    )
    server.app = build_app(server, config, paths)
    return server


def _set(event: Any) -> None:
    """Set an event of LitServe's manager; where that has ended, what waited for the event has too."""
    with suppress(OSError, EOFError):
        event.set()


def _models(config: ServeConfig) -> dict[str, ServeConfig]:
    """The configuration of every model, by its name.

    Raises:
        E2FashionError: two models of one name.
    """
    found = {config.name or _name(config.model): config}
    if isinstance(config, DemoConfig) and config.other is not None:
        name = config.name_b or _name(config.other)
        if name in found:
            raise E2FashionError(f"both models are called '{name}': give name_b=<another name>")
        found[name] = replace(config, model=config.other, index=config.index_b, tags=config.tags_b, name=config.name_b)
    return found


def _name(model: str) -> str:
    """What a run is called by its configuration, else the name of the folder."""
    path = real_path(model)
    if (path / "config.yaml").is_file():
        return str(read_yaml(path / "config.yaml").get("name", path.name))
    return path.parent.name if path.name == "model" else path.name
