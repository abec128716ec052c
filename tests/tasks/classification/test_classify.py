"""Zero-shot classification of a split: what is counted, the share of the region, and against what it is checked."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_encoder import build_tiny_encoder
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.embedding import EmbeddedSplit
from e2fashion.encoder import Encoder
from e2fashion.published import PublishedRow
from e2fashion.records import RecordContext, RunIdentity, latest_records
from e2fashion.tables import to_markdown
from e2fashion.tasks.classification.classifier import LabelEmbeds
from e2fashion.tasks.classification.classify import (
    REGION_WEIGHTS,
    Classified,
    ClassifiedSplit,
    choose_region_weight,
    classify_split,
    column_truth,
    measure_zero_shot,
    split_features,
)
from e2fashion.tasks.classification.config import ClassifyConfig
from e2fashion.tasks.classification.tables import (
    classification_tables,
    confusion,
    most_frequent_first,
    named_features,
    write_classification,
)
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.types import E2FashionError, ResultRecord

CONTEXT = RecordContext(run="run", model="tiny", split="val")


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture(scope="module")
def embedded(encoder: Encoder, synth_catalogue: Catalogue) -> EmbeddedSplit:
    return embed_catalogue(encoder, synth_catalogue, "val", progress=False)


def test_accuracy_is_what_a_slow_loop_counts(
    encoder: Encoder, synth_catalogue: Catalogue, embedded: EmbeddedSplit
) -> None:
    records = measure_zero_shot(encoder, synth_catalogue, embedded, CONTEXT, "sub_category", ["a {}"], resamples=20)
    result = {record.metric: record for record in records}
    rows = synth_catalogue.split("val")
    tag_of = {row["product_id"]: row["sub_category"] for row in rows.select_columns(["product_id", "sub_category"])}
    labels = sorted({tag for tag in tag_of.values() if tag})
    right = total = 0
    for place, product_id in enumerate(embedded.product_ids):
        if tag_of[product_id] is None:
            continue
        image = embedded.image_embeds[embedded.first_images[place]]
        scores = [float(image @ encoder.embed_texts(f"a {label}")[0]) for label in labels]
        total += 1
        right += labels[scores.index(max(scores))] == tag_of[product_id]
    assert result["accuracy"].value == pytest.approx(100 * right / total)
    assert (result["accuracy"].queries, result["accuracy"].candidates) == (total, len(labels))
    assert result["accuracy"].extra["left_out"] == len(embedded.product_ids) - total
    assert set(result) == {"accuracy", "macro_f1", "weighted_f1"}


def test_a_column_that_the_catalogue_lacks(
    encoder: Encoder, synth_catalogue: Catalogue, embedded: EmbeddedSplit
) -> None:
    with pytest.raises(E2FashionError, match="no tag column 'colour'; it has: "):
        measure_zero_shot(encoder, synth_catalogue, embedded, CONTEXT, "colour")


@pytest.fixture(scope="module")
def classified(encoder: Encoder, synth_catalogue: Catalogue) -> list[Classified]:
    config = ClassifyConfig(column="brand", templates=["a {}"], features=["global", "region", "both"], resamples=20)
    return classify_split(encoder, synth_catalogue, config, run=RunIdentity("abc", "commit", 3), progress=False)


def test_every_kind_of_features_has_records(classified: list[Classified], encoder: Encoder) -> None:
    assert [own.features for own in classified] == ["global", "region", "both"]
    for own in classified:
        assert {record.metric for record in own.records} == {"accuracy", "macro_f1", "weighted_f1"}
        hits = 100 * float((own.predicted == own.truth.labels).double().mean())
        assert next(r.value for r in own.records if r.metric == "accuracy") == pytest.approx(hits)
        for record in own.records:
            assert (record.task, record.run, record.seed, record.split) == ("zero_shot", "abc", 3, "test")
            assert (record.extra["features"], record.extra["entity"]) == (own.features, "brand")
    for own in classified[:2]:
        assert "region_weight" not in own.records[0].extra
    assert [own.records[0].extra.get("templates") for own in classified] == [["a {}"], None, ["a {}"]]
    assert [own.records[0].extra.get("region_templates") for own in classified] == [None, ["{}"], ["{}"]]
    together = [record for own in classified for record in own.records]
    assert latest_records(together) == together


def test_the_region_s_share_is_the_best_on_val(
    classified: list[Classified], encoder: Encoder, synth_catalogue: Catalogue
) -> None:
    truth = column_truth(synth_catalogue, "val", "brand")
    features = split_features(encoder, synth_catalogue, "val", progress=False)
    tags, texts = encoder.embed_tags(truth.names), encoder.embed_texts([f"a {name}" for name in truth.names])
    whole, region = features.image[truth.rows] @ texts.T, features.regions["brand"][truth.rows] @ tags.T

    def right(weight: float) -> int:
        return int((((1 - weight) * whole + weight * region).argmax(-1) == truth.labels).sum())

    extra = classified[2].records[0].extra
    assert extra["weight_chosen_on"] == "val"
    assert right(extra["region_weight"]) == max(right(step / 10) for step in range(11))
    table = to_markdown(classification_tables([record for own in classified for record in own.records])[0])
    assert f"| tiny | both (region {extra['region_weight']:g}) |" in table
    assert "the region's share in the mean of the two cosines, chosen on val" in table


def test_a_share_that_is_given_is_taken(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    config = ClassifyConfig(column="brand", features=["both", "region"], region_weight=1.0, split="val", resamples=0)
    both, region = classify_split(encoder, synth_catalogue, config, progress=False)
    assert torch.equal(both.predicted, region.predicted)
    assert both.records[0].extra["weight_chosen_on"] == "given"


def test_regions_are_those_of_the_first_pictures(
    classified: list[Classified], encoder: Encoder, synth_catalogue: Catalogue
) -> None:
    truth = classified[1].truth
    tags = encoder.embed_tags(list(truth.names))
    first = {}
    for sample in synth_catalogue.samples("test"):
        first.setdefault(sample.product_id, sample)
    for place in range(3):
        sample = first[truth.product_ids[place]]
        assert sample.tags["brand"] == truth.names[int(truth.labels[place])]
        region = encoder.embed_regions(Image.open(io.BytesIO(sample.image)))[0, 0]
        assert int((tags @ region).argmax()) == int(classified[1].predicted[place])


def test_features_are_kept(encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path) -> None:
    config = ClassifyConfig(column="brand", resamples=0)
    once = classify_split(encoder, synth_catalogue, config, tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 1
    again = classify_split(encoder, synth_catalogue, config, tmp_path, progress=False)
    assert torch.equal(once[0].score, again[0].score)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": "colour"}, "no tag column 'colour'"),
        ({"features": []}, "features is empty"),
        ({"column": "season", "features": ["region"]}, "'tiny' has no region features of 'season'"),
        ({"templates": ["photo"]}, "the template 'photo' has no slot"),
        ({"wording": {"Nobody": "x"}}, "wording names 'Nobody', which is not a value of 'brand'"),
        ({"features": ["both"], "entity": "season"}, "'tiny' has no region features of 'season'"),
        ({"split": "holdout"}, "has no split 'holdout'"),
        ({"features": ["both"], "split": "val"}, "split is 'val', on which the region's weight in"),
        ({"features": ["both"], "region_weight": 2}, "region_weight is 2; give the region's share"),
    ],
)
def test_what_cannot_be_classified_is_said_first(
    encoder: Encoder, synth_catalogue: Catalogue, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(E2FashionError, match=message):
        classify_split(encoder, synth_catalogue, ClassifyConfig(**{"column": "brand"} | changes))


def test_the_page_shows_figures_templates_and_published_values(classified: list[Classified], tmp_path: Path) -> None:
    row = PublishedRow(("zero_shot",), "CLIP", "x", "zero_shot", "n/a", "s", {"F1 X": 0.66}, citation="a paper")
    result = ClassifiedSplit("tiny", "garments", "brand", "test", tmp_path / "results.jsonl", classified)
    page = write_classification(result, [row])
    text = page.read_text(encoding="utf-8")
    assert "| CLIP (x, published) | global | n/a | n/a | n/a | 66.0 |" in text
    assert "A: `a {}` / B: of the region `{}` / C: `a {}`; of the region `{}`" in text
    assert "weighted macro-F1 as a paper states it" in text
    for kind in ("global", "region", "both"):
        assert f"(confusion_{kind}.png)" in text
        assert (page.parent / f"confusion_{kind}.png").stat().st_size > 5_000
    rows = (result.folder / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 3 * len(classified[0].truth.labels)


def test_confusion_counts_and_sums_what_is_rare() -> None:
    truth, predicted = torch.tensor([0, 1, 1, 1, 2, 2]), torch.tensor([0, 1, 2, 1, 2, 0])
    counts = confusion(truth, predicted, 3)
    assert counts.tolist() == [[1, 0, 0], [0, 2, 1], [1, 0, 1]]
    ordered, names = most_frequent_first(counts, ["a", "b", "c"])
    assert (names, ordered.tolist()) == (["b", "c", "a"], [[2, 1, 0], [0, 1, 1], [0, 0, 1]])
    summed, names = most_frequent_first(counts, ["a", "b", "c"], shown=2)
    assert (names, summed.tolist()) == (["b", "(others, 2 classes)"], [[2, 1], [0, 3]])


def test_another_column_by_an_entity_s_region(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    config = ClassifyConfig(column="season", features=["region"], entity="brand", resamples=0)
    (result,) = classify_split(encoder, synth_catalogue, config, progress=False)
    assert {record.extra["region_of"] for record in result.records} == {"brand"}


def test_labels_of_unknown_words_are_counted(
    encoder: Encoder, synth_catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    names = column_truth(synth_catalogue, "test", "brand").names[:3]
    wording = {name: f"qqq{place}" for place, name in enumerate(names)}
    config = ClassifyConfig(column="brand", wording=wording, resamples=0)
    (result,) = classify_split(encoder, synth_catalogue, config, progress=False)
    assert {record.extra["indistinct"] for record in result.records} == {2}
    assert "2 of" in caplog.text
    assert "read as another one to tiny" in caplog.text


LABELS = torch.tensor([0, 1, 0, 1])
RIGHT = torch.eye(2)[LABELS]
WRONG = 1 - RIGHT
NAMES = LabelEmbeds(torch.eye(2), torch.eye(2))


@pytest.mark.parametrize(
    ("images", "regions", "expected"),
    [
        (RIGHT, RIGHT, 0.5),  # all shares are equal
        (WRONG, RIGHT, 0.6),  # the first at which regions decide
        (RIGHT, WRONG, 0.4),
        (RIGHT, 0.1 * WRONG, 0.5),  # cosines of different sizes
        (0.1 * WRONG, RIGHT, 0.5),
        (10 * WRONG, RIGHT, 1.0),
    ],
)
def test_most_labels_are_right(images: Tensor, regions: Tensor, expected: float) -> None:
    assert choose_region_weight(NAMES, images, regions, LABELS) == expected
    assert expected in REGION_WEIGHTS


def test_a_true_value_that_is_not_among_the_labels_counts_for_no_share() -> None:
    assert choose_region_weight(NAMES, RIGHT, WRONG, torch.full((4,), -1)) == 0.5


def test_tables_name_the_shares_of_all_seeds() -> None:
    def record(seed: int, **extra: object) -> ResultRecord:
        return ResultRecord("run", "m", "zero_shot", "accuracy", 1.0, seed=seed, extra={"features": "both", **extra})

    seeds = [record(0, region_weight=0.6), record(1, region_weight=0.4), record(2, region_weight=0.6)]
    assert named_features(seeds) == "both (region 0.4, 0.6)"
    assert named_features([record(0)]) == "both"  # of a version that took the plain mean
