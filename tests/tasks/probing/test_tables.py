"""Figures of probes: what is drawn from which records, and what cannot stand in one figure."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from e2fashion.plots import Point
from e2fashion.tasks.probing import tables as probing_tables
from e2fashion.tasks.probing.tables import add_probe_figures, draw_few_shots, draw_probes, probe_tables, probes_by_data
from e2fashion.types import E2FashionError, ResultRecord


def record(model: str, entity: str, value: float, shots: str = "all", features: str = "global") -> ResultRecord:
    extra = {"entity": entity, "features": features, "shots": shots, "classes": 7, "majority": {"accuracy": 20.0}}
    if shots != "all":
        extra["deviation"] = {"accuracy": 2.0}
    low, high = (value - 3, value + 3) if shots == "all" else (None, None)
    return ResultRecord("", model, "probe", "accuracy", value, low, high, "test", data_fingerprint="f", extra=extra)


RECORDS = [
    record(model, entity, value + bonus)
    for model, bonus in (("CLIP", 0.0), ("CLIP-FT", 9.0), ("E2", 12.0))
    for entity, value in (("brand", 41.0), ("season", 58.0), ("sub_category", 70.0))
]
FEW = [
    record(model, "brand", 10.0 * shots**0.5 + bonus, str(shots))
    for model, bonus in (("CLIP", 0), ("E2", 4))
    for shots in (1, 4, 16)
]


def is_drawn(file: Path) -> bool:
    with Image.open(file) as picture:
        return picture.width > 600 and picture.convert("L").getextrema()[0] < 60


def test_both_figures_are_drawn(tmp_path: Path) -> None:
    assert is_drawn(draw_probes([*RECORDS, *FEW], tmp_path / "figures" / "bars.png"))
    assert is_drawn(draw_few_shots([*RECORDS, *FEW], "brand", tmp_path / "few.png"))


def test_bars_hold_intervals_seeds_and_the_majority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, dict[str, Point]] = {}
    monkeypatch.setattr(probing_tables, "draw_bars", lambda bars, file, label: seen.update(bars))
    seeds = [replace(RECORDS[0], seed=seed, value=value) for seed, value in enumerate((40.0, 44.0))]
    draw_probes([*seeds, RECORDS[3]], tmp_path / "bars.png")
    group = "brand\n7 classes"
    spread = 8**0.5
    assert seen["CLIP"][group] == Point(0.0, 42.0, 42 - spread, 42 + spread)
    assert seen["CLIP-FT"][group] == Point(0.0, 50.0, 47.0, 53.0)
    assert seen["majority class"][group] == Point(0.0, 20.0)


def test_kinds_of_features_are_named_where_there_are_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, dict[str, Point]] = {}
    monkeypatch.setattr(probing_tables, "draw_bars", lambda bars, file, label: seen.update(bars))
    draw_probes([record("E2", "brand", 5.0), record("E2", "brand", 6.0, features="region")], tmp_path / "bars.png")
    assert list(seen) == ["E2, global", "E2, region", "majority class"]


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    other = replace(RECORDS[0], split="val")
    assert list(probes_by_data([*RECORDS, other])) == [("test", "f"), ("val", "f")]
    with pytest.raises(E2FashionError, match=r"needs probes on one split of one catalogue and got test of .*; val of"):
        draw_probes([*RECORDS, other], tmp_path / "bars.png")
    with pytest.raises(E2FashionError, match="got no probes"):
        draw_probes([], tmp_path / "bars.png")
    with pytest.raises(E2FashionError, match=r"nothing to draw in few\.png"):
        draw_few_shots(RECORDS, "season", tmp_path / "few.png")


def test_a_report_gets_its_figures(tmp_path: Path) -> None:
    report = tmp_path / "probes.md"
    report.write_text("tables\n", encoding="utf-8")
    assert add_probe_figures([ResultRecord("", "m", "retrieval", "R@1", 1.0)], report) == ""
    add_probe_figures([*RECORDS, *FEW, replace(RECORDS[0], split="val")], report)
    names = re.findall(r"\(figures/(.*?)\)", report.read_text(encoding="utf-8"))
    assert names == ["probes_probe_global.png", "probes_probe_global_brand_few_shots.png", "probes_probe_2_global.png"]
    assert all(is_drawn(tmp_path / "figures" / name) for name in names)


def test_more_models_than_can_be_told_apart_leave_the_tables(tmp_path: Path) -> None:
    report = tmp_path / "probes.md"
    report.write_text("tables\n", encoding="utf-8")
    add_probe_figures([record(f"model {number}", "brand", 5.0) for number in range(7)], report)
    assert "No figure: probes_probe_global.png has 8 series" in report.read_text(encoding="utf-8")


def test_no_probes_no_table() -> None:
    assert probe_tables([ResultRecord("", "m", "retrieval", "R@1", 1.0)]) == []
