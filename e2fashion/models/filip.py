"""FILIP, a variant of E2 that compares every patch with every text token instead of one vector each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from e2fashion.models.configuration_e2 import E2Config
from e2fashion.models.last_layer import real_tokens, trim_padding
from e2fashion.models.modeling_e2 import E2Model, E2Output, contrast, full_precision
from e2fashion.models.vision_e2 import E2VisionOutput, LocalVisionOutput
from e2fashion.similarity import token_similarities


@dataclass
class FilipTextOutput(BaseModelOutputWithPooling):
    """CLIP's text output, then ``local_features`` (B, L, C): the projected tokens, not normalized, zero at padding."""

    local_features: Tensor | None = None


@dataclass
class FilipOutput(E2Output):
    """E2's output, whose logits (in training only with ``return_loss``) and ``loss`` come from tokens.

    ``image_local_embeds`` (B, P, C) and ``text_local_embeds`` (B, L, C) are L2-normalized, zero at padding.
    """

    image_local_embeds: Tensor | None = None
    text_local_embeds: Tensor | None = None

    @property
    def compared_embeds(self) -> tuple[Tensor, Tensor]:
        """The tokens (B, P, C) and (B, L, C)."""
        assert self.image_local_embeds is not None
        assert self.text_local_embeds is not None
        return self.image_local_embeds, self.text_local_embeds


class FilipModel(E2Model):
    """FILIP (Yao et al., ICLR 2022): images and texts compared by their tokens, see :mod:`e2fashion.similarity`.

    With entities it is E2 on FILIP: regions and tags are one vector each, as in E2. Patches are kept to the last layer
    (``drop_patches`` is false).
    """

    @classmethod
    def is_for(cls, config: E2Config) -> bool:
        """A configuration whose ``similarity`` is ``tokens``."""
        return config.similarity == "tokens"

    def departures(self) -> list[str]:
        """The token-wise comparison."""
        return [
            *super().departures(),
            "the comparison of patches with text tokens (FILIP), for which its weights were trained",
        ]

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool = False,
        output_selection_maps: bool = False,
        complete_states: bool | None = None,
        **kwargs: Any,
    ) -> LocalVisionOutput:
        """As :meth:`E2Model.get_image_features`, with ``local_features`` (B, P, C).

        They need all tokens, so ``complete_states`` is ignored.
        """
        del complete_states
        output = super().get_image_features(
            pixel_values,
            interpolate_pos_encoding,
            output_selection_maps=output_selection_maps,
            complete_states=True,
            return_dict=True,
            **kwargs,
        )
        local = self.visual_projection(self.vision_model.post_layernorm(output.patch_states))
        return LocalVisionOutput(**output, local_features=local)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        complete_states: bool | None = None,
        **kwargs: Any,
    ) -> FilipTextOutput:
        """As :meth:`E2Model.get_text_features`, with ``local_features`` (B, L, C).

        They need all tokens; without ``complete_states`` only padding after the longest text is removed first.
        """
        end = self.text_model.eos_token_id
        if not self._completes_text(attention_mask, complete_states, kwargs):
            input_ids, attention_mask = trim_padding(input_ids, attention_mask, end)
            position_ids = None if position_ids is None else position_ids[:, : input_ids.shape[1]]
        output = super().get_text_features(
            input_ids, attention_mask, position_ids, complete_states=True, return_dict=True, **kwargs
        )
        real = real_tokens(input_ids, attention_mask, end)
        local = self.text_projection(output.last_hidden_state).masked_fill(~real[..., None], 0.0)
        return FilipTextOutput(**output, local_features=local)

    def distinct_tags(self, tag_input_ids: Tensor, tag_attention_mask: Tensor | None) -> Tensor:
        """As :meth:`E2Model.distinct_tags`: one vector per tag, without computing tokens."""
        return (
            super()
            .get_text_features(tag_input_ids, tag_attention_mask, complete_states=False, return_dict=True)
            .pooler_output
        )

    def joined(
        self, images: E2VisionOutput, texts: BaseModelOutputWithPooling, tag_embeds: Tensor | None, return_loss: bool
    ) -> FilipOutput:
        """As :meth:`E2Model.joined` with logits and loss of tokens; in training logits only for the loss."""
        assert isinstance(images, LocalVisionOutput)
        assert isinstance(texts, FilipTextOutput)
        image, text = (
            F.normalize(full_precision(features), dim=-1)
            for features in (images.local_features, texts.local_features)
            if features is not None
        )
        per_image: Tensor | None = None
        per_text: Tensor | None = None
        loss: Tensor | None = None
        if return_loss or not self.training:
            per_image, per_text = map(self.logits, token_similarities(image, text))
            loss = contrast(per_image, per_text) if return_loss else None
        vectors = super().joined(images, texts, tag_embeds, return_loss=False)
        compared = {"loss": loss, "logits_per_image": per_image, "logits_per_text": per_text}
        return FilipOutput(**{**vectors, **compared}, image_local_embeds=image, text_local_embeds=text)
