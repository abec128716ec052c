"""The keys of preparing, describing and checking a catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from e2fashion.config import keys_of, load_with_options, options_for
from e2fashion.data.text import TextLength
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    from e2fashion.data.sources.base import Source


@dataclass
class Preparation:
    """What is done to the rows of a source."""

    on_error: Literal["stop", "skip"] = "stop"
    """``skip`` leaves unfit rows out, counts them and lists them in ``skipped.csv``."""
    split_seed: int = 0
    """Seed of the splits that the source does not bring."""
    val_fraction: float = 0.1
    """Share of rows in val, where the source has no val split."""
    test_fraction: float = 0.1
    """Share of rows in test, where the source has no splits."""
    max_text_characters: int = 4000
    """Longer descriptions are errors."""
    max_pixels: int = 50_000_000
    """Larger images are errors; the size is read from the header, before decoding."""
    dominant_fibre: dict[str, str] = field(default_factory=dict)
    """New tag columns, each the dominant fibre of a column of compositions, as in ``{fibre: composition}``."""
    numbers: list[str] = field(default_factory=list)
    """Tags that become columns of numbers, parsed with currency signs, thousands and a decimal comma:
    ``1.299,00 €``."""
    decimal: Literal["auto", "comma", "point"] = "auto"
    """Decimal sign of the numbers; ``auto``: what the rows of a column show, each column for itself."""
    clean_html: bool = False
    """Remove HTML tags and entities from descriptions and tags; the manifest counts the rows that had some."""
    overwrite: bool = False
    """Replace another catalogue in ``output``."""


@dataclass
class PrepareConfig(Preparation):
    """How a source becomes a catalogue. The options of the source are given as further keys."""

    source: str = MISSING
    """Name of the source; may be the first argument."""
    output: str = MISSING
    """Folder of the catalogue."""


@dataclass
class DescribeConfig(TextLength):
    """What a catalogue holds."""

    catalogue: str = MISSING
    """A prepared catalogue."""


@dataclass
class Thresholds:
    """From which bounds on a check reports a finding."""

    near_bits: int = 6
    """Near-identical images differ in at most this many of the 64 bits of their hash ..."""
    near_pixels: float = 0.07
    """... and by at most this share of their contrast, at 16 x 16 pixels."""
    near_text: float = 0.9
    """Near-identical texts share at least this part of all their words (Jaccard)."""
    skew: float = 0.2
    """The least Cramer's V between a tag and size, shape or format that is reported."""
    source_column: str | None = None
    """A tag column that names the origin of an image, whose skew is measured too."""
    seed: int = 0
    """Seed of the shuffles behind the p-values."""


@dataclass
class CheckConfig(Thresholds, TextLength):
    """Whether a catalogue is fit to train and measure on: duplicates, leaks, damage, spellings, skew, long texts.

    Exit code 3 if there are findings of severity ``fail_on`` or above.
    """

    data: str = MISSING
    """A prepared catalogue."""
    against: str | None = None
    """Another catalogue, say for pretraining, whose train split must share nothing with val and test."""
    output: str | None = None
    """Folder of the report; null: ``runs/check/<catalogue>``."""
    fail_on: Literal["look", "leak", "broken", "never"] = "leak"
    """The lowest severity that fails the check."""
    shown: int = 10
    """Rows of a finding on the page; its CSV has all of them."""


def load_prepare_config(file: str | Path | None, overrides: Sequence[str]) -> tuple[PrepareConfig, dict[str, Any]]:
    """Our keys of a preparation, and the other ones, which are options of the source, strictly checked.

    Raises:
        E2FashionError: a mistake in the configuration, an unknown source or an unknown option of it.
    """
    from e2fashion.data.sources import SOURCES  # here, because they cost half a second

    def options_of(named: DictConfig) -> type | None:
        return None if OmegaConf.is_missing(named, "source") else SOURCES.get(named.source)

    config, options = load_with_options(PrepareConfig, file, overrides, options_of)
    source_options(config.source, options)
    return config, options


def source_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the source ``name`` with their defaults, strictly against the fields of its class.

    Raises:
        E2FashionError: an unknown source or option (the ones that exist are named), or a value of the wrong type.
    """
    from e2fashion.data.sources import SOURCE_POINT, SOURCES  # here, because they cost half a second

    if (schema := SOURCE_POINT.find(name, SOURCES)) is None:
        raise E2FashionError(f"There is no source '{name}'. Sources: {', '.join(SOURCE_POINT.names(SOURCES))}.")
    # Of ours and the source's together, for the user writes both in one file.
    return options_for(f"source '{name}'", schema, options, keys_of(PrepareConfig))


def build_source(name: str, options: Mapping[str, Any]) -> Source:
    """The source ``name`` with its options, strictly against the fields of its class.

    Raises:
        E2FashionError: an unknown source or option (the ones that exist are named), or what the source itself refuses.
    """
    from e2fashion.data.sources import SOURCE_POINT, SOURCES
    from e2fashion.data.sources.base import SOURCE_REMEDY
    from e2fashion.disk import reading

    values = source_options(name, options)
    schema = cast("type[Source]", SOURCE_POINT.find(name, SOURCES))
    with reading(f"source '{name}' with path={str(values.get('path'))[:200]}", SOURCE_REMEDY):
        return schema(**values)
