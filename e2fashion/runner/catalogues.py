"""``data prepare``, ``describe`` and ``check``: make a catalogue, say what it holds, and whether it is fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2fashion.data.audit import CheckSettings, TextLimit, check_catalogue, reaches
from e2fashion.data.audit.report import as_text, write_check
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import CheckConfig, DescribeConfig, PrepareConfig
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.disk import file_name
from e2fashion.training import build


def prepare(config: PrepareConfig, source_options: dict[str, Any], progress: bool = True) -> str:
    """Turn a source into a catalogue; a repeated call returns the one that is there."""
    catalogue = prepare_catalogue(
        build.build_source(config.source, source_options),
        config.output,
        on_error=config.on_error,
        seed=config.split_seed,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        max_text_characters=config.max_text_characters,
        max_pixels=config.max_pixels,
        dominant_fibre=dict(config.dominant_fibre),
        clean_html=config.clean_html,
        progress=progress,
        overwrite=config.overwrite,
    )
    skipped = sum(catalogue.manifest.skipped.values())
    counts = ", ".join(f"{split} {n['products']:,}" for split, n in catalogue.manifest.splits.items())
    left_out = f"; {skipped} rows skipped, listed in {Path(config.output) / 'skipped.csv'}" if skipped else ""
    return f"{config.output}: products: {counts}{left_out}"


def describe(config: DescribeConfig) -> str:
    """What a catalogue holds, to read."""
    catalogue = Catalogue.load(config.catalogue)
    counting = build.build_token_counting(config)
    return describe_catalogue(catalogue, template=TextTemplate(config.template), **counting).as_text()


def check(config: CheckConfig, progress: bool = True) -> tuple[str, bool]:
    """Look for what makes a catalogue unfit, and write the report; whether nothing reaches ``fail_on``.

    Nothing is taken from an earlier check: files may have been damaged since.
    """
    catalogue = Catalogue.load(config.data, again=True)
    settings = CheckSettings(
        config.near_bits, config.near_pixels, config.near_text, config.skew, config.source_column, config.seed
    )
    limit = TextLimit(**build.build_token_counting(config), template=TextTemplate(config.template))
    checked = check_catalogue(
        catalogue, settings, limit, progress, Catalogue.load(config.against) if config.against else None
    )
    folder = Path(config.output or Path("runs", "check", file_name(catalogue.manifest.name)))
    report = write_check(checked, folder, config.fail_on, config.shown)
    text = f"{as_text(checked)}\n{config.data}: worst finding: {checked.worst}; report: {report}"
    return text, not reaches(checked.worst, config.fail_on)
