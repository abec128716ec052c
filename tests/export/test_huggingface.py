"""Transformers' pipeline on our folders."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, CLIPProcessor, pipeline

from e2fashion import E2VisionModelWithProjection
from e2fashion.encoder import Encoder
from e2fashion.export.pipeline import ZeroShotPipeline
from e2fashion.tasks.classification.classifier import class_embeddings, label_scores

LABELS = ["dress", "coat", "red shirt"]


@pytest.mark.parametrize("kind", [None, ZeroShotPipeline])
def test_the_zero_shot_pipeline_equals_our_classification(
    folder: Path, encoder: Encoder, samples: list[Image.Image], kind: type | None
) -> None:
    classify = pipeline("zero-shot-image-classification", model=str(folder), device="cpu", pipeline_class=kind)
    result = classify(samples, candidate_labels=LABELS, hypothesis_template="a photo of {}")
    labels = class_embeddings(encoder.embed_texts, LABELS, ["a photo of {}"])
    images = encoder.embed_images(samples)
    shares = (encoder.model.logit_scale.exp().detach() * images @ labels.T).softmax(-1)
    for answers, share, nearest in zip(result, shares, label_scores(images, labels).argmax(-1), strict=True):
        scores = {answer["label"]: answer["score"] for answer in answers}
        torch.testing.assert_close(torch.tensor([scores[label] for label in LABELS]), share, atol=1e-4, rtol=0)
        assert answers[0]["label"] == LABELS[int(nearest)]


def test_auto_classes_and_the_processor_equal_the_encoder(
    folder: Path, encoder: Encoder, samples: list[Image.Image]
) -> None:
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    assert type(processor) is CLIPProcessor
    with torch.no_grad():
        output = model(**processor(text=["a navy wool coat"], images=samples, return_tensors="pt", padding=True))
    torch.testing.assert_close(output.image_embeds, encoder.embed_images(samples), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.text_embeds, encoder.embed_texts("a navy wool coat"), atol=1e-5, rtol=0)


def test_the_image_tower_alone_equals_the_encoder(
    folders: dict[str, Path], encoder: Encoder, samples: list[Image.Image]
) -> None:
    if not encoder.entities:
        return
    tower = E2VisionModelWithProjection.from_pretrained(folders["e2"]).eval()
    processor = AutoProcessor.from_pretrained(folders["e2"])
    with torch.no_grad():
        features = tower(**processor(images=samples, return_tensors="pt")).image_embeds
    torch.testing.assert_close(
        torch.nn.functional.normalize(features), encoder.embed_images(samples), atol=1e-5, rtol=0
    )
