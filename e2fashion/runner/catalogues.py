"""``data prepare`` and ``data describe``: make a catalogue, and say what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2fashion import build
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.schema import DescribeConfig, PrepareConfig


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
