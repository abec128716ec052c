"""An encoder as its user meets it: images and texts in, normalized rows out, equal to what evaluation computes."""

import dataclasses
import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from PIL import Image
from tiny_encoder import save_tiny_run
from torch import Tensor
from transformers.utils import logging as transformers_logging

import e2fashion
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.features import extract_features
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.types import E2FashionError


@pytest.fixture(scope="module")
def model_folder(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny E2 with random weights, saved as a run saves its best model."""
    return save_tiny_run(synth_catalogue, tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> Encoder:
    return e2fashion.load_encoder(str(model_folder))


@pytest.fixture
def picture() -> Image.Image:
    pixels = torch.randint(0, 256, (40, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Image.fromarray(pixels.numpy())


def assert_unit(embeds: Tensor) -> None:
    lengths = embeds.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_images_are_embedded_as_evaluation_embeds_them(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    expected = embed_catalogue(encoder, synth_catalogue, "val", views=True, progress=False)
    pictures = [Image.open(io.BytesIO(sample.image)) for sample in synth_catalogue.samples("val")]
    result = encoder.embed_images(pictures, batch_size=7)
    torch.testing.assert_close(result, expected.image_embeds, atol=1e-5, rtol=0)
    assert_unit(result)


def test_texts_are_embedded_as_evaluation_embeds_them(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    expected = embed_catalogue(encoder, synth_catalogue, "val", progress=False)
    texts = {s.product_id: encoder.template.render(s.tags, s.description) for s in synth_catalogue.samples("val")}
    assert max(len(encoder.tokenizer(text)["input_ids"]) for text in texts.values()) > encoder.context_length
    result = encoder.embed_texts([texts[product] for product in expected.product_ids], batch_size=5)
    torch.testing.assert_close(result, expected.text_embeds[expected.first_texts], atol=1e-5, rtol=0)
    assert_unit(result)


def test_regions_are_embedded_as_features_are_extracted(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    expected = extract_features(encoder, synth_catalogue, "val", progress=False)
    first = {sample.product_id: sample for sample in reversed(list(synth_catalogue.samples("val")))}
    pictures = [Image.open(io.BytesIO(first[product].image)) for product in expected.product_ids]
    result = encoder.embed_regions(pictures, batch_size=7)
    assert result.shape == (len(pictures), 1, 16)
    torch.testing.assert_close(result[:, 0], expected.regions["brand"], atol=1e-5, rtol=0)
    assert_unit(result)


def test_an_encoder_is_what_tasks_ask_for(encoder: Encoder) -> None:
    asked: Encoder = encoder
    require_single_vectors(asked, "search")
    with pytest.raises(E2FashionError, match=r"'filip' compares tokens .* but search needs"):
        require_single_vectors(cast(Encoder, SimpleNamespace(name="filip", compares_tokens=True)), "search")


def test_one_image_or_text_alone_is_one_row(encoder: Encoder, picture: Image.Image) -> None:
    torch.testing.assert_close(encoder.embed_images(picture), encoder.embed_images([picture]))
    torch.testing.assert_close(encoder.embed_texts("a blue shirt"), encoder.embed_texts(["a blue shirt"]))
    assert encoder.embed_images(picture).shape == (1, 16)


def test_nothing_gives_no_rows(encoder: Encoder) -> None:
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, 16)


def test_a_file_and_its_image_are_the_same(encoder: Encoder, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    files = [tmp_path / "a.png", str(tmp_path / "a.png")]
    torch.testing.assert_close(encoder.embed_images(files), encoder.embed_images([picture, picture]))


def test_a_rotated_photo_is_turned_upright(encoder: Encoder, picture: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # what a phone writes when held upright: rotate by 90 degrees to show
    picture.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    torch.testing.assert_close(encoder.embed_images(tmp_path / "turned.png"), encoder.embed_images(picture))


def test_a_broken_image_is_named(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(E2FashionError, match=r"broken\.jpg' cannot be read as an image"):
        encoder.embed_images(tmp_path / "broken.jpg")


def test_a_missing_image_is_named(encoder: Encoder) -> None:
    with pytest.raises(E2FashionError, match=r"nowhere\.jpg' cannot be read as an image"):
        encoder.embed_images("nowhere.jpg")


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_unreadable_images_are_skipped_and_listed(
    encoder: Encoder, picture: Image.Image, tmp_path: Path, batch_size: int
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    images = [tmp_path / "broken.jpg", picture, "nowhere.jpg", picture.rotate(90)]
    embeds, skipped = encoder.embed_images(images, batch_size, on_error="skip")
    torch.testing.assert_close(embeds, encoder.embed_images([picture, picture.rotate(90)]))
    assert list(skipped) == [0, 2]
    assert "broken.jpg' cannot be read as an image" in skipped[0]
    assert "nowhere.jpg' cannot be read as an image" in skipped[2]


def test_of_unreadable_images_alone_there_are_no_rows(encoder: Encoder) -> None:
    embeds, skipped = encoder.embed_images(["nowhere.jpg"], on_error="skip")
    assert embeds.shape == (0, 16)
    assert list(skipped) == [0]


def test_an_unknown_on_error_is_refused(encoder: Encoder, picture: Image.Image) -> None:
    with pytest.raises(E2FashionError, match="on_error is 'ignore'; give 'stop' or 'skip'"):
        encoder.embed_images(picture, on_error="ignore")  # type: ignore[call-overload]


def test_embedding_is_the_same_whatever_mode_the_model_is_in(encoder: Encoder, picture: Image.Image) -> None:
    expected = encoder.embed_images(picture)
    encoder.model.train()
    result = encoder.embed_images(picture)
    assert encoder.model.training
    encoder.model.eval()
    assert torch.equal(result, expected)


def test_a_run_folder_loads_like_its_model_folder(model_folder: Path, encoder: Encoder) -> None:
    loaded = e2fashion.load_encoder(str(model_folder.parent))
    assert loaded.name == encoder.name == "tiny"
    assert torch.equal(loaded.embed_texts("knit"), encoder.embed_texts("knit"))


def test_what_was_saved_prepares_input_as_before(encoder: Encoder) -> None:
    assert encoder.template.template == "{brand} . {description}"
    assert (encoder.transform.size, encoder.transform.resize, encoder.context_length) == (32, "squeeze", 12)


def test_the_card_says_how_to_load_the_model(model_folder: Path) -> None:
    card = (model_folder / "README.md").read_text(encoding="utf-8")
    assert "e2fashion.load_encoder" in card
    assert "`brand` (column `brand`): 2 selection tokens" in card


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"holds no model: config\.json is missing"):
        e2fashion.load_encoder(str(tmp_path))


@pytest.mark.parametrize("name", ["runs/nowhere", "./nowhere", "a/b/c"])
def test_a_path_that_does_not_exist_never_reaches_the_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(E2FashionError, match=f"'{name}' is not a folder"):
        e2fashion.load_encoder(name)


def test_another_kind_of_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(E2FashionError, match=r"type 'bert'.*clip, e2"):
        e2fashion.load_encoder(str(tmp_path / "bert"))


def test_texts_are_cut_where_training_cut_them(encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path) -> None:
    shorter = dataclasses.replace(encoder, text_context_length=5)
    shorter.save_pretrained(tmp_path / "short")
    loaded = e2fashion.load_encoder(str(tmp_path / "short"))
    assert loaded.context_length == 5
    assert encoder.context_length == 12
    text = "a blue shirt with a long description"
    torch.testing.assert_close(loaded.embed_texts(text), shorter.embed_texts(text))
    assert not torch.allclose(loaded.embed_texts(text), encoder.embed_texts(text), atol=1e-3)
    result = embed_catalogue(loaded, synth_catalogue, "val", progress=False)
    texts = {s.product_id: encoder.template.render(s.tags, s.description) for s in synth_catalogue.samples("val")}
    expected = loaded.embed_texts([texts[product] for product in result.product_ids])
    torch.testing.assert_close(result.text_embeds[result.first_texts], expected, atol=1e-5, rtol=0)


def test_loading_and_saving_are_quiet(encoder: Encoder, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers_logging.enable_progress_bar()
    encoder.save_pretrained(tmp_path)
    e2fashion.load_encoder(str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.is_progress_bar_enabled()
