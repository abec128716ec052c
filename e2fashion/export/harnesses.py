"""An encoder behind the model interfaces of others' evaluations: MTEB and CLIP_benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.export.open_clip import OpenClipStyleModel, create_model_and_transforms, get_tokenizer
from e2fashion.export.openai_clip import Preprocess, Tokenize
from e2fashion.types import E2FashionError

#: Key of the models in CLIP_benchmark's table.
MODEL_TYPE = "e2fashion"


class MtebEncoder:
    """A model for ``mteb.evaluate``, of texts, images, and both (MTEB 2, whose image tasks are MIEB's).

    All embeddings are (N, C) fp32 on the CPU and L2-normalized. Prompts of a task are not used: there are none in the
    training of a CLIP.

    Args:
        encoder: what :func:`e2fashion.load_encoder` returns.

    Raises:
        E2FashionError: the encoder compares tokens (FILIP).
    """

    def __init__(self, encoder: Encoder) -> None:
        require_single_vectors(encoder, "MTEB")
        self.encoder = encoder

    def get_text_embeddings(self, texts: Iterable[Mapping[str, Any]], **options: Any) -> Tensor:
        """Of batches with lists of strings as ``text``."""
        return _joined(self.encoder.embed_texts, texts, "text")

    def get_image_embeddings(self, images: Iterable[Mapping[str, Any]], **options: Any) -> Tensor:
        """Of batches with lists of PIL images as ``image``."""
        return _joined(self.encoder.embed_images, images, "image")

    def get_fused_embeddings(self, inputs: Iterable[Mapping[str, Any]], **options: Any) -> Tensor:
        """The normalized sum of text and image, of batches with both."""
        fused = self.get_text_embeddings(inputs) + self.get_image_embeddings(inputs)
        return nn.functional.normalize(fused, dim=-1)

    def encode(self, inputs: Any, **options: Any) -> Tensor:
        """Of a ``DataLoader`` whose data set has the columns ``text``, ``image``, or both; task and split play no part.

        Raises:
            E2FashionError: it has neither.
        """
        columns = inputs.dataset.features
        if "text" in columns and "image" in columns:
            return self.get_fused_embeddings(inputs)
        if "text" in columns:
            return self.get_text_embeddings(inputs)
        if "image" in columns:
            return self.get_image_embeddings(inputs)
        raise E2FashionError(f"MTEB gives the columns {', '.join(columns)}: a CLIP reads 'text' and 'image'.")

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines of all pairs: (N, M); N or M is 1 for a vector."""
        return torch.atleast_2d(torch.as_tensor(embeddings1)) @ torch.atleast_2d(torch.as_tensor(embeddings2)).mT

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines of corresponding rows: (N,)."""
        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(-1)

    @property
    def mteb_model_meta(self) -> Any:
        """What MTEB writes into its results: the encoder's name, and its fingerprint as revision."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        facts = {
            "name": f"{MODEL_TYPE}/{self.encoder.name.replace('/', '_')}",
            "revision": self.encoder.fingerprint,
            "embed_dim": self.encoder.dimension,
            "max_tokens": self.encoder.context_length,
            "modalities": ["text", "image"],
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
        }
        return ModelMeta.create_empty(overwrites=facts)


def _joined(
    embed: Callable[[Sequence[Any]], Tensor], batches: Iterable[Mapping[str, Sequence[Any]]], column: str
) -> Tensor:
    return torch.cat([embed(list(batch[column])) for batch in batches])


def load_clip_benchmark(
    model_name: str = "",
    pretrained: str | Path = "",
    cache_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> tuple[OpenClipStyleModel, Preprocess, Tokenize]:
    """Model, transform and tokenizer, as a loader of CLIP_benchmark's table of model types returns them.

    ``pretrained`` is a run folder, a model folder or a hub name; ``model_name`` only names the results.

    Raises:
        E2FashionError: there is no such model, or it compares tokens (FILIP).
    """
    model, _, preprocess = create_model_and_transforms(pretrained, device=device, cache_dir=cache_dir)
    return model, preprocess, get_tokenizer(model)


def register_clip_benchmark() -> None:
    """Add ``--model_type e2fashion`` to the installed CLIP_benchmark, for the running program."""
    from clip_benchmark import models

    if MODEL_TYPE not in models.TYPE2FUNC:
        models.TYPE2FUNC[MODEL_TYPE] = load_clip_benchmark
        models.MODEL_TYPES.append(MODEL_TYPE)
