"""E2 or CLIP behind the interface of ``open_clip``: ``create_model_and_transforms`` and ``get_tokenizer``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from e2fashion.data.dataset import Augmentation
from e2fashion.data.decode import read_pixels
from e2fashion.data.transforms import normalize
from e2fashion.encoder import ImageInput
from e2fashion.export.openai_clip import OpenAIStyleModel, Preprocess, Tokenize, load_for

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class OpenClipStyleModel(OpenAIStyleModel):
    """As :class:`OpenAIStyleModel`, with ``normalize`` and the outputs of open_clip's ``CLIP``."""

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Normalized pixels (B, 3, H, W) to features (B, C)."""
        features = super().encode_image(image)
        return nn.functional.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Token ids (B, L), as :meth:`OpenAIStyleModel.encode_text`, to features (B, C)."""
        features = super().encode_text(text)
        return nn.functional.normalize(features, dim=-1) if normalize else features

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """L2-normalized features of images (B, C) and of texts (N, C), the inverse temperature, the bias if any."""
        outputs = self.encode_image(image, True), self.encode_text(text, True), self.logit_scale.exp()
        return outputs if self.logit_bias is None else (*outputs, self.logit_bias)


@dataclass(frozen=True)
class TrainPreprocess(Preprocess):
    """As :class:`Preprocess`, of a random crop and maybe the mirror image, drawn by PyTorch's generator."""

    augmentation: Augmentation = field(default_factory=Augmentation)

    def __call__(self, image: ImageInput) -> Tensor:
        """See the class."""
        draw = str(int(torch.randint(2**62, ())))
        square = self.transform(self.augmentation.crop(read_pixels(image), 0, draw))
        square = self.augmentation.mirror(square, 0, draw)
        return normalize(square[None], self.transform.mean, self.transform.std)[0]


def create_model_and_transforms(
    model_name: str | Path,
    *,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    device: torch.device | str = "cpu",
    jit: bool = False,
    cache_dir: str | Path | None = None,
    crop_scale: float = 0.9,
    flip: bool = False,
) -> tuple[OpenClipStyleModel, TrainPreprocess, Preprocess]:
    """A model in evaluation mode with its preprocessing for training and for validation, as open_clip gives them.

    Args:
        model_name: a run folder, a model folder, the hub name of any CLIP, or one of OpenAI's names (``ViT-B/32``).
        precision: type of the weights.
        device: where the model computes.
        jit: must be False: nothing is compiled.
        cache_dir: the folder that keeps what is fetched from the hub; None: the hub's cache.
        crop_scale: smallest share of an image's area that the random crop for training keeps. Source: open_clip.
        flip: whether half of the images for training are mirrored.

    Raises:
        E2FashionError: there is no model, it compares tokens (FILIP), or ``jit`` is True.
    """
    encoder = load_for(model_name, jit, cache_dir)
    model = OpenClipStyleModel(encoder).to(device, PRECISIONS[precision]).eval()
    training = TrainPreprocess(encoder.transform, Augmentation(flip=flip, crop_scale=crop_scale))
    return model, training, Preprocess(encoder.transform)


def get_tokenizer(model: OpenClipStyleModel | str | Path, context_length: int | None = None) -> Tokenize:
    """What makes token ids (N, ``context_length``) of texts, cutting long ones, as open_clip's tokenizers do.

    ``model`` is what :func:`create_model_and_transforms` returned, or its name, which loads it once more.
    """
    if not isinstance(model, OpenClipStyleModel):
        model = OpenClipStyleModel(load_for(model, jit=False, cache=None))
    return replace(model.tokenize, truncate=True, context_length=context_length or model.context_length)
