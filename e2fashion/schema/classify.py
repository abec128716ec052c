"""Every key of zero-shot classification, of tag prediction, and of looking where an encoder looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.schema.common import Computing, Measuring


@dataclass
class ClassifyConfig(Measuring):
    """Zero-shot classification of a split's products among the values of the tag column ``column``.

    A label's embedding is the mean over ``templates``, texts with a slot ``{}``. ``features`` (``global``, and of an E2
    ``region``, ``both``) may name several, separated by commas; regions are compared with ``region_templates``, those
    of ``entity`` (null: the one whose tags the column holds), and ``both`` gives them the share ``region_weight``
    (null: chosen on val). ``wording`` maps values to the words that stand for them.
    ``published`` is a file of published values of which ``benchmark`` names the metric that stands beside ours.
    ``output`` is the records file (null: ``results.jsonl`` of the run folder, else of ``runs/classify/<model>``); page,
    figures and predictions go into ``classify/`` beside it.
    """

    column: str = MISSING
    templates: list[str] = field(default_factory=lambda: ["{}"])
    region_templates: list[str] = field(default_factory=lambda: ["{}"])
    features: str = "global"
    region_weight: float | None = None
    entity: str | None = None
    split: str = "test"
    wording: dict[str, str] = field(default_factory=dict)
    benchmark: str | None = None
    published: str | None = None
    resamples: int = 1000


@dataclass
class TagsFitConfig(Measuring):
    """Which tags a model predicts, and the thresholds on val below which it does not answer.

    ``columns`` are tag columns or entities of the model, separated by commas (null: its entities, of a plain CLIP every
    tag column). Entities are read by ``features`` (null: ``region`` of an E2, else ``global``), other columns by the
    whole picture; ``region_weight`` is the region's share in ``both`` (null: chosen on val). ``accuracy`` is the share
    of val's answers that are to be right. ``file`` is what is written (null: ``tags.json`` in the run folder, else in
    ``runs/tags/<model>``).
    """

    columns: str | None = None
    features: Literal["global", "region", "both"] | None = None
    region_weight: float | None = None
    accuracy: float = 0.9
    templates: list[str] = field(default_factory=lambda: ["{}"])
    region_templates: list[str] = field(default_factory=lambda: ["{}"])
    split: str = "test"
    resamples: int = 1000
    file: str | None = None


@dataclass
class TagsPredictConfig(Computing):
    """Tags of pictures by a fitted model. ``file`` null reads the run's ``tags.json``; ``threshold`` replaces all."""

    model: str = MISSING
    file: str | None = None
    threshold: float | None = None
    output: str | None = None
    batch_size: int = 64


@dataclass
class ExplainConfig(Computing):
    """Where a model looks in one picture: a file, or the first view of ``product_id`` in the catalogue ``data``.

    ``methods`` are ``occlusion`` (of texts), ``tokens`` (of an E2), ``attention``, ``rollout``, separated by commas
    (null: the first two as far as the model and the texts allow, else attention). ``text`` may hold several texts,
    separated by ``|`` (null: of a product its description and the tags of the model's entities). ``square``: occlusion
    pads the picture with grey, or squares it in the model's ``own`` way. ``grid`` is the number of rows and columns on
    which bands begin and end. ``precision`` is the towers'. ``output`` is the figure (null: in
    ``runs/explain/<model>``).
    """

    model: str = MISSING
    image: str | None = None
    data: str | None = None
    product_id: str | None = None
    text: str | None = None
    methods: str | None = None
    square: Literal["grey", "own"] = "grey"
    grid: int = 8
    name: str | None = None
    resize: Literal["squeeze", "crop", "pad"] | None = None
    size: int | None = None
    batch_size: int = 24
    precision: Literal["fp32", "bf16"] = "fp32"
    output: str | None = None
