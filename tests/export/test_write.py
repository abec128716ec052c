"""Exports, read by the libraries they are for."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer

from e2fashion.__main__ import main
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.export.agreement import check_agreement
from e2fashion.export.config import ExportConfig
from e2fashion.export.onnx import export_onnx
from e2fashion.export.openai_clip import OpenAIStyleModel, Preprocess
from e2fashion.export.write import export, export_sentence_transformers
from e2fashion.types import E2FashionError

TEXTS = ["a navy wool coat", "dress", "a long text " * 40]


def test_sentence_transformers_encodes_as_the_encoder(
    encoder: Encoder, samples: list[Image.Image], tmp_path: Path
) -> None:
    assert export_sentence_transformers(encoder, tmp_path / "st") < 1e-5
    model = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    images, texts = model.encode(samples, convert_to_tensor=True), model.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(images.cpu(), encoder.embed_images(samples), atol=1e-5, rtol=0)
    torch.testing.assert_close(texts.cpu(), encoder.embed_texts(TEXTS), atol=1e-5, rtol=0)
    assert model.get_embedding_dimension() == encoder.dimension
    again = load_encoder(str(tmp_path / "st"))  # it is still a model folder
    assert torch.equal(again.embed_texts("dress"), encoder.embed_texts("dress"))


def test_no_string_is_read_as_an_image_or_fetched(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_sentence_transformers(encoder, tmp_path / "st")
    model = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), "red").save("dress.png")
    monkeypatch.setattr("transformers.image_utils.load_image", None)
    for text in ("dress.png", "https://shop.example/dress.jpg", "data:image/png;base64,AAAA"):
        with pytest.raises(E2FashionError, match=r"neither opens nor fetches: write {'text'"):
            model.encode([text])
        result = model.encode([{"text": text}], convert_to_tensor=True)
        torch.testing.assert_close(result.cpu(), encoder.embed_texts(text), atol=1e-5, rtol=0)
    with pytest.raises((E2FashionError, ValueError)):
        model.encode(["a dress", "dress.png"])


def test_onnxruntime_computes_as_the_encoder(encoder: Encoder, samples: list[Image.Image], tmp_path: Path) -> None:
    assert export_onnx(encoder, tmp_path) < 1e-5
    pixels = torch.stack([Preprocess(encoder.transform)(image) for image in samples[:2]])
    image = onnxruntime.InferenceSession(str(tmp_path / "image.onnx"))
    outputs = image.run(None, {"pixel_values": pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs[0]), encoder.embed_images(samples[:2]), atol=1e-4, rtol=0)
    if encoder.entities:
        regions = encoder.embed_regions(samples[:2])
        torch.testing.assert_close(torch.from_numpy(outputs[1]), regions, atol=1e-4, rtol=0)
    text = onnxruntime.InferenceSession(str(tmp_path / "text.onnx"))
    tokens = encoder.tokenizer(TEXTS[:2], padding=True, return_tensors="np")
    given = {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    result = torch.from_numpy(text.run(None, given)[0])
    torch.testing.assert_close(result, encoder.embed_texts(TEXTS[:2]), atol=1e-4, rtol=0)


def test_a_difference_is_an_error() -> None:
    with pytest.raises(E2FashionError, match=r"onnxruntime: 'image_embeds' differ .* by up to 1, more than 0.1"):
        check_agreement({"image_embeds": torch.ones(1)}, {"image_embeds": torch.zeros(1)}, 0.1, "onnxruntime")


def test_a_missing_library_is_named(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(E2FashionError, match=r"onnx is not installed: pip install 'e2fashion\[onnx\]'"):
        export_onnx(encoder, tmp_path)
    with pytest.raises(E2FashionError, match=r"pip install 'e2fashion\[sentence_transformers\]'"):
        export_sentence_transformers(encoder, tmp_path)


def test_the_verb_finds_its_export_and_keeps_other_files(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "20261121"
    shutil.copytree(folders["e2"], run / "model")
    # A run has the name in its configuration.
    (run / "config.yaml").write_text("name: winter\ndata: catalogue\n", encoding="utf-8")
    config = ExportConfig(model=str(run), format="sentence_transformers", output=str(tmp_path / "out"))
    assert main(["export", str(run), "format=sentence_transformers", f"output={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr().out
    assert (
        "'winter' as sentence_transformers, images of 32 px, texts of up to 12 tokens; largest difference to" in printed
    )
    monkeypatch.setattr("e2fashion.export.write.export_sentence_transformers", None)
    facts = export(config)
    assert facts["model"] == "winter"
    assert facts["entities"] == ["brand"]
    with pytest.raises(
        E2FashionError, match=r"holds the export of 'winter' as sentence_transformers: choose another output"
    ):
        export(replace(config, model=str(folders["clip"])))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("hello")
    for overwrite, message in (
        (False, "holds no output of this command: choose"),
        (True, "overwrite=true leaves it alone"),
    ):
        with pytest.raises(E2FashionError, match=message):
            export(replace(config, output=str(tmp_path / "mine"), overwrite=overwrite))


def test_an_encoder_of_tokens_is_refused(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "compares_tokens", True)
    for refused in (lambda: export_onnx(encoder, tmp_path), lambda: OpenAIStyleModel(encoder)):
        with pytest.raises(E2FashionError, match=r"compares tokens .FILIP., but .* needs one vector"):
            refused()
