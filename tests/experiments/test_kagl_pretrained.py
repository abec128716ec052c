"""The paper's situation in small, with one tiny model in every role."""

from pathlib import Path
from typing import Any

import pytest
from tiny_encoder import save_tiny_run

from e2fashion.ablation import RowResult
from e2fashion.data.catalogue import Catalogue
from e2fashion.eval.results import read_records
from experiments import kagl_pretrained


def test_every_measurement_lands_in_the_records(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny_run(synth_catalogue, tmp_path / "run")
    asked: list[str] = []

    def run_ablation(file: Path, overrides: list[str], **_: Any) -> list[RowResult]:
        asked.append(overrides[-1])
        return [RowResult("e2", {}, folders={0: tmp_path / "run"})]

    monkeypatch.setattr(kagl_pretrained, "run_ablation", run_ablation)
    monkeypatch.setattr(kagl_pretrained, "PRETRAINED", str(model))
    monkeypatch.setattr(kagl_pretrained, "LABELS", ("sub_category",))
    file = tmp_path / "records.jsonl"
    kagl_pretrained.main(str(synth_catalogue.path), records=file)
    assert asked == ["split=val", "split=val,test"]  # test is read when every run is finished
    records = read_records(file)
    assert {record.split for record in records} == {"test"}
    zero_shot = {record.model: record.value for record in records if record.metric == "accuracy"}
    assert set(zero_shot) == {"CLIP, pretrained", "e2", *(f"e2, {share}% of the way" for share in (25, 50, 75))}
    assert len(set(zero_shot.values())) == 1  # between a model and itself lies itself
    divisions = {record.extra["division"] for record in records if record.task == "retrieval_by_group"}
    assert divisions == {"training products of the brand", "words of the name"}
