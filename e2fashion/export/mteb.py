"""An encoder as a model of MTEB, whose image tasks (MIEB) compare images, texts, and both together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.types import E2FashionError


class MtebEncoder:
    """An encoder with the methods that ``mteb.evaluate`` calls; all embeddings are L2-normalized, (N, C) fp32.

    Prompts and instructions of a task are not applied, since CLIP's texts have none.

    Raises:
        E2FashionError: ``mteb`` is missing, or the encoder compares tokens.
    """

    def __init__(self, encoder: Encoder) -> None:
        if find_spec("mteb") is None:
            raise E2FashionError("An evaluation with MTEB needs mteb. Install it: pip install 'e2fashion[mteb]'.")
        require_single_vectors(encoder, "MTEB")
        self.encoder = encoder

    @property
    def mteb_model_meta(self) -> Any:
        """What MTEB's result files say of the model."""
        from mteb.models import ModelMeta

        name = f"e2fashion/{self.encoder.name}"
        known = {"name": name, "revision": "local", "embed_dim": self.encoder.dimension, "similarity_fn_name": "cosine"}
        return ModelMeta.create_empty(overwrites={**known, "modalities": ["image", "text"]})

    def get_image_embeddings(self, images: Iterable[Mapping[str, Any]], **options: Any) -> Tensor:
        """Embeddings of the batches' ``image``, lists of PIL images."""
        del options
        return torch.cat([self.encoder.embed_images(batch["image"]) for batch in images])

    def get_text_embeddings(self, texts: Iterable[Mapping[str, Any]], **options: Any) -> Tensor:
        """Embeddings of the batches' ``text``, lists of texts."""
        del options
        return torch.cat([self.encoder.embed_texts(batch["text"]) for batch in texts])

    def get_fused_embeddings(self, both: Iterable[Mapping[str, Any]], **options: Any) -> Tensor:
        """The normalized sums of an image's and its text's embedding, as MIEB's models of this kind do."""
        return F.normalize(
            self.get_image_embeddings(both, **options) + self.get_text_embeddings(both, **options), dim=-1
        )

    def encode(self, inputs: Any, **options: Any) -> Tensor:
        """Embeddings of a loader of MTEB, by the columns that its data set has.

        Raises:
            E2FashionError: it has neither images nor texts.
        """
        columns = inputs.dataset.features
        if "image" in columns:
            return self.get_fused_embeddings(inputs) if "text" in columns else self.get_image_embeddings(inputs)
        if "text" not in columns:
            raise E2FashionError(f"the task's data has the columns {list(columns)}: give one with 'image' or 'text'")
        return self.get_text_embeddings(inputs)

    def similarity(self, one: Any, other: Any) -> Tensor:
        """Inner products of all embeddings (N, C) with all (M, C): (N, M)."""
        return torch.as_tensor(one) @ torch.as_tensor(other).T

    def similarity_pairwise(self, one: Any, other: Any) -> Tensor:
        """Inner products of embeddings (N, C) row by row: (N,)."""
        return (torch.as_tensor(one) * torch.as_tensor(other)).sum(-1)
