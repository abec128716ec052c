"""The command line: one file per family of verbs, each function with its configuration and its registration."""

from e2fashion.commands import caption, classify, compose, data, evaluate, export, search, serve, train
from e2fashion.commands.registry import Command

#: By verb, in the order in which the help lists them.
COMMANDS: dict[str, Command] = {
    **data.COMMANDS,
    **train.COMMANDS,
    **evaluate.COMMANDS,
    **classify.COMMANDS,
    **caption.COMMANDS,
    **compose.COMMANDS,
    **export.COMMANDS,
    **search.COMMANDS,
    **serve.COMMANDS,
}
