"""What a person sees on the terminal: our messages and progress bars, and not the small talk of the libraries.

:func:`prepare_terminal` is for the command line alone; whoever imports the package keeps every library's own settings.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from e2fashion.escape import visible
from e2fashion.lazy import when_imported

#: Libraries that speak of themselves below WARNING: what hardware they looked for, what else they sell.
TALKATIVE = ("pytorch_lightning", "lightning", "lightning_fabric", "httpx", "fsspec", "datasets")

#: Warnings about what we do on purpose, by their first words.
KNOWN_WARNINGS = (
    r"You have overridden `on_after_batch_transfer` in `LightningModule`",  # uint8 pixels are normalized there
    r".*does not have many workers",  # loader.workers is the user's
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # inside Lightning
    r"barrier\(\): using the device under current context",
)


class _OursOrWarnings(logging.Filter):
    """Lets everything of ours pass, and of the talkative libraries what is at least a warning."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is shown."""
        return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in TALKATIVE


class _Lines(logging.Handler):
    """Writes above the progress bar, if there is one: information as it is, everything graver behind its level."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to what stderr is now."""
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        message = visible(self.format(record), keep="\n")
        tqdm.write(
            message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}", file=sys.stderr
        )


def draws_bars() -> bool:
    """Whether a progress bar is drawn where it is asked for: on a terminal and in a notebook.

    In a file or a pipe each refresh of a bar would be a line of its own.
    """
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress_bar(items: Iterable[Any] | None = None, *, shown: bool, **options: Any) -> Any:
    """The bar of tqdm over ``items`` or of a ``total``, drawn where ``shown`` and :func:`draws_bars` say so."""
    from tqdm.auto import tqdm

    return tqdm(items, disable=not (shown and draws_bars()), **options)


@contextmanager
def errors_alone(names: Sequence[str]) -> Iterator[None]:
    """Let the loggers of these names say errors alone; as before when it ends."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def prepare_terminal() -> None:
    """Show our log lines and real warnings on stderr, and switch off progress bars that last a moment.

    Downloads keep their bars, and so do preparing, training and embedding.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, _Lines) for handler in root.handlers):
        handler = _Lines()
        handler.addFilter(_OursOrWarnings())
        root.addHandler(handler)
    logging.getLogger("e2fashion").setLevel(logging.INFO)
    for message in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    when_imported("transformers.utils.logging", _quieten)


def _quieten(transformers_logging: ModuleType) -> None:
    """Show no warnings and bars of Transformers, but those of downloads."""
    from huggingface_hub.utils import enable_progress_bars

    # What it warns of is an error of ours, or of no use to anybody: the ids of CLIP's own text configuration, say.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # loading and writing weights
    enable_progress_bars()  # the hub's, which the line above switched off too
