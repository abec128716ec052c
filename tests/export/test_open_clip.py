"""What users of open_clip write, with our models."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import e2fashion
from e2fashion.encoder import Encoder
from e2fashion.types import E2FashionError


def test_what_open_clips_users_write_equals_the_encoder(folder: Path, encoder: Encoder) -> None:
    model, _, preprocess = e2fashion.create_model_and_transforms(str(folder))
    tokenizer = e2fashion.get_tokenizer(model)
    image = Image.new("CMYK", (50, 40), (10, 200, 30, 0))
    texts = ["a navy wool coat", "a long text " * 40]
    with torch.no_grad():
        pixels, tokens = preprocess(image).unsqueeze(0), tokenizer(texts)
        image_features, text_features, scale = model(pixels, tokens)
        plain = model.encode_image(pixels)
        assert torch.equal(model.encode_text(tokens, normalize=True), text_features)
    assert tokens.shape == (2, model.context_length)
    torch.testing.assert_close(image_features, encoder.embed_images(image), atol=1e-5, rtol=0)
    torch.testing.assert_close(text_features, encoder.embed_texts(texts), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain / plain.norm(), image_features, atol=1e-6, rtol=0)
    assert scale == model.logit_scale.exp()
    assert torch.equal(e2fashion.get_tokenizer(str(folder))(texts), tokens)
    assert tokenizer("dress", 5).shape == (1, 5)


def test_training_sees_random_crops_of_the_generator(folder: Path) -> None:
    _, train, validate = e2fashion.create_model_and_transforms(str(folder), crop_scale=0.3, flip=True)
    pixels = torch.randint(256, (3, 60, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first, second = train(pixels), train(pixels)
    torch.manual_seed(1)
    assert torch.equal(train(pixels), first)
    assert first.shape == second.shape == validate(pixels).shape == (3, 32, 32)
    assert not torch.equal(first, second)


def test_precision_and_what_is_refused(folder: Path) -> None:
    model, _, preprocess = e2fashion.create_model_and_transforms(str(folder), precision="bf16")
    assert model.dtype == torch.bfloat16
    assert model.encode_image(preprocess(Image.new("RGB", (9, 9)))[None]).dtype == torch.bfloat16
    with pytest.raises(E2FashionError, match="jit=True is not supported"):
        e2fashion.create_model_and_transforms(str(folder), jit=True)
