"""A metric of an experiment's rows against a number in their configuration, as a figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from e2fashion.config import load_config
from e2fashion.plots import Point, draw_curves
from e2fashion.tables import summarize
from e2fashion.tasks.retrieval.rankings import BOTH
from e2fashion.training.config import RunConfig
from experiments._experiment import Material


def draw_rows(
    material: Material, number: Callable[[RunConfig], float], x_label: str, protocol: str = "full", split: str = "test"
) -> Path:
    """SumR (a hit is the same product) over ``number``, a curve for E2 and one for runs without entities (CLIP-FT).

    Whiskers: one standard deviation over seeds, or the 95 % interval of a single one.
    """
    curves: dict[str, list[Point]] = {}
    for title, folders in material.folders.items():
        seeds = [
            record
            for record in material.records
            if (record.model, record.metric, record.direction) == (title, "SumR", BOTH)
            and (record.task, record.protocol, record.positives, record.split)
            == ("retrieval", protocol, "product", split)
        ]
        config = load_config(RunConfig, folders[0].config)
        name = "E2" if any(config.model.entities.values()) else "CLIP-FT"
        curves.setdefault(name, []).append(Point.of(number(config), summarize(seeds)))
    return draw_curves(curves, material.output / f"{material.experiment.name}.png", x_label, "SumR", log_x=True)
