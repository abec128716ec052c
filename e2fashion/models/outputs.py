"""Outputs of E2's models: CLIP's fields first, then ours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPOutput, CLIPVisionModelOutput


@dataclass
class E2Output(CLIPOutput):
    """CLIP's output, then the regions.

    ``image_embeds`` and ``text_embeds`` (B, C), ``region_embeds`` (B, E, C) and ``tag_embeds`` (B, E, C; zeros where a
    tag is absent; None when no tags were given) are L2-normalized. ``logit_scale`` () is the log of the inverse
    temperature, ``logit_bias`` () the bias of a sigmoid loss (None: softmax). ``selection_maps`` (B, F, S, P) and
    ``selected_patches`` (B, F, S, k): on request, see
    :class:`~e2fashion.models.vision_e2.E2VisionOutput`. ``loss`` is CLIP's own, of images and texts alone.
    """

    region_embeds: Tensor | None = None
    tag_embeds: Tensor | None = None
    logit_scale: Tensor | None = None
    logit_bias: Tensor | None = None
    selection_maps: Tensor | None = None
    selected_patches: Tensor | None = None

    @property
    def compared_embeds(self) -> tuple[Tensor, Tensor]:
        """The embeddings (B, C) by which images and texts are compared."""
        assert self.image_embeds is not None
        assert self.text_embeds is not None
        return self.image_embeds, self.text_embeds


@dataclass
class E2VisionModelOutput(CLIPVisionModelOutput):
    """CLIP's projected vision output, then ``region_features`` (B, E, C), ``selection_maps`` (B, F, S, P) and
    ``selected_patches`` (B, F, S, k). As in CLIP's class, ``image_embeds`` are *not* normalized; nor are the regions.
    """

    region_features: Tensor | None = None
    selection_maps: Tensor | None = None
    selected_patches: Tensor | None = None
