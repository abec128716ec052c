"""Tag prediction: thresholds from val, numbers on test, and the file that keeps them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_encoder import build_tiny_encoder, save_tiny_run

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tables import to_markdown
from e2fashion.tasks.classification.config import TagsFitConfig
from e2fashion.tasks.classification.tables import tag_tables
from e2fashion.tasks.classification.tag_predictor import TagPredictor, load_tag_predictor, save_tag_predictor
from e2fashion.tasks.classification.tags import fit_predictor, summarize_answers
from e2fashion.types import E2FashionError, ResultRecord

CONFIG = TagsFitConfig(columns=["brand"], resamples=20, accuracy=0.0)
ON = {"catalogue": "drawn", "data_fingerprint": "f", "split": "val"}


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture(scope="module")
def fitted(encoder: Encoder, synth_catalogue: Catalogue) -> tuple[TagPredictor, list[ResultRecord]]:
    # The share of right answers that an encoder of random weights reaches on a dozen products.
    config = replace(CONFIG, columns=["brand", "season"], split="train")
    return fit_predictor(encoder, synth_catalogue, config, progress=False)


def test_entities_are_read_by_their_region_and_other_columns_by_the_image(
    fitted: tuple[TagPredictor, list[ResultRecord]], synth_catalogue: Catalogue
) -> None:
    predictor, records = fitted
    assert [(own.entity, own.features) for own in predictor.entities] == [("brand", "region"), ("season", "global")]
    train = {sample.tags["brand"] for sample in synth_catalogue.samples("train")} - {None}
    assert set(predictor.entities[0].values) == train
    assert {(r.task, r.split, r.extra["features"]) for r in records} == {
        ("tags", "train", "region"),
        ("tags", "train", "global"),
    }


def test_val_chooses_the_region_s_share_before_the_threshold(
    encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    config = replace(CONFIG, features="both")
    predictor, records = fit_predictor(encoder, synth_catalogue, config, tmp_path, progress=False)
    (brand,) = predictor.entities
    extra = records[0].extra
    assert (brand.region_weight, "val") == (extra["region_weight"], extra["weight_chosen_on"])
    others = [
        fit_predictor(encoder, synth_catalogue, replace(config, region_weight=step / 10), tmp_path, progress=False)[1][
            0
        ]
        for step in range(11)
    ]
    assert extra["val_accuracy"] == max(other.extra["val_accuracy"] for other in others)
    assert {other.extra["weight_chosen_on"] for other in others} == {"given"}
    save_tag_predictor(predictor, encoder, tmp_path / "tags.json", ON)
    assert tuple(load_tag_predictor(encoder, tmp_path / "tags.json").entities) == tuple(predictor.entities)
    assert f"both (region {brand.region_weight:g})" in to_markdown(tag_tables(records)[0])


def test_few_products_of_val_allow_no_threshold(
    fitted: tuple[TagPredictor, list[ResultRecord]], synth_catalogue: Catalogue
) -> None:
    assert synth_catalogue.manifest.splits["val"]["products"] < 20
    predictor, records = fitted
    assert [own.threshold for own in predictor.entities] == [None, None]
    assert {r.metric: r.value for r in records if r.extra["entity"] == "brand"}["coverage"] == 0
    assert not any(r.metric == "answered_accuracy" for r in records)
    assert "| n/a |" in to_markdown(tag_tables(records)[0])


def test_answers_are_counted() -> None:
    answered, right = torch.tensor([1, 1, 0, 0]).bool(), torch.tensor([1, 0, 1, 1]).bool()
    result = summarize_answers(answered, right, resamples=50)
    assert {name: value for name, (value, _, _) in result.items()} == {
        "coverage": 50.0,
        "answered_accuracy": 50.0,
        "accuracy": 75.0,
    }
    assert all(low <= value <= high for value, low, high in result.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": ["colour"]}, "no tag column 'colour'"),
        ({"split": "val"}, "split is 'val', on which the thresholds are chosen"),
        ({"features": "area"}, "features is 'area'"),
    ],
)
def test_what_cannot_be_fitted(
    encoder: Encoder, synth_catalogue: Catalogue, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(E2FashionError, match=message):
        fit_predictor(encoder, synth_catalogue, replace(CONFIG, **changes))


def test_a_predictor_comes_back_as_it_was(
    fitted: tuple[TagPredictor, list[ResultRecord]], encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    save_tiny_run(synth_catalogue, tmp_path / "run")
    save_tag_predictor(fitted[0], encoder, tmp_path / "tags.json", ON)
    result = load_tag_predictor(encoder, tmp_path / "tags.json")
    assert tuple(result.entities) == tuple(fitted[0].entities)
    assert result.scale == fitted[0].scale
    always = load_tag_predictor(encoder, tmp_path / "tags.json", threshold=0.0)
    assert {own.threshold for own in always.entities} == {0.0}


def test_files_that_cannot_be_used(
    fitted: tuple[TagPredictor, list[ResultRecord]], encoder: Encoder, tmp_path: Path
) -> None:
    file = tmp_path / "tags.json"
    with pytest.raises(E2FashionError, match=r"There is no .*tags.json: thresholds are chosen on val"):
        load_tag_predictor(encoder, file)
    with pytest.raises(E2FashionError, match="tags of the loaded model 'tiny': name their file"):
        load_tag_predictor(encoder)
    save_tag_predictor(fitted[0], encoder, file, ON)
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"scale": 99.0}), encoding="utf-8")
    with pytest.raises(E2FashionError, match="was edited: its content does not match its checksum"):
        load_tag_predictor(encoder, file)
    del content["checksum"]  # as an earlier version wrote it
    for changed, message in (
        (content | {"model_fingerprint": "other", "model": "old"}, "belongs to the model 'old'"),
        (content | {"format": 9}, "has the format 9, this version reads 1"),
        ({name: value for name, value in content.items() if name != "scale"}, "lacks 'scale'"),
        (content | {"entities": [{"entity": "brand"}]}, r"is damaged \(entities\[0\] lacks 'values'\)"),
    ):
        file.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(E2FashionError, match=message):
            load_tag_predictor(encoder, file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(E2FashionError, match="is damaged"):
        load_tag_predictor(encoder, file)
