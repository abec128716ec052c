"""The interface of fashion-clip, and the push to the hub."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

import e2fashion
from e2fashion.__main__ import main
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.types import E2FashionError

TEXTS = ["a navy wool coat", "dress", "a long text " * 40]


def normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_vectors_are_features_and_answers_are_the_cosines(
    encoder: Encoder, samples: list[Image.Image], folder: Path, tmp_path: Path
) -> None:
    fclip = e2fashion.FashionCLIP(folder, samples)
    images, texts = fclip.encode_images(samples, batch_size=2), fclip.encode_text(TEXTS, batch_size=2)
    assert (images.shape, texts.shape) == ((len(samples), encoder.dimension), (len(TEXTS), encoder.dimension))
    assert (images.dtype, texts.dtype) == (np.float32, np.float32)
    assert not np.allclose(np.linalg.norm(images, axis=1), 1)
    cosines = encoder.embed_images(samples).numpy() @ encoder.embed_texts(TEXTS).numpy().T
    np.testing.assert_allclose(normalized(images) @ normalized(texts).T, cosines, atol=1e-5)
    assert fclip.zero_shot_classification(samples, TEXTS) == [TEXTS[best] for best in cosines.argmax(1)]
    np.testing.assert_array_equal(fclip.retrieval(TEXTS, top_k=2), np.argsort(-cosines.T, kind="stable")[:, :2])
    files = [tmp_path / f"{number}.png" for number in range(len(samples))]
    for file, image in zip(files, samples, strict=True):
        image.save(file)
    dataset = SimpleNamespace(images_path=np.array([str(file) for file in files]))
    again = e2fashion.FashionCLIP(str(folder), dataset)
    np.testing.assert_array_equal(again.retrieval(TEXTS, 1), fclip.retrieval(TEXTS, 1))
    assert fclip.encode_images([]).shape == (0, encoder.dimension)


def test_what_is_missing_is_named(folder: Path, samples: list[Image.Image]) -> None:
    fclip = e2fashion.FashionCLIP(folder)
    with pytest.raises(E2FashionError, match="there are no images to retrieve"):
        fclip.retrieval(["x"])
    with pytest.raises(E2FashionError, match="there are no labels"):
        fclip.zero_shot_classification(samples, [])


def test_a_model_is_pushed_as_one_commit(
    folder: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    class Stub:
        def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
            calls.append((repository, private, exist_ok))

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> Any:
            calls.append((repo_id, commit_message))
            assert torch.equal(load_encoder(str(folder_path)).embed_texts(TEXTS), encoder.embed_texts(TEXTS))
            return SimpleNamespace(commit_url="https://hub.example/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Stub)
    assert main(["export", str(folder), "format=hub", "output=shop/mine", "private=false"]) == 0
    assert calls == [("shop/mine", False, True), ("shop/mine", f"Add {load_encoder(str(folder)).name}")]
    assert "model.safetensors" in capsys.readouterr().out
    assert main(["export", str(folder), "format=hub", "output=exports/of/mine"]) == 1
    assert "it is a repository, as in output=<user>/<name>" in capsys.readouterr().err


def test_without_the_network_nothing_is_pushed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline mode is enabled")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    assert main(["export", str(folder), "format=hub", "output=shop/mine"]) == 1
    assert "the hub did not take 'shop/mine': offline mode is enabled" in capsys.readouterr().err
