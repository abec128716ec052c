"""``evaluate``, ``probe`` and ``report``: measure models and print the results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.probing.config import ProbeConfig
from e2fashion.tasks.retrieval.config import EvaluateConfig

COMMANDS = Commands()


@COMMANDS.add(
    "evaluate",
    "<model> data=<catalogue> protocol=full split=val",
    "measure retrieval with a run, a model folder or any CLIP or SigLIP checkpoint",
    EvaluateConfig,
    positional=("model",),
)
def evaluate(config: EvaluateConfig, arguments: Arguments) -> str:
    """Append records and show them as tables."""
    from e2fashion.evaluation import evaluate
    from e2fashion.report import keep_records

    return keep_records(*evaluate(config, arguments.progress), config.model)


@COMMANDS.add(
    "probe",
    "<model> data=<catalogue> entity=brand,season features=global split=test",
    "fit linear probes: how well image features separate the values of an entity",
    ProbeConfig,
    positional=("model",),
    page="probing.md",
)
def probe(config: ProbeConfig, arguments: Arguments) -> str:
    """Append records and show them as a table."""
    from e2fashion.report import keep_records
    from e2fashion.tasks.probing.probe import probe

    return keep_records(*probe(config, arguments.progress), config.model)


@dataclass
class ReportConfig:
    """Tables of existing records."""

    sources: list[str] = field(default_factory=list)
    """Run folders and ``results.jsonl`` files; the arguments."""
    output: str | None = None
    """Markdown file for the tables, with figures of probes next to it; null: print only."""


@COMMANDS.add(
    "report",
    "<run folder or results.jsonl> ... output=<file.md>",
    "make tables from existing records",
    ReportConfig,
    positional=("sources...",),
)
def report(config: ReportConfig, arguments: Arguments) -> str:
    """Tables of records, and figures of probes next to ``output``."""
    from e2fashion.report import report

    return report([Path(source) for source in config.sources], Path(config.output) if config.output else None)
