from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import e2fashion
import e2fashion.export.openai_clip as clip
from e2fashion.encoder import Encoder
from e2fashion.types import E2FashionError

LONG = "a long text " * 40


def test_what_openais_users_write_equals_the_encoder(folder: Path, encoder: Encoder) -> None:
    model, preprocess = e2fashion.load(str(folder))
    image = Image.new("CMYK", (50, 40), (10, 200, 30, 0))
    texts = ["a navy wool coat", "dress"]
    with torch.no_grad():
        image_features = model.encode_image(preprocess(image).unsqueeze(0))
        text_features = model.encode_text(model.tokenize(texts))
        per_image, per_text = model(preprocess(image).unsqueeze(0), model.tokenize(texts))
    torch.testing.assert_close(F.normalize(image_features), encoder.embed_images(image), atol=1e-5, rtol=0)
    torch.testing.assert_close(F.normalize(text_features), encoder.embed_texts(texts), atol=1e-5, rtol=0)
    assert not torch.allclose(image_features.norm(dim=-1), torch.ones(1))  # not normalised, as in OpenAI's package
    cosines = encoder.embed_images(image) @ encoder.embed_texts(texts).T
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


def test_the_module_is_used_as_openais_package(folders: dict[str, Path]) -> None:
    model, _ = clip.load(str(folders["e2"]), device="cpu", jit=False, download_root=None)
    texts = ["a navy wool coat", "dress"]
    assert torch.equal(clip.tokenize(texts), model.tokenize(texts))
    assert clip.tokenize(texts, context_length=20).shape == (2, 20)
    assert clip.tokenize([LONG], truncate=True).shape == (1, model.context_length)
    other, _ = clip.load(folders["clip"])
    with pytest.raises(E2FashionError, match=r"2 models with different tokenizers .* call tokenize of the model"):
        clip.tokenize(texts)
    expected = model.tokenize(texts)
    del other
    assert torch.equal(clip.tokenize(texts), expected)
    del model
    with pytest.raises(E2FashionError, match=r"call clip\.load first"):
        clip.tokenize(texts)
    assert "ViT-B/32" in clip.available_models()
    with pytest.raises(E2FashionError, match="jit=True is not supported"):
        clip.load(str(folders["e2"]), jit=True)
    with pytest.raises(E2FashionError, match="is not a folder; give a model's folder or a name on the hub"):
        clip.load("models/nowhere", download_root="cache")


def test_arrays_and_tensors_are_images(folder: Path, encoder: Encoder) -> None:
    _, preprocess = clip.load(folder)
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected = preprocess(Image.fromarray(array))
    assert torch.equal(preprocess(array), expected)
    assert torch.equal(preprocess(tensor), expected)
    assert torch.equal(preprocess(array[:, :, ::-1]), preprocess(Image.fromarray(array[:, :, ::-1].copy())))
    one = encoder.embed_images(Image.fromarray(array))
    for images in (array, tensor, array[None], tensor[None], [array], [tensor]):
        assert torch.equal(encoder.embed_images(images), one)
    for wrong in (array[..., 0], array / 255, tensor.float(), array.transpose(2, 0, 1), np.uint8(3), [array[0]]):
        with pytest.raises(E2FashionError, match=r"is not an image: give a file.*a uint8 array \(height, width, 3\)"):
            encoder.embed_images(wrong)
