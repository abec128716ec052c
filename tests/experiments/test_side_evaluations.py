"""The side evaluations, with one tiny model in every role."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny_encoder import SETTINGS, build_tiny_encoder, save_tiny_run

from e2fashion.config import load_config, save_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.labelled import LabelledSource
from e2fashion.run_folder import RunFolder
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError
from experiments import forgetting
from experiments.common import side_evaluations
from experiments.common.experiment import Experiment, Material


@pytest.fixture
def material(synth_catalogue: Catalogue, tmp_path: Path) -> Material:
    """One row, whose model is also what it started from."""
    folder = RunFolder(tmp_path / "run")
    model = save_tiny_run(synth_catalogue, folder.path)
    save_config(load_config(RunConfig, None, [*SETTINGS, f"model.checkpoint={model}"]), folder.config)
    folder.update_record(identity="abc", seed=3)
    experiment = Experiment("side", "Side evaluations", view=lambda material: [])
    return Material(experiment, tmp_path, [], [], {"synthfashion": synth_catalogue}, {"e2": [folder]})


def test_every_measurement_lands_in_records_and_tables(material: Material) -> None:
    records, tables = side_evaluations.side_evaluations(material)
    assert {record.split for record in records} == {"test"}
    assert {record.seed for record in records if record.run == "abc"} == {3}
    zero_shot = {record.model: record.value for record in records if record.metric == "accuracy"}
    assert set(zero_shot) == {"CLIP, pretrained", "e2", *(f"e2, {share}% of the way" for share in (25, 50, 75))}
    assert len(set(zero_shot.values())) == 1  # between a model and itself is itself
    divisions = {record.extra["division"] for record in records if record.task == "retrieval_by_group"}
    assert divisions == {"training products of the brand", "words of the description"}
    assert set(tables) == {"_zero_shot", "_groups_0_i2t", "_groups_0_t2i", "_groups_1_i2t", "_groups_1_t2i"}
    labels = tables["_zero_shot"]
    assert labels.header[1].startswith("sub_category (")
    assert [row[0].text for row in labels.rows] == list(zero_shot)
    assert labels.rows[0][1].text == f"{zero_shot['e2']:.1f}"


def test_what_is_forgotten_stands_beside_what_is_gained(material: Material, synth_catalogue: Catalogue) -> None:
    records = forgetting.forgetting_records(material, {"synthfashion": synth_catalogue})
    table = forgetting.forgetting_table(records)
    assert list(table.header)[1:2] == ["SumR"]
    assert [title.partition(" (")[0] for title in table.header[1:]] == ["SumR", *["SynthFashion"] * 2]
    between = [f"e2, {share}% of the way" for share in (25, 50, 75)]
    assert [row[0].text for row in table.rows] == ["CLIP, pretrained", "e2", *between]
    for column in range(1, 4):
        assert len({row[column].text for row in table.rows}) == 1  # between a model and itself is itself
    assert {record.seed for record in records if record.run == "abc"} == {3}
    with pytest.raises(E2FashionError, match=r"needs a set that no run was trained on: .* --data fashion_mnist=<"):
        forgetting.view(material)


def test_the_model_before_reads_the_texts_of_the_runs(material: Material, synth_catalogue: Catalogue) -> None:
    folder = material.folders["e2"][0]
    other = "text.template='{description}'"
    settings = [setting for setting in SETTINGS if not setting.startswith("text.template")]
    model = build_tiny_encoder(synth_catalogue, [*settings, other])
    before = material.output / "before"
    model.save_pretrained(before)
    save_config(load_config(RunConfig, None, [*SETTINGS, f"model.checkpoint={before}"]), folder.config)
    seen: dict[str, str] = {}
    side_evaluations.before_and_after(
        material, lambda encoder, context, mixed: seen.update({context.model: encoder.template.template}) or []
    )
    assert set(seen) >= {"CLIP, pretrained", "e2"}
    assert set(seen.values()) == {"{brand} . {description}"}


def test_rows_with_different_texts_are_refused(material: Material, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    config = load_config(RunConfig, material.folders["e2"][0].config)
    save_config(replace(config, text=replace(config.text, template="{description}")), other.config)
    with pytest.raises(E2FashionError, match=r"different texts, \['\{brand\} . \{description\}', '\{description\}'\]"):
        side_evaluations.side_evaluations(Material(**{**vars(material), "folders": {**material.folders, "b": [other]}}))


def test_an_unseen_set_may_lack_the_tags_that_texts_state(material: Material, tmp_path: Path) -> None:
    for name in ("bag", "boot"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(20):
            colour = (6 * number, 100, 200 * (name == "bag"))
            Image.new("RGB", (32, 32), colour).save(tmp_path / "classes" / name / f"{number}.png")
    labelled = prepare_catalogue(LabelledSource(str(tmp_path / "classes")), tmp_path / "labelled", progress=False)
    records = forgetting.forgetting_records(material, {"fashion_mnist": labelled})
    assert {record.extra["entity"] for record in records if record.metric == "accuracy"} == {"label"}


def test_a_catalogue_without_labels_is_refused(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_evaluations, "LABELS", ("article_type",))
    with pytest.raises(E2FashionError, match="has none of the tag columns article_type"):
        side_evaluations.side_evaluations(material)


def test_rows_that_start_from_different_models_are_refused(material: Material, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    save_config(load_config(RunConfig, None, SETTINGS), other.config)
    with pytest.raises(E2FashionError, match="the rows start from different models"):
        side_evaluations.side_evaluations(Material(**{**vars(material), "folders": {**material.folders, "b": [other]}}))
