"""E2 on SigLIP: SigLIP's features without entities, regions on its patches with them, and what does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_random_siglip
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, GemmaTokenizer, Siglip2Config, SiglipModel

from e2fashion.data.transforms import ImageTransform
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.models import E2Model, E2VisionModelWithProjection, SiglipE2Model
from e2fashion.models.chunks import embed_in_chunks
from e2fashion.models.tokenizer import load_tokenizer
from e2fashion.types import E2FashionError

TEXTS = ["a red dress", "a navy wool coat with two large buttons", "coat"]
REGIONS: dict[str, Any] = {"entities": {"brand": 2, "season": 1}, "fusion_layers": [1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_siglip(tmp_path_factory.mktemp("siglip") / "checkpoint", TEXTS)


@pytest.fixture(scope="module")
def siglip(folder: Path) -> SiglipModel:
    return SiglipModel.from_pretrained(folder).eval()


@pytest.fixture
def padded(folder: Path) -> Tensor:
    """The texts as SigLIP was trained on them (3, 64)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(TEXTS, padding="max_length", max_length=64, return_tensors="pt")["input_ids"]


def close(one: Tensor | None, other: Tensor | None) -> None:
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_without_entities_it_is_siglip(
    folder: Path, siglip: SiglipModel, pixels: Tensor, padded: Tensor, attention: str
) -> None:
    model = E2Model.from_clip(folder)
    model.set_attn_implementation(attention)
    assert type(model) is SiglipE2Model
    assert model.state_dict().keys() == siglip.state_dict().keys()
    assert all(torch.equal(value, siglip.state_dict()[key]) for key, value in model.state_dict().items())
    images = pixels[:3]
    expected = siglip(padded, images, return_loss=True)
    found = model(padded, images, return_loss=True)
    for name in ("image_embeds", "text_embeds", "logits_per_image", "loss"):
        close(getattr(found, name), getattr(expected, name))
    close(model.get_image_features(images).pooler_output, siglip.get_image_features(images).pooler_output)
    larger = torch.nn.functional.interpolate(images, size=48)
    theirs = siglip.get_image_features(larger, interpolate_pos_encoding=True).pooler_output
    close(model.train().get_image_features(larger).pooler_output, theirs)


def test_texts_are_read_with_their_padding(folder: Path, siglip: SiglipModel, padded: Tensor) -> None:
    model = E2Model.from_clip(folder)
    expected = siglip.get_text_features(padded).pooler_output
    mask = (padded != 0).long()
    length = int(mask.sum(1).max())
    close(model.get_text_features(padded[:, :length]).pooler_output, expected)
    other = torch.where(mask == 0, 1, padded)  # as a batch padded with another token
    close(model.get_text_features(other[:, :length], mask[:, :length]).pooler_output, expected)
    assert model.distinct_tags(padded[:0, :1], mask[:0, :1]).shape == (0, 16)
    with pytest.raises(E2FashionError, match="texts of 65 tokens for a text tower of 64: truncate them"):
        model.get_text_features(padded[:, :1].expand(-1, 65))


def test_texts_are_padded_at_their_end(folder: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(folder, padding_side="left").save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "left"
    assert load_tokenizer(tmp_path).padding_side == "right"


def test_texts_of_siglip_2_are_lower_cased(tmp_path: Path) -> None:
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"▁abAB"]
    made = GemmaTokenizer(
        {word: number for number, word in enumerate(words)}, [], add_bos_token=False, add_eos_token=True
    )
    made.save_pretrained(tmp_path / "published")
    tokenizer = load_tokenizer(tmp_path / "published")
    tokenizer.save_pretrained(tmp_path / "ours")
    assert made.tokenize("A b") == ["A", "▁", "b"]
    for read in (tokenizer, load_tokenizer(tmp_path / "ours")):
        assert read.convert_ids_to_tokens(read("A b")["input_ids"]) == ["a", "▁", "b", "<eos>"]


@pytest.mark.parametrize("form", ["$A", "<bos> $A <eos>"])
def test_texts_without_an_end_or_with_a_start_are_refused(folder: Path, tmp_path: Path, form: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    tokenizer = AutoTokenizer.from_pretrained(folder, bos_token="<unk>")
    special = [("<eos>", 1), ("<bos>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=form, special_tokens=special)
    tokenizer.save_pretrained(tmp_path / "copy")
    with pytest.raises(E2FashionError, match=r"makes of 'a b' the ids \[.*\], where a SigLIP reads no start token"):
        load_encoder(str(tmp_path / "copy"))


def test_regions_read_patches_and_leave_the_pooling_to_siglip(
    folder: Path, siglip: SiglipModel, pixels: Tensor, tmp_path: Path
) -> None:
    with torch.no_grad():
        model = E2Model.from_clip(folder, **REGIONS, token_gate=-30.0, token_attention="own", value_layer=0)
        output = model.get_image_features(pixels, output_selection_maps=True)
        assert output.region_features.shape == (4, 2, 16)
        assert output.selection_maps.shape == (4, 1, 3, 16)
        # Patches that do not attend to the tokens, which are not pooled, have SigLIP's feature.
        close(output.pooler_output, siglip.get_image_features(pixels).pooler_output)
        close(model.get_region_features(pixels), output.region_features)
        seen = E2Model.from_clip(folder, **REGIONS, null_patch=True).get_image_features(pixels).pooler_output
        assert not torch.allclose(seen, output.pooler_output, atol=1e-3)

        model.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path)
        assert type(again) is SiglipE2Model
        assert again.config.vision_config.drop_patches is False
        assert torch.equal(again.get_region_features(pixels), model.get_region_features(pixels))


def test_every_new_parameter_gets_a_gradient(folder: Path, pixels: Tensor, padded: Tensor) -> None:
    torch.manual_seed(0)
    model = E2Model.from_clip(folder, **REGIONS).train()
    output = model(padded, pixels[:3], return_loss=True)
    (output.loss + output.region_embeds[..., 0].sum()).backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    # A key's bias shifts all scores alike, and a softmax ignores it.
    assert [name for name in without if not name.endswith("k_proj.bias")] == []


def test_chunks_have_the_gradients_of_the_batch(folder: Path, pixels: Tensor, padded: Tensor) -> None:
    found = []
    for chunk_size in (None, 2):
        model = E2Model.from_clip(folder, **REGIONS).train()
        model.load_state_dict({**model.state_dict(), **(found[0][0] if found else {})})
        model.seed_selection_noise(3)
        chunks = None if chunk_size is None else embed_in_chunks(model, chunk_size, padded, pixels[:3])
        output = model(padded, pixels[:3]) if chunks is None else chunks
        (output.logits_per_image.square().sum() + output.region_embeds[..., 0].sum()).backward()
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        found.append((model.state_dict(), gradients))
    assert found[0][1].keys() == found[1][1].keys()
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value, atol=1e-4, rtol=1e-4)


def test_the_encoder_is_the_checkpoint(folder: Path, siglip: SiglipModel, padded: Tensor, tmp_path: Path) -> None:
    encoder = load_encoder(str(folder))
    half = (0.5, 0.5, 0.5)
    assert encoder.transform == ImageTransform(32, "squeeze", half, half)
    assert (encoder.backbone, encoder.dimension, encoder.context_length) == ("siglip", 16, 64)
    with torch.no_grad():
        close(encoder.embed_texts(TEXTS), torch.nn.functional.normalize(siglip.get_text_features(padded).pooler_output))
    bilinear = replace(encoder, transform=replace(encoder.transform, resample="bilinear"))
    assert bilinear.fingerprint != encoder.fingerprint
    bilinear.save_pretrained(tmp_path / "bilinear")
    assert load_encoder(str(tmp_path / "bilinear")).transform.resample == "bilinear"
    encoder.save_pretrained(tmp_path)
    again = Encoder.from_pretrained(str(tmp_path))
    assert again.transform == encoder.transform
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(again.embed_texts(TEXTS), encoder.embed_texts(TEXTS))
    assert "plain SigLIP" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "tokens"}, "for FilipModel and SiglipE2Model at once"),
        ({"text_entities": ["brand"]}, "for EiClipModel and SiglipE2Model at once"),
        ({"projection_init": "random"}, "projection_init is random, but a SigLIP has no image projection"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        E2Model.from_clip(folder, **options)


def test_a_naflex_checkpoint_is_refused(tmp_path: Path) -> None:
    Siglip2Config().save_pretrained(tmp_path)
    for load in (E2Model.from_clip, load_encoder):
        with pytest.raises(E2FashionError, match=r"'siglip2'; .*NaFlex.* not supported: give a SigLIP 2 of a fixed"):
            load(str(tmp_path))


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_of_sentencepiece_names_its_extra(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    settings = tmp_path / "copy" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "tokenizer_class": "SiglipTokenizer"}))
    with pytest.raises(E2FashionError, match=r"needs sentencepiece. Install it: pip install 'e2fashion\[siglip\]'"):
        load_encoder(str(tmp_path / "copy"))


def test_the_image_half_of_a_clip_does_not_take_siglips(folder: Path, tmp_path: Path) -> None:
    E2Model.from_clip(folder, **REGIONS).save_pretrained(tmp_path)
    with pytest.raises(
        E2FashionError, match=r"weights that are not those of its architecture: missing .*class_embedding"
    ):
        E2VisionModelWithProjection.from_pretrained(tmp_path)
