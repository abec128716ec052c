"""The page of all keys is made from the schema, and is up to date."""

from dataclasses import fields

import pytest

from e2fashion.schema import LossConfig, RunConfig
from scripts import config_reference


def test_the_committed_page_is_up_to_date() -> None:
    written = config_reference.PAGE.read_text(encoding="utf-8")
    assert written == config_reference.page(), "run: python -m scripts.config_reference"


def test_every_key_of_a_run_is_listed_with_its_default() -> None:
    listed = {key.path: key.default for key in config_reference.keys(RunConfig)}
    assert listed["loss.region_weight"] == "`0.5`"
    assert listed["data"] == "required"
    assert listed["model.scratch.text.layers"] == "`4`"
    assert "train.stages.<name>.epochs" in listed
    assert {item.name for item in fields(RunConfig)} <= {path.partition(".")[0] for path in listed}


def test_a_key_without_words_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = {**config_reference.EXPLAINED, LossConfig: {}}
    monkeypatch.setattr(config_reference, "EXPLAINED", fewer)
    with pytest.raises(SystemExit, match=r"does not explain LossConfig\.region_weight"):
        config_reference.page()


def test_words_for_a_key_that_is_gone_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {**config_reference.EXPLAINED, LossConfig: {**config_reference.EXPLAINED[LossConfig], "gone": ("", "")}}
    monkeypatch.setattr(config_reference, "EXPLAINED", more)
    with pytest.raises(SystemExit, match=r"lacks: LossConfig\.gone"):
        config_reference.page()
