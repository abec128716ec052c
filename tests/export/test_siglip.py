"""An E2 on SigLIP behind the interfaces of others, and the layouts that cannot hold it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_random_siglip
from torch.nn import functional as F
from transformers import pipeline

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.checkpoints.write import export_checkpoint
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.export.onnx import TextTower, sample_input
from e2fashion.export.open_clip import OpenClipStyleModel, get_tokenizer
from e2fashion.export.openai_clip import OpenAIStyleModel
from e2fashion.export.pipeline import ZeroShotPipeline
from e2fashion.export.write import export_sentence_transformers, sample_images
from e2fashion.models import E2Model
from e2fashion.tasks.localization.attribution import attention_map, attention_rollout
from e2fashion.types import E2FashionError

TEXTS = ["a navy wool coat", "dress", "red cotton shirt"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = save_random_siglip(tmp_path_factory.mktemp("siglip") / "checkpoint", TEXTS)
    model = E2Model.from_clip(folder, entities={"brand": 2}, fusion_layers=[1])
    return replace(load_encoder(str(folder)), model=model.eval(), name="mine")


def test_sentence_transformers_encodes_as_the_encoder(encoder: Encoder, tmp_path: Path) -> None:
    assert export_sentence_transformers(encoder, tmp_path / "st") < 1e-5


def test_an_exported_text_tower_takes_batches_and_lengths_of_any_size(encoder: Encoder) -> None:
    """What an ONNX export starts with; writing the files takes longer than all other tests here."""
    tower = TextTower(encoder).eval()
    _, (ids, mask) = sample_input(encoder)
    shapes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=64)}
    with torch.no_grad():
        exported = torch.export.export(tower, (ids, mask), dynamic_shapes=(shapes, shapes)).module()
        torch.testing.assert_close(exported(ids[:2, :3], mask[:2, :3]), tower(ids[:2, :3], mask[:2, :3]))


def test_token_ids_of_other_interfaces_have_siglips_padding(encoder: Encoder) -> None:
    model = OpenClipStyleModel(encoder)
    shifted = replace(get_tokenizer(model), padding=1)
    with torch.no_grad():
        for tokenize, same in ((get_tokenizer(model), True), (shifted, False)):
            found = F.normalize(model.encode_text(tokenize(TEXTS)), dim=-1)
            assert torch.allclose(found, encoder.embed_texts(TEXTS), atol=1e-6) == same


def test_logits_of_other_interfaces_have_the_bias(encoder: Encoder) -> None:
    pixels, ids = torch.randn(2, 3, 32, 32), OpenAIStyleModel(encoder).tokenize(TEXTS)
    with torch.no_grad():
        expected = encoder.model(ids, pixels).logits_per_image
        torch.testing.assert_close(OpenAIStyleModel(encoder)(pixels, ids)[0], expected)
        images, texts, scale, bias = OpenClipStyleModel(encoder)(pixels, ids)
        torch.testing.assert_close(scale * images @ texts.T + bias, expected)


def test_the_zero_shot_pipeline_gives_each_label_its_own_probability(encoder: Encoder, tmp_path: Path) -> None:
    """The one of Transformers takes a softmax over the labels: an E2 is not of the model type siglip."""
    encoder.save_pretrained(tmp_path)
    images = sample_images(encoder)
    with torch.no_grad():
        logits = encoder.model.logits(encoder.embed_images(images) @ encoder.embed_texts(TEXTS).T)
    for kind, expected in ((ZeroShotPipeline, logits.sigmoid()), (None, logits.softmax(-1))):
        classify = pipeline("zero-shot-image-classification", str(tmp_path), device="cpu", pipeline_class=kind)
        answers = classify(images, candidate_labels=TEXTS, hypothesis_template="{}")
        for answer, scores in zip(answers, expected.tolist(), strict=True):
            assert [item["score"] for item in answer] == sorted((item["score"] for item in answer), reverse=True)
            found = {item["label"]: item["score"] for item in answer}
            assert found == pytest.approx(dict(zip(TEXTS, scores, strict=True)), rel=1e-3)


@pytest.mark.parametrize("target", ["openai", "open_clip", "e2_official"])
def test_layouts_of_clip_cannot_hold_it(encoder: Encoder, tmp_path: Path, target: Any) -> None:
    with pytest.raises(E2FashionError, match=r"'mine' has the towers of a SigLIP, which .* cannot hold: give a CLIP"):
        export_checkpoint(encoder, tmp_path, ConvertConfig(target=target, lossy=True))


def test_there_is_no_attention_of_cls(encoder: Encoder) -> None:
    for method in (attention_map, attention_rollout):
        with pytest.raises(E2FashionError, match=r"a SigLIP has no CLS .*: choose the method occlusion"):
            method(encoder.model, torch.zeros(1, 3, 32, 32))
