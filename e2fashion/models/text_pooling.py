"""CLIP whose training also pools the patches of each image for each text (a control), a variant of E2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from e2fashion.models.configuration_e2 import E2Config
from e2fashion.models.modeling_e2 import E2Model, E2Output, full_precision
from e2fashion.models.vision_e2 import E2VisionOutput, LocalVisionOutput

#: Width of an attention head, as in CLIP's towers; where it does not divide the joint dimension there is one head.
HEAD_WIDTH = 64


class TextPooling(nn.Module):
    """Cross-attention in which each text queries the patches of each image.

    Nothing of the query is added to what is read: the pooled feature is a mixture of the image's patches alone, so that
    it can only resemble the text by what the image holds.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = 1 if width % HEAD_WIDTH else width // HEAD_WIDTH
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, patches: Tensor, texts: Tensor) -> Tensor:
        """Cosine of text n with what it reads of image m: patches (M, P, C) and texts (N, C), projected and not
        normalized, to (M, N)."""
        patches, queries = (F.layer_norm(states, states.shape[-1:]) for states in (patches, texts))
        read = F.scaled_dot_product_attention(
            rearrange(self.query(queries), "n (h d) -> 1 h n d", h=self.heads).expand(len(patches), -1, -1, -1),
            rearrange(self.key(patches), "m p (h d) -> m h p d", h=self.heads),
            rearrange(self.value(patches), "m p (h d) -> m h p d", h=self.heads),
        )
        pooled = self.output(rearrange(read, "m h n d -> m n (h d)"))
        return (F.normalize(full_precision(pooled), dim=-1) * F.normalize(full_precision(texts), dim=-1)).sum(-1)


@dataclass
class TextPoolingOutput(E2Output):
    """E2's output, in training with ``pooled_similarities`` (B, B) of images (rows) and texts, see
    :class:`TextPooling`."""

    pooled_similarities: Tensor | None = None


class TextPoolingModel(E2Model):
    """An :class:`E2Model` that pools patches for texts in training, after FLAIR (Xiao et al., CVPR 2025).

    The patch states are those of the last layer, normalized and projected as CLS is. In evaluation the model is E2: the
    pooling shapes the features, and no score reads it.
    """

    added_prefixes: ClassVar[tuple[str, ...]] = (*E2Model.added_prefixes, "text_pooling.")

    @classmethod
    def is_for(cls, config: E2Config) -> bool:
        """A configuration with ``text_pooling``."""
        return config.text_pooling

    def add_parts(self, config: E2Config) -> None:
        """The cross-attention."""
        self.text_pooling = TextPooling(config.projection_dim)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TextPooling):
            for matrix in module.parameters():
                init.normal_(matrix, std=matrix.shape[-1] ** -0.5)

    def departures(self) -> list[str]:
        """The cross-attention, with its number of parameters."""
        number = sum(parameter.numel() for parameter in self.text_pooling.parameters())
        return [*super().departures(), f"the pooling of patches by texts, of training alone: {number:,} values"]

    @can_return_tuple
    def get_image_features(
        self, pixel_values: Tensor, *arguments: Any, complete_states: bool | None = None, **kwargs: Any
    ) -> E2VisionOutput:
        """As :meth:`E2Model.get_image_features`, in training with ``local_features`` (B, P, C), which need all
        tokens."""
        complete = self.training or complete_states
        output = super().get_image_features(
            pixel_values, *arguments, complete_states=complete, return_dict=True, **kwargs
        )
        if not self.training:
            return output
        local = self.visual_projection(self.vision_model.post_layernorm(output.patch_states))
        return LocalVisionOutput(**output, local_features=local)

    def joined(
        self, images: E2VisionOutput, texts: BaseModelOutputWithPooling, tag_embeds: Tensor | None, return_loss: bool
    ) -> TextPoolingOutput:
        """As :meth:`E2Model.joined`, in training with ``pooled_similarities``."""
        output = TextPoolingOutput(**super().joined(images, texts, tag_embeds, return_loss))
        if isinstance(images, LocalVisionOutput):
            output.pooled_similarities = self.text_pooling(images.local_features, texts.pooler_output)
        return output
