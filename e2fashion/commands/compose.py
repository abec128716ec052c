"""``compose``: text-guided image retrieval."""

from __future__ import annotations

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.composed.config import ComposeConfig

COMMANDS = Commands("composed.md")


@COMMANDS.add(
    "compose",
    "[config.yaml] <model> ... data=<catalogue | FashionIQ's folder> task=other_colour modes=image,text,sum",
    "search by an image and a text that modifies it, with one or several encoders",
    ComposeConfig,
    positional=("model...",),
)
def compose(config: ComposeConfig, arguments: Arguments) -> str:
    """Measure every model and show the report."""
    from e2fashion.tasks.composed.compose import compose

    results = compose(config, arguments.progress)
    return f"{results.folder.report}\n\n{results.report}"
