"""``serve``."""

from __future__ import annotations

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.serving.config import ServeConfig

COMMANDS = Commands()


@COMMANDS.add(
    "serve",
    "<model> [index=<index>] [port=8000]",
    "embeddings, search, classification and tags over HTTP",
    ServeConfig,
    positional=("model",),
    page="serving.md",
)
def serve(config: ServeConfig, arguments: Arguments) -> str:
    """Serve until the process is stopped."""
    from e2fashion.tasks.serving.server import serve

    serve(config)
    return "stopped"
