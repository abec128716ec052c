"""``data prepare``, ``data describe`` and ``data check``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2fashion.commands.registry import Arguments, Command, Commands
from e2fashion.data.config import CheckConfig, DescribeConfig, PrepareConfig, load_prepare_config
from e2fashion.disk import file_name
from e2fashion.terminal import counted
from e2fashion.types import E2FashionError

COMMANDS = Commands("data.md")

UNFIT = 3
"""Exit code of ``data check`` when findings are at least as severe as ``fail_on``; errors stay 1."""


def _load_prepare(command: Command, arguments: Arguments) -> tuple[PrepareConfig, dict[str, Any]]:
    """The configuration and the options of the source, which are further keys."""
    files, sources = arguments.files, [f"source={value}" for value in arguments.values]
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
)
def prepare(config: tuple[PrepareConfig, dict[str, Any]], arguments: Arguments) -> str:
    """Prepare a catalogue; counts of its splits."""
    from e2fashion.data.prepare import SKIPPED_FILE
    from e2fashion.data.prepare import prepare as prepare_catalogue

    catalogue = prepare_catalogue(*config, progress=arguments.progress)
    skipped = sum(catalogue.manifest.skipped.values())
    counts = ", ".join(f"{split} {count['products']:,}" for split, count in catalogue.manifest.splits.items())
    rows = counted(skipped, "rows")
    left_out = f"; {rows} skipped, listed in {catalogue.path / SKIPPED_FILE}" if skipped else ""
    return f"{catalogue.path}: products: {counts}{left_out}"


@COMMANDS.add(
    "data describe",
    "<catalogue> [tokenizer=<model>] [template=...]",
    "count the products, images, texts and tags of a catalogue",
    DescribeConfig,
    positional=("catalogue",),
)
def describe(config: DescribeConfig, arguments: Arguments) -> str:
    """Counts of a catalogue."""
    from e2fashion.data.describe import describe as describe_catalogue
    from e2fashion.models.tokenizer import load_token_counter

    return describe_catalogue(config, load_token_counter(config.tokenizer)).as_text()


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
    from e2fashion.data.audit.check import check as check_catalogue
    from e2fashion.data.audit.findings import reaches
    from e2fashion.data.audit.report import as_text, write_check
    from e2fashion.models.tokenizer import load_token_counter

    checked = check_catalogue(config, load_token_counter(config.tokenizer), arguments.progress)
    folder = Path(config.output or Path("runs", "check", file_name(checked.catalogue.manifest.name)))
    report = write_check(checked, folder, config.fail_on, config.shown)
    text = f"{as_text(checked)}\n{config.data}: worst finding: {checked.worst}; report: {report}"
    return text, UNFIT if reaches(checked.worst, config.fail_on) else 0
