"""Terminal output: log lines and progress bars of this package, without the chatter of libraries.

:func:`prepare_terminal` is for the command line only; importing the package changes no settings of other libraries.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from e2fashion.escape import visible
from e2fashion.lazy import when_imported

#: Libraries whose messages below WARNING are noise: detected hardware, advertisements.
NOISY = ("pytorch_lightning", "lightning", "lightning_fabric", "httpx", "fsspec", "datasets")

#: Warnings about intended behavior, by their beginning.
KNOWN_WARNINGS = (
    r"You have overridden `on_after_batch_transfer` in `LightningModule`",  # uint8 pixels are normalized there
    r".*does not have many workers",  # loader.workers is the user's
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # inside Lightning
    r"barrier\(\): using the device under current context",
)


class _WithoutNoise(logging.Filter):
    """Drops messages of noisy libraries below WARNING."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is shown."""
        return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in NOISY


class _Lines(logging.Handler):
    """Writes above the progress bar, if there is one; warnings and errors with their level."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to the current stderr."""
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        message = visible(self.format(record), keep="\n")
        tqdm.write(
            message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}", file=sys.stderr
        )


def counted(number: int, plural: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {plural.removesuffix('s') if number == 1 else plural}"


def draws_bars() -> bool:
    """Whether progress bars can be drawn: on a terminal or in a notebook.

    In a file or a pipe each refresh would be a new line.
    """
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress_bar(items: Iterable[Any] | None = None, *, shown: bool, **options: Any) -> Any:
    """A tqdm bar over ``items`` or of a ``total``, drawn if ``shown`` and :func:`draws_bars`."""
    from tqdm.auto import tqdm

    return tqdm(items, disable=not (shown and draws_bars()), **options)


@contextmanager
def errors_alone(names: Sequence[str]) -> Iterator[None]:
    """Restrict the loggers of these names to errors during the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the bars of Transformers over files that it reads and writes; downloads keep theirs."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    shown, downloads_hidden = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    if shown:
        transformers_logging.disable_progress_bar()  # those of the hub too
        if not downloads_hidden:
            enable_progress_bars()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
            if downloads_hidden:
                disable_progress_bars()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our warnings as log lines; those of libraries with file and line, as Python writes them."""
    if Path(filename).is_relative_to(Path(__file__).parent):
        logging.getLogger("e2fashion").warning("%s", message)
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def prepare_terminal() -> None:
    """Show our log lines and real warnings on stderr, and disable the bars of Transformers except for downloads."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Lines) for handler in root.handlers):
        handler = _Lines()
        handler.addFilter(_WithoutNoise())
        root.addHandler(handler)
    logging.getLogger("e2fashion").setLevel(logging.INFO)
    warnings.showwarning = _show_warning
    for message in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    when_imported("transformers.utils.logging", _silence)


def _silence(transformers_logging: ModuleType) -> None:
    """Disable the warnings and bars of Transformers, except the bars of downloads."""
    from huggingface_hub.utils import enable_progress_bars

    # Its warnings are either raised as our errors or irrelevant, such as the token ids of CLIP's text configuration.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # loading and writing weights
    enable_progress_bars()  # those of the hub, which the line above disables as well
