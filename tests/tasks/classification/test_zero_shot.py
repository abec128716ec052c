from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.tasks.classification.classifier import class_embeddings, fill_templates, label_scores
from e2fashion.types import E2FashionError

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
