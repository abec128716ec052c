"""``data prepare``, ``data describe`` and ``data check``."""

from __future__ import annotations

from typing import Any

from e2fashion.commands.registry import Arguments, Command, Commands
from e2fashion.data.config import CheckConfig, DescribeConfig, PrepareConfig, load_prepare_config
from e2fashion.types import E2FashionError

COMMANDS = Commands()

UNFIT = 3
"""Exit code of ``data check`` when findings are at least as severe as ``fail_on``; errors stay 1."""


def _load_prepare(command: Command, arguments: Arguments) -> tuple[PrepareConfig, dict[str, Any]]:
    """The configuration and the options of the source, which are further keys."""
    files = [argument for argument in arguments.positional if argument.endswith((".yaml", ".yml"))]
    sources = [f"source={argument}" for argument in arguments.positional if argument not in files]
    if not arguments.positional or len(files) > 1 or len(sources) > 1:
        raise E2FashionError(
            "Give one source, or a configuration file that names one. Usage: e2fashion " + command.usage
        )
    return load_prepare_config(files[0] if files else None, [*sources, *arguments.overrides])


@COMMANDS.add(
    "data prepare",
    "<source> [config.yaml] path=... output=<catalogue> [on_error=skip]",
    "convert a source (kagl, fashiongen, fashion_iq, folder, hub, labelled, synthetic ...) to a catalogue",
    PrepareConfig,
    positional=("source",),
    load=_load_prepare,
    page="data.md",
)
def prepare(config: tuple[PrepareConfig, dict[str, Any]], arguments: Arguments) -> str:
    """Prepare a catalogue; counts of its splits."""
    from e2fashion import runner

    return runner.prepare(*config, progress=arguments.progress)


@COMMANDS.add(
    "data describe",
    "<catalogue> [tokenizer=<model>] [template=...]",
    "count the products, images, texts and tags of a catalogue",
    DescribeConfig,
    positional=("catalogue",),
    page="data.md",
)
def describe(config: DescribeConfig, arguments: Arguments) -> str:
    """Counts of a catalogue."""
    from e2fashion import runner

    return runner.describe(config)


@COMMANDS.add(
    "data check",
    "[config.yaml] <catalogue> [fail_on=look|leak|broken|never]",
    "check a catalogue: duplicates, leaks, damage, spellings, skew, long texts (exit code 3 if unfit)",
    CheckConfig,
    positional=("data",),
    page="data_check.md",
)
def check(config: CheckConfig, arguments: Arguments) -> tuple[str, int]:
    """Findings of a check, and its exit code."""
    from e2fashion import runner

    text, fit = runner.check(config, progress=arguments.progress)
    return text, 0 if fit else UNFIT
