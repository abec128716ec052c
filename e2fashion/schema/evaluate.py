"""Every key of what measures a trained encoder: retrieval and linear probes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.schema.common import Measuring


@dataclass
class EvaluateConfig(Measuring):
    """One evaluation of one encoder: our run or model folder, or any CLIP checkpoint by folder or hub name.

    ``text`` overrides the template that the model was trained with (null: the model's own, else the description);
    ``with_tags: false`` drops the tags from it. ``split``, ``protocol`` may name several, separated by commas.
    ``selection`` says how the patches are found whose place is compared with the tags' true regions, where a catalogue
    knows them: ``tokens`` (of models that have some), ``attention``, ``rollout``, ``occlusion`` (dear); empty: none.
    ``resize`` and ``size`` override the processor's way of making a square. ``output`` is the records file
    (null: ``results.jsonl`` of the run folder, else of ``runs/evaluate/<model>``), ``candidates`` the folder of the
    lists that ``sample_100`` draws (null: ``candidates`` beside the records; a catalogue's own lists are read).
    """

    protocol: str = "full"
    split: str = "val"
    text: str | None = None
    with_tags: bool = True
    selection: str = "tokens"
    queries: int | None = None
    draws: int = 1
    fill: Literal["report", "top_up"] = "report"
    seed: int = 0
    candidates: str | None = None


@dataclass
class ProbeConfig(Measuring):
    """A linear probe of one encoder: how well its image features tell the values of each ``entity`` apart.

    ``entity`` and ``features`` (``global``, ``region``, ``both``) may name several, separated by commas, and so may
    ``shots``, the examples per class of the few-shot curve (empty: none). ``output`` is the records file (null:
    ``results.jsonl`` of the run folder, else of ``runs/probe/<model>``); features are kept beside it.
    """

    entity: str = MISSING
    features: str = "global"
    split: str = "test"
    min_examples: int = 10
    fibre_columns: str = "composition"
    shots: str = ""
    draws: int = 5
    strengths: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5])
    tolerance: float = 1e-4
    max_iterations: int = 1000
    resamples: int = 1000
    seed: int = 0
