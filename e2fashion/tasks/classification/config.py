"""Every key of zero-shot classification and of tag prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.options import Computing, FeatureKind, Measuring
from e2fashion.types import Split


@dataclass
class Prompting:
    """How labels become text embeddings, and how images are compared with them."""

    templates: list[str] = field(default_factory=lambda: ["{}"])
    """Texts with a slot ``{}`` for the label, whose embedding is their mean. Source: CLIP."""
    region_templates: list[str] = field(default_factory=lambda: ["{}"])
    """As ``templates``, for the comparison with regions; training uses the bare tag."""
    region_weight: float | None = None
    """The region's share in ``features=both``, from 0 to 1; null: the best on val."""
    resamples: int = 1000
    """Bootstrap resamples of the confidence intervals."""


@dataclass
class ClassifyConfig(Prompting, Measuring):
    """Zero-shot classification of a split's products among the values of a tag column."""

    column: str = MISSING
    """Tag column whose values are the classes."""
    features: list[FeatureKind] = field(default_factory=lambda: ["global"])
    """``global``, and of an E2 ``region`` (of the entity) or ``both`` (mean of the cosines)."""
    entity: str | None = None
    """Entity whose region is compared; null: the one whose tags the column holds."""
    split: Split = "test"
    """Split whose products are classified, among all values that occur in it."""
    wording: dict[str, str] = field(default_factory=dict)
    """Text that replaces a value in the templates; other values stand for themselves."""
    benchmark: str | None = None
    """Metric of ``published`` that is shown next to ours."""
    published: str | None = None
    """File of published values; null: none."""


@dataclass
class TagsFitConfig(Prompting, Measuring):
    """Which tags a model predicts, and the thresholds, chosen on val, below which it does not answer."""

    columns: list[str] | None = None
    """Tag columns or entities of the model; null: its entities, of a plain CLIP every column."""
    features: FeatureKind | None = None
    """Features that predict entities; null: ``region`` of an E2, else ``global``. Other columns use ``global``."""
    accuracy: float = 0.9
    """Share of the answers on val that must be right; the lowest threshold that reaches it is taken."""
    split: Split = "test"
    """Split on which coverage and accuracy are measured; not val."""
    file: str | None = None
    """The file to write; null: ``tags.json`` in the run folder, else in ``runs/tags/<model>``."""


@dataclass
class TagsPredictConfig(Computing):
    """Tags of images by a model that ``tags fit`` has fitted."""

    model: str = MISSING
    """Run folder, model folder, or hub name of a CLIP."""
    images: list[str] = MISSING
    """Images whose tags are predicted, and folders of them; the further arguments."""
    file: str | None = None
    """The file that ``tags fit`` wrote; null: ``tags.json`` in the run folder."""
    threshold: float | None = None
    """Replaces every threshold; 0 always answers."""
    output: str | None = None
    """CSV file of the tags; null: they are only printed."""
    batch_size: int = 64
    """Images per step."""
    on_error: Literal["stop", "skip"] = "stop"
    """``skip`` leaves images that cannot be read out and lists them."""
