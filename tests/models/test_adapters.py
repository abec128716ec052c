from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from e2fashion.models import E2Model
from e2fashion.models.adapters import OpenAIStyleEncoder, load
from e2fashion.types import E2FashionError


def save_processor(folder: Path) -> CLIPProcessor:
    """A processor whose tokenizer knows single letters and whose ids fit the tiny text tower."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["!", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    vocabulary |= {"<|startoftext|>": 98, "<|endoftext|>": 99}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = CLIPProcessor(image_processor=images, tokenizer=tokenizer)
    processor.save_pretrained(folder)
    return processor


def test_encoders_give_unnormalised_tensors(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    encoder = OpenAIStyleEncoder(e2)
    image, text = encoder.encode_image(pixels), encoder.encode_text(texts["input_ids"])
    torch.testing.assert_close(image, e2.get_image_features(pixels).pooler_output)
    torch.testing.assert_close(text, e2.get_text_features(**texts).pooler_output, atol=1e-5, rtol=1e-5)
    assert encoder.encode_regions(pixels).shape == (4, 3, 24)


def test_forward_gives_clips_logits(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    per_image, per_text = OpenAIStyleEncoder(e2)(pixels, texts["input_ids"])
    expected = e2(pixel_values=pixels, **texts)
    torch.testing.assert_close(per_image, expected.logits_per_image, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(per_text, expected.logits_per_text, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["e2", "plain_clip"])
def test_load_prepares_pictures_and_texts(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model: CLIPModel = request.getfixturevalue(kind)
    model.save_pretrained(tmp_path)
    processor = save_processor(tmp_path)
    encoder, preprocess, tokenize = load(tmp_path)
    picture = Image.new("CMYK", (50, 40), (10, 200, 30, 0))
    pixels, ids = preprocess(picture)[None], tokenize(["a red bag", "x" * 100])
    expected = processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, expected)
    assert ids.shape == (2, encoder.context_length)
    assert ids[1, -1] == 99
    assert encoder.encode_image(pixels).shape == encoder.encode_text(ids)[:1].shape == (1, 24)
    assert not encoder.training


def test_auto_processor_finds_clips(e2: E2Model, tmp_path: Path) -> None:
    e2.save_pretrained(tmp_path)
    save_processor(tmp_path)
    for processor in (AutoProcessor.from_pretrained(tmp_path), CLIPProcessor.from_pretrained(tmp_path)):
        assert type(processor) is CLIPProcessor
        encoded = processor(text=["a bag"], images=Image.new("RGB", (32, 32)), return_tensors="pt")
        assert e2(**encoded).logits_per_image.shape == (1, 1)


def test_a_missing_folder_is_refused() -> None:
    with pytest.raises(E2FashionError, match=r"'\./nowhere' is not a folder"):
        load("./nowhere")
