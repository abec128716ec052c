"""What an ablation file means, and every mistake in one; each shipped file resolves against its bases."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from e2fashion.ablation.plan import Ablation, load_ablation
from e2fashion.types import E2FashionError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = sorted((CONFIGS / "ablation").glob("*.yaml"))
BASE = {
    "model": {"entities": {"brand": {"tokens": 2}, "season": {"tokens": 2}}, "fusion_layers": [1]},
    "train": {
        "warmup_steps": "${loader.batch_size}",
        "stages": {"first": {"epochs": 1, "learning_rate": 0.1}, "second": {"epochs": 2, "learning_rate": 0.1}},
    },
}


def load(folder: Path, rows: Any, *overrides: str, **settings: Any) -> Ablation:
    """The ablation of ``rows`` on a base with two entities and two stages."""
    OmegaConf.save(OmegaConf.create(BASE), folder / "base.yaml")
    content = {"base": "base.yaml", "seeds": [0], "rows": rows, **settings}
    OmegaConf.save(OmegaConf.create(content), folder / "mine.yaml")
    return load_ablation(folder / "mine.yaml", ["data=catalogue", *overrides])


@pytest.mark.parametrize("base", ["its own", "fashiongen_e2", "kagl_pretrained_e2", "quickstart_e2_paper"])
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_ablation_resolves_every_row_against_any_base(file: Path, base: str) -> None:
    words = [] if base == "its own" else [f"base={CONFIGS / 'run' / base}.yaml"]
    if base == "quickstart_e2_paper" and file.stem == "drop_entity":
        words.append("optional=[no_article_type,no_composition]")
    ablation = load_ablation(file, ["data=catalogue", *words])
    assert (ablation.name, ablation.folder) == (file.stem, Path("runs/ablate") / file.stem)
    assert len(ablation.runs) == 3 * len(ablation.changes) >= 6
    assert len(ablation.changes) + len(ablation.left_out) == len(OmegaConf.load(file).rows)


def test_the_issue_s_ablations_are_shipped() -> None:
    names = "components drop_entity tokens_per_entity patches_per_token batch_size fusion_layers selection"
    assert {*names.split(), "region_targets", "text_with_tags"} <= {file.stem for file in SHIPPED}


def test_a_row_names_what_it_changes(tmp_path: Path) -> None:
    rows = {
        "base": {},
        "nested": {"model": {"selection": "soft", "noise": "none"}},
        "starred": {"model.entities.*.tokens": 4},
        "off": {"model.entities": {}, "model.fusion_layers": [], "loss.region_weight": 0.0},
        "no_first": {"train.stages.first": None},
    }
    ablation = load(tmp_path, rows, "seeds=[3,5]", "loss.region_weight=0.25")
    assert [run.name for run in ablation.runs[:3]] == ["base/seed3", "base/seed5", "nested/seed3"]
    assert ablation.runs[1].folder == Path("runs/ablate/mine/base/seed5")
    assert (ablation.runs[1].config.name, ablation.runs[1].config.seed) == ("base", 5)
    assert ablation.changes["base"] == {}
    assert ablation.changes["nested"] == {"model.selection": ("hard", "soft"), "model.noise": ("gumbel", "none")}
    assert set(ablation.changes["starred"]) == {"model.entities.brand.tokens", "model.entities.season.tokens"}
    assert ablation.changes["off"]["loss.region_weight"] == (0.25, 0.0)
    assert ablation.runs[6].config.model.entities == {}
    assert all(key.startswith("train.stages.first.") for key in ablation.changes["no_first"])


SOFT: dict[str, Any] = {"model.selection": "soft"}


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ({}, {}, "has no rows"),
        ({"a": {"loss.region_wieght": 0}}, {}, r"row 'a', key 'loss.region_wieght'.*Did you mean: 'region_weight'"),
        ({"a": {"model.entities.brand.token": 0}}, {}, r"row 'a', key.*Did you mean: 'tokens'"),
        ({"a": {"loader.batch_size": "many"}}, {}, r"row 'a', key 'loader.batch_size'.*'many'"),
        ({"a": 3}, {}, "row 'a' is 3; a row maps keys to values"),
        ({"a": {"seed": 3}}, {}, r"row 'a' names 'seed', which belongs to the whole ablation"),
        ({"a": {"data": "x"}}, {}, "row 'a' names 'data'"),
        ({"a": {"loader.batch_size": 32}}, {}, r"row 'a' changes 'train.warmup_steps' from 64 to 32 without naming it"),
        ({"a": SOFT, "b": SOFT}, {}, "rows 'a' and 'b' compute the same"),
        (
            {"a": {"model.entities": {}}, "b": {"model.entities": {}, "model.fusion_layers": []}},
            {},
            "rows 'a' and 'b' compute the same",
        ),
        ({"a": {"model.entities.brnad": None}}, {}, r"row 'a' removes model.entities.brnad.*\(it has brand, season\)"),
        ({"a": {"train.stages.third": None}}, {}, r"removes train.stages.third.*\(it has first, second\)"),
        ({"a/b": {}}, {}, "row 'a/b' names a folder"),
        ({"plain": {}}, {"baseline": "plian"}, "baseline is 'plian', which is not a row. Did you mean 'plain'?"),
        ({"plain": {}}, {"optional": ["other"]}, "optional is 'other', which is not a row. Rows: plain."),
        ({"plain": {}}, {"seeds": [1, 1]}, r"seeds is \[1, 1\]"),
        ({"plain": {}}, {"sedes": [1]}, r"mine.yaml, key 'sedes'.*Did you mean: 'seeds'"),
        ({"plain": {}}, {"base": "gone.yaml"}, r"gone.yaml' does not exist"),
    ],
)
def test_a_mistake_is_found_before_anything_is_trained(
    rows: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(E2FashionError, match=message):
        load(tmp_path, rows, **settings)


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    load(tmp_path, {"a": {}})
    file = tmp_path / "mine.yaml"
    file.write_text("base: base.yaml\nrows:\n  a: {}\n  a: {loss.region_weight: 0}\n", encoding="utf-8")
    with pytest.raises(E2FashionError, match=r"mine\.yaml is not valid YAML: .*duplicate key a"):
        load_ablation(file, ["data=catalogue"])


@pytest.mark.parametrize(("word", "message"), [("seed=1", "write seeds="), ("evaluate_splits=test", "write split=")])
def test_a_word_that_the_sweep_sets_is_refused(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=message):
        load(tmp_path, {"a": {}}, word)


def test_an_optional_row_is_left_out_and_said(tmp_path: Path) -> None:
    ablation = load(tmp_path, {"a": {}, "b": {"model.entities.colour": None}}, optional=["b"])
    assert list(ablation.changes) == ["a"]
    assert ablation.left_out["b"].startswith("removes model.entities.colour, which the base lacks")
    with pytest.raises(E2FashionError, match="row 'b' is left out"):
        ablation.chosen(["b"])
    ablation = load(tmp_path, {"a": {}, "b": {"train.stages.last.learning_rate": 0.1}}, optional=["b"])
    assert ablation.left_out["b"].startswith(
        "changes train.stages.last.learning_rate, but the base lacks train.stages.last (it has first"
    )


def test_rows_and_single_runs_are_chosen_by_name(tmp_path: Path) -> None:
    ablation = load(tmp_path, {"a": {}, "b": SOFT}, seeds=[0, 1])
    assert [run.name for run in ablation.chosen(["b", "a/seed1"])] == ["a/seed1", "b/seed0", "b/seed1"]
    assert len(ablation.chosen([])) == 4
    with pytest.raises(E2FashionError, match=r"has no row 'bb'\. Did you mean 'b'"):
        ablation.chosen(["bb"])


def test_rows_add_change_and_remove_loss_terms(tmp_path: Path) -> None:
    rows = {
        "base": {},
        "heavy": {"loss.terms.near.weight": 2.0},
        "two": {"loss.terms": {"far": {"weight": 0.5, "options": {"power": 3}}}},
        "none": {"loss.terms.near": None},
    }
    ablation = load(tmp_path, rows, "loss.terms.near.weight=1")
    terms = {run.row: run.config.loss.terms for run in ablation.runs}
    weights = {row: {name: term.weight for name, term in given.items() if term} for row, given in terms.items()}
    assert weights == {"base": {"near": 1.0}, "heavy": {"near": 2.0}, "two": {"near": 1.0, "far": 0.5}, "none": {}}
    assert len({run.identity for run in ablation.runs}) == 4
