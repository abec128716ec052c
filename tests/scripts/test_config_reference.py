"""The page of all keys is made from the dataclasses, and is up to date."""

from dataclasses import fields

from e2fashion.settings import settings_of
from e2fashion.training.build import LOSS_TERMS
from e2fashion.training.config import RunConfig
from scripts import config_reference


def test_the_committed_page_is_up_to_date() -> None:
    written = config_reference.PAGE.read_text(encoding="utf-8")
    assert written == config_reference.page(), "run: python -m scripts.config_reference"


def test_every_key_of_a_run_is_listed_with_its_default_and_meaning() -> None:
    page = config_reference.page()
    assert "| `loss.region_weight` | number | `0.5` | Weight w of" in page
    assert "| `data` | text | required | A prepared catalogue. |  |" in page
    assert "| `model.scratch.text.layers` | integer | `4` | Transformer layers. |  |" in page
    assert "| `train.stages.<name>.epochs` | integer | required |" in page
    assert {item.name for item in fields(RunConfig)} <= {item.path for item in settings_of(RunConfig)}


def test_every_loss_term_is_listed_with_its_options() -> None:
    page = config_reference.page().partition("## Loss terms")[2]
    for name in LOSS_TERMS:
        assert f"### {name}\n" in page
    assert "| `window` | integer | `3` |" in page.partition("### crop_teacher")[2].partition("###")[0]


def test_a_meaning_does_not_break_its_table() -> None:
    rows = [line for line in config_reference.page().splitlines() if line.startswith("| `")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {6}
    assert any(r"\|" in line for line in rows)


def test_docstrings_become_markdown() -> None:
    shown = config_reference.markdown("As ``a`` of :class:`b.C` (docs/data.md#long-texts).")
    assert shown == "As `a` of `b.C` ([data.md](data.md#long-texts))."
