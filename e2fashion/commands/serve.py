"""``serve`` and ``demo``."""

from __future__ import annotations

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.serving.config import DemoConfig, ServeConfig

COMMANDS = Commands("serving.md")


@COMMANDS.add(
    "demo",
    "<model> [<other model>] index=<index> [index_b=<its index>] [port=8000]",
    "a page in the browser: search with one model or two side by side, tags, and where they look",
    DemoConfig,
    positional=("model", "other"),
)
@COMMANDS.add(
    "serve",
    "<model> [index=<index>] [port=8000]",
    "embeddings, search, classification and tags over HTTP",
    ServeConfig,
    positional=("model",),
)
def serve(config: ServeConfig, arguments: Arguments) -> str:
    """Serve until the process is stopped."""
    from e2fashion.tasks.serving.server import serve

    serve(config)
    return "stopped"
