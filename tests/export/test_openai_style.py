from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import e2fashion
from e2fashion.encoder import Encoder
from e2fashion.types import E2FashionError

LONG = "a long text " * 40


def test_what_openais_users_write_equals_the_encoder(folder: Path, encoder: Encoder) -> None:
    model, preprocess = e2fashion.load(str(folder))
    picture = Image.new("CMYK", (50, 40), (10, 200, 30, 0))
    texts = ["a navy wool coat", "dress"]
    with torch.no_grad():
        image_features = model.encode_image(preprocess(picture).unsqueeze(0))
        text_features = model.encode_text(model.tokenize(texts))
        per_image, per_text = model(preprocess(picture).unsqueeze(0), model.tokenize(texts))
    torch.testing.assert_close(F.normalize(image_features), encoder.embed_images(picture), atol=1e-5, rtol=0)
    torch.testing.assert_close(F.normalize(text_features), encoder.embed_texts(texts), atol=1e-5, rtol=0)
    assert not torch.allclose(image_features.norm(dim=-1), torch.ones(1))  # not normalised, as in OpenAI's package
    cosines = encoder.embed_images(picture) @ encoder.embed_texts(texts).T
    torch.testing.assert_close(per_image, model.logit_scale.exp() * cosines, atol=1e-4, rtol=0)
    assert torch.equal(per_text, per_image.T)
    assert not model.training
    assert (model.visual.input_resolution, model.visual.output_dim) == (32, encoder.dimension)
    assert model.vocab_size == len(encoder.tokenizer)


def test_tokens_have_openais_layout(folder: Path, encoder: Encoder) -> None:
    model, _ = e2fashion.load(str(folder))
    tokens = model.tokenize("dress")
    assert tokens.dtype == torch.int64
    assert tokens.shape == (1, model.context_length)
    assert tokens[0, 0] == encoder.tokenizer.bos_token_id
    end = int((tokens[0] == encoder.tokenizer.eos_token_id).int().argmax())
    assert not tokens[0, end + 1 :].any()
    with pytest.raises(E2FashionError, match=r"'a long text .* tokens, and the context length is .* truncate=True"):
        model.tokenize([LONG])
    cut = model.tokenize([LONG], truncate=True)
    assert cut[0, -1] == encoder.tokenizer.eos_token_id
    torch.testing.assert_close(F.normalize(model.encode_text(cut)), encoder.embed_texts(LONG), atol=1e-5, rtol=0)


def test_regions_are_those_of_an_e2(folders: dict[str, Path]) -> None:
    pixels = torch.zeros(2, 3, 32, 32)
    model, _ = e2fashion.load(str(folders["e2"]))
    assert model.encode_regions(pixels).shape == (2, 1, model.visual.output_dim)
    with pytest.raises(E2FashionError, match="has no entities, so no regions to encode"):
        e2fashion.load(str(folders["clip"]))[0].encode_regions(pixels)


def test_a_missing_folder_is_refused() -> None:
    with pytest.raises(E2FashionError, match=r"'\./nowhere' is not a folder"):
        e2fashion.load("./nowhere")
