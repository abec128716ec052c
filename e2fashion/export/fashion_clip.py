"""Any CLIP or E2 behind the interface of the ``fashion-clip`` package: ``FashionCLIP("runs/mine")``.

Source of the interface: Chia et al., "Contrastive language and vision learning of general fashion concepts" (2022), and
their package. docs/fashionclip.md lists its calls with ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from e2fashion.arithmetic import build_device
from e2fashion.embedding import evaluating
from e2fashion.encoder import ImageInput, load_encoder
from e2fashion.export.openai_clip import OpenAIStyleModel, Preprocess
from e2fashion.types import E2FashionError

#: Names that the package gives models on the hub.
HUB_NAMES = {"fashion-clip": "patrickjohncyh/fashion-clip"}
Vectors = NDArray[np.float32]


class FashionCLIP:
    """Vectors of images and texts, zero-shot classification and retrieval, with the signatures of ``fashion-clip``.

    :meth:`encode_images` and :meth:`encode_text` return features that are **not** normalized, as in that package
    (:class:`e2fashion.Encoder` normalizes). What compares them normalizes both sides; that package leaves one side of
    :meth:`zero_shot_classification` as it is, which favors labels with long vectors.

    Args:
        model_name: a run folder, a model folder, the hub name of any CLIP, or ``fashion-clip``.
        dataset: the images of :meth:`retrieval`: a list of images or their files, or an object with such a list in
            ``images_path``, as an ``FCLIPDataset`` has.

    Raises:
        E2FashionError: there is no model, it compares tokens (FILIP), or an image cannot be read.
    """

    def __init__(self, model_name: str | Path, dataset: Any = None) -> None:
        encoder = load_encoder(HUB_NAMES.get(str(model_name), str(model_name)))
        self.model = OpenAIStyleModel(encoder).to(build_device("auto")).eval()
        self.preprocess = Preprocess(encoder.transform)
        self.image_vectors: Vectors | None = None
        """L2-normalized vectors (N, C) of the dataset."""
        if dataset is not None:
            self.image_vectors = _normalized(self.encode_images(list(getattr(dataset, "images_path", dataset))))

    def encode_images(self, images: Sequence[ImageInput], batch_size: int = 32) -> Vectors:
        """Features (N, C) fp32 of images or their files, not normalized.

        Raises:
            E2FashionError: a file is missing or no image.
        """
        found = []
        with evaluating(self.model):
            for start in range(0, len(images), batch_size):
                pixels = torch.stack([self.preprocess(image) for image in images[start : start + batch_size]])
                found.append(self.model.encode_image(pixels.to(self._device)).cpu().numpy())
        return self._stacked(found)

    def encode_text(self, text: Sequence[str], batch_size: int = 32) -> Vectors:
        """Features (N, C) fp32 of texts, cut at the context length, not normalized."""
        found = []
        with evaluating(self.model):
            for start in range(0, len(text), batch_size):
                ids = self.model.tokenize(text[start : start + batch_size], truncate=True)
                found.append(self.model.encode_text(ids.to(self._device)).cpu().numpy())
        return self._stacked(found)

    def zero_shot_classification(self, images: Sequence[ImageInput], text_labels: Sequence[str]) -> list[str]:
        """The nearest label of each image, by the cosine.

        Raises:
            E2FashionError: there is no label.
        """
        if not text_labels:
            raise E2FashionError("there are no labels: give the names of the classes to choose from")
        scores = _normalized(self.encode_images(images)) @ _normalized(self.encode_text(text_labels)).T
        return [text_labels[best] for best in scores.argmax(axis=1)]

    def retrieval(self, queries: Sequence[str], top_k: int = 10) -> NDArray[np.int64]:
        """Indices (Q, ``top_k``) of the images of the dataset that are nearest to each query, best first; exact.

        Raises:
            E2FashionError: there is no dataset.
        """
        if self.image_vectors is None:
            raise E2FashionError("there are no images to retrieve: give them as FashionCLIP(model_name, dataset)")
        scores = _normalized(self.encode_text(queries)) @ self.image_vectors.T
        return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]

    @property
    def _device(self) -> torch.device:
        return self.model.logit_scale.device

    def _stacked(self, parts: list[Vectors]) -> Vectors:
        return np.concatenate(parts) if parts else np.empty((0, self.model.visual.output_dim), np.float32)


def _normalized(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
