"""Zero-shot classifiers: labels and templates, the model's kinds of features, and tags that may be refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_encoder import SETTINGS, build_tiny_encoder
from torch import Tensor

import e2fashion
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.classification.classifier import ZeroShotClassifier, class_embeddings, fill_templates, label_scores
from e2fashion.tasks.classification.tag_predictor import (
    TagPredictor,
    TagValues,
    answers,
    choose_threshold,
    load_tag_predictor,
    save_tag_predictor,
)
from e2fashion.types import E2FashionError

LABELS = ["navy coat", "red dress", "brown boots"]
PLAIN = [word for word in SETTINGS if not word.startswith(("model.entities", "model.fusion_layers"))]


@pytest.fixture(scope="module")
def regional(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture(scope="module")
def plain(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue, PLAIN)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (5, 40, 30, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(picture.numpy()) for picture in noise]


def test_the_public_name() -> None:
    assert e2fashion.ZeroShotClassifier is ZeroShotClassifier


def test_scores_are_cosines_to_the_mean_over_templates(regional: Encoder, pictures: list[Image.Image]) -> None:
    templates = ["a photo of a {}", "{}"]
    result = ZeroShotClassifier(regional).classify(pictures, LABELS, templates=templates)
    for row, picture in enumerate(pictures):
        for column, label in enumerate(LABELS):
            texts = regional.embed_texts([template.replace("{}", label) for template in templates])
            mean = texts.mean(0)
            expected = regional.embed_images(picture)[0] @ (mean / mean.norm())
            assert float(result.scores[row, column]) == pytest.approx(float(expected), abs=1e-5)
        assert result.labels[row] == LABELS[int(result.scores[row].argmax())]
    assert result.templates == tuple(templates)


def test_a_region_meets_the_tag_and_both_are_the_mean(regional: Encoder, pictures: list[Image.Image]) -> None:
    classifier = ZeroShotClassifier(regional)
    region = classifier.classify(pictures, LABELS, features="region", entity="brand").scores
    expected = regional.embed_regions(pictures)[:, 0] @ regional.embed_tags(LABELS).T
    torch.testing.assert_close(region, expected)
    whole = classifier.classify(pictures, LABELS).scores
    both = classifier.classify(pictures, LABELS, features="both").scores
    torch.testing.assert_close(both, (whole + region) / 2)
    mostly = classifier.classify(pictures, LABELS, features="both", region_weight=0.8).scores
    torch.testing.assert_close(mostly, 0.2 * whole + 0.8 * region)


@pytest.fixture
def passes(regional: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images every pass of the image tower reads."""
    result: list[int] = []
    forward = regional.model.get_image_features

    def counted(pixel_values: torch.Tensor) -> object:
        result.append(len(pixel_values))
        return forward(pixel_values=pixel_values)

    monkeypatch.setattr(regional.model, "get_image_features", counted)
    return result


def test_both_features_take_one_pass(regional: Encoder, pictures: list[Image.Image], passes: list[int]) -> None:
    ZeroShotClassifier(regional).classify(pictures, LABELS, features="both", batch_size=3)
    assert passes == [3, 2]
    passes.clear()
    whole, region = TagValues("colour", ("red", "navy")), TagValues("brand", tuple(LABELS), "region")
    for entities in ([whole, region], [TagValues("brand", tuple(LABELS), "both")]):
        TagPredictor(regional, entities).predict_tags(pictures, batch_size=3)
    assert passes == [3, 2, 3, 2]


def test_one_pass_gives_what_two_give(regional: Encoder, plain: Encoder, pictures: list[Image.Image]) -> None:
    whole, regions = regional.embed_images_and_regions(pictures, batch_size=3)
    torch.testing.assert_close(whole, regional.embed_images(pictures), rtol=0, atol=1e-6)
    torch.testing.assert_close(regions, regional.embed_regions(pictures), rtol=0, atol=1e-6)
    assert [part.shape for part in regional.embed_images_and_regions([])] == [(0, 16), (0, 1, 16)]
    for embed in (plain.embed_regions, plain.embed_images_and_regions):
        with pytest.raises(E2FashionError, match="'tiny' has no entities and thus no regions"):
            embed(pictures)


def test_words_may_stand_for_names(regional: Encoder, pictures: list[Image.Image]) -> None:
    named = ZeroShotClassifier(regional).classify(pictures, {"T-shirt/top": "red dress", "Coat": "navy coat"})
    plain = ZeroShotClassifier(regional).classify(pictures, ["red dress", "navy coat"])
    assert torch.equal(named.scores, plain.scores)
    assert set(named.labels) <= {"T-shirt/top", "Coat"}


def test_no_pictures_have_no_labels(regional: Encoder) -> None:
    assert ZeroShotClassifier(regional).classify([], LABELS).labels == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": []}, "there are no labels"),
        ({"labels": "red dress"}, "labels is the text 'red dress'; give a list"),
        ({"labels": ["coat", "coat"]}, "the label 'coat' occurs more than once"),
        ({"labels": {"a": "coat", "b": "coat"}}, "the label 'coat' occurs more than once"),
        ({"templates": ["a photo"]}, "the template 'a photo' has no slot"),
        ({"templates": "{}"}, r"templates is the text '\{\}'; give a list"),
        ({"templates": []}, "there are no templates"),
        ({"features": "both", "entity": "brand", "region_weight": 2}, "region_weight is 2; give the region's"),
        ({"features": "regional"}, "features is 'regional'; choose from global, region, both"),
        ({"features": "region", "entity": "colour"}, "no entity 'colour'; name one of its entities: brand"),
    ],
)
def test_what_cannot_be_classified(
    regional: Encoder, pictures: list[Image.Image], options: dict[str, object], message: str
) -> None:
    with pytest.raises(E2FashionError, match=message):
        ZeroShotClassifier(regional).classify(pictures, **{"labels": LABELS} | options)  # type: ignore[arg-type]


def test_regions_of_an_encoder_without_entities(plain: Encoder, pictures: list[Image.Image]) -> None:
    with pytest.raises(E2FashionError, match="'tiny' has no region features: it was trained without entities"):
        ZeroShotClassifier(plain).classify(pictures, LABELS, features="region")


def test_a_missing_picture_is_named(regional: Encoder, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"nowhere.jpg' cannot be read as an image"):
        ZeroShotClassifier(regional).classify([tmp_path / "nowhere.jpg"], LABELS)


def test_tags_are_the_most_probable_values(regional: Encoder, pictures: list[Image.Image]) -> None:
    brand = TagValues("brand", tuple(LABELS), "region")
    colour = TagValues("colour", ("red", "navy"), threshold=None)
    result = TagPredictor(regional, (brand, colour), scale=20.0).predict_tags(pictures)
    expected = (20.0 * regional.embed_regions(pictures)[:, 0] @ regional.embed_tags(LABELS).T).softmax(-1)
    for row, tags in enumerate(result):
        assert tags["brand"].value == tags["brand"].best == LABELS[int(expected[row].argmax())]
        assert tags["brand"].score == pytest.approx(float(expected[row].max()), abs=1e-5)
        assert (tags["colour"].value, tags["colour"].best in ("red", "navy")) == (None, True)


def test_tags_of_a_sigmoid_have_probabilities_of_their_own(
    regional: Encoder, pictures: list[Image.Image], tmp_path: Path
) -> None:
    predictor = TagPredictor(regional, (TagValues("brand", tuple(LABELS), "region"),), 20.0, -10.0)
    expected = (20.0 * regional.embed_regions(pictures)[:, 0] @ regional.embed_tags(LABELS).T - 10.0).sigmoid()
    found = [row["brand"].score for row in predictor.predict_tags(pictures)]
    assert found == pytest.approx(expected.max(-1).values.tolist(), abs=1e-5)
    save_tag_predictor(predictor, regional, tmp_path / "tags.json", {})
    assert load_tag_predictor(regional, tmp_path / "tags.json").bias == -10.0


def test_a_tag_below_the_threshold_is_not_answered() -> None:
    entity = TagValues("brand", ("a", "b"), threshold=0.7)
    result = answers(entity, torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=torch.float64))
    assert [(tag.value, tag.best) for tag in result] == [("a", "a"), (None, "b")]


def test_tags_by_regions_that_are_not_there(plain: Encoder, pictures: list[Image.Image]) -> None:
    with pytest.raises(E2FashionError, match="has no region features"):
        TagPredictor(plain, (TagValues("brand", ("a",), "region"),)).predict_tags(pictures)


def test_the_threshold_answers_as_much_as_the_accuracy_allows() -> None:
    score = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    right = torch.tensor([True, True, False, True, False])
    assert choose_threshold(score, right, 1.0, fewest=1) == pytest.approx(0.8)
    assert choose_threshold(score, right, 0.75, fewest=1) == pytest.approx(0.6)
    assert choose_threshold(score, right, 0.0, fewest=1) == pytest.approx(0.5)
    assert choose_threshold(score, ~right, 0.9, fewest=1) is None
    assert choose_threshold(score, right, 1.0, fewest=3) is None


def test_equal_scores_are_answered_together() -> None:
    score, right = torch.tensor([0.9, 0.5, 0.5]), torch.tensor([True, True, False])
    assert choose_threshold(score, right, 0.9, fewest=1) == pytest.approx(0.9)


def test_an_accuracy_beyond_one() -> None:
    with pytest.raises(E2FashionError, match="the accuracy to reach is 90; give a share from 0 to 1"):
        choose_threshold(torch.ones(1), torch.ones(1, dtype=torch.bool), 90)


WORDS = {"shirt": [1.0, 0.0, 0.0], "shoe": [0.0, 1.0, 0.0], "photo": [0.0, 0.0, 0.5]}


def embed(texts: Sequence[str]) -> Tensor:
    """The normalized sum of the words' vectors."""
    sums = [torch.tensor([WORDS[word] for word in text.split() if word in WORDS]).sum(0) for text in texts]
    return F.normalize(torch.stack(sums), dim=-1)


def test_the_nearest_label_wins() -> None:
    labels = class_embeddings(embed, ["shirt", "shoe"])
    images = F.normalize(torch.tensor([[0.9, 0.1, 0.3], [0.1, 0.9, 0.0], [0.0, 1.0, 1.0]]), dim=-1)
    assert label_scores(images, labels).argmax(-1).tolist() == [0, 1, 1]
    assert label_scores(images[:0], labels).shape == (0, len(labels))


def test_templates_are_averaged_and_normalised() -> None:
    result = class_embeddings(embed, ["shirt", "shoe"], ["{}", "photo of {}"])
    expected = F.normalize((embed(["shirt"]) + embed(["photo of shirt"])) / 2, dim=-1)
    torch.testing.assert_close(result[:1], expected)
    torch.testing.assert_close(result.norm(dim=-1), torch.ones(2))


def test_the_order_of_the_templates_does_not_matter() -> None:
    one = class_embeddings(embed, ["shirt", "shoe"], ["{}", "photo of {}"])
    torch.testing.assert_close(one, class_embeddings(embed, ["shirt", "shoe"], ["photo of {}", "{}"]))


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], ["{}"], "there are no labels"),
        (["shirt", "shoe", "shirt"], ["{}"], "the label 'shirt' occurs more than once"),
        (["shirt", " "], ["{}"], "a label is empty"),
        (["shirt"], [], "there are no templates"),
        (["shirt"], ["{}", "a photo"], "the template 'a photo' has no slot"),
    ],
)
def test_what_cannot_be_classified_says_why(labels: list[str], templates: list[str], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        fill_templates(labels, templates)
