"""SigLIP as the backbone of E2: a variant whose towers read and pool as SigLIP's, under SigLIP's parameter names."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SiglipTextModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.siglip.modeling_siglip import (
    SiglipMultiheadAttentionPoolingHead,
    SiglipPreTrainedModel,
    SiglipVisionEmbeddings,
)
from transformers.utils.generic import can_return_tuple

from e2fashion.models.configuration_e2 import E2Config, E2VisionConfig
from e2fashion.models.from_clip import REGIONAL_PREFIXES
from e2fashion.models.modeling_e2 import E2Model, E2Output
from e2fashion.models.vision_e2 import E2VisionModel, E2VisionOutput
from e2fashion.types import E2FashionError


class SiglipVisionTower(E2VisionModel, SiglipPreTrainedModel):  # type: ignore[misc] # of its base only initialization
    """SigLIP's image tower with selection tokens and fusion blocks; without entities it is SigLIP's.

    The sequence is patches, selection tokens: there is no CLS. The image feature is pooled from the patches of the last
    layer alone by SigLIP's attention head, so that it depends on the selection tokens only through attention within the
    layers, as CLIP's does (ours). The selection tokens have no position, and there is no pre-LayerNorm.
    ``last_hidden_state`` and ``patch_states`` are not normalized.
    """

    head: SiglipMultiheadAttentionPoolingHead
    leading: ClassVar[int] = 0

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__(config)
        parts, shared = cast(Any, self), cast(Any, config)  # has all fields that SigLIP's has
        parts.embeddings = SiglipVisionEmbeddings(shared)
        parts.pre_layrnorm = nn.Identity()
        parts.head = SiglipMultiheadAttentionPoolingHead(shared)
        self.post_init()

    def pool(self, states: Tensor, patches: Tensor | None) -> Tensor:
        """The image's feature (B, D): the ``patches`` (B, P, D), normalized, as one learned query attends to them."""
        del states
        return self.head(self.post_layernorm(patches))


class SiglipE2Model(E2Model):
    """An :class:`E2Model` with the towers of a SigLIP (Zhai et al., ICCV 2023), from :meth:`E2Model.from_clip`.

    SigLIP 2 checkpoints of a fixed resolution have the same architecture. Regions, tags and fusion blocks are as on
    CLIP; there are no projections, ``logit_scale`` and ``logit_bias`` have SigLIP's shape (1,).

    Every text is padded to the length of the text tower, whose last state is the text's feature, and attends to its
    padding: SigLIP was trained so. ``complete_states`` is ignored: both features depend on all tokens.

    Raises:
        E2FashionError: a configuration whose ``projection_init`` is ``random``.
    """

    added_prefixes: ClassVar[tuple[str, ...]] = REGIONAL_PREFIXES

    @classmethod
    def is_for(cls, config: E2Config) -> bool:
        """A configuration whose ``backbone`` is ``siglip``."""
        return config.backbone == "siglip"

    def add_parts(self, config: E2Config) -> None:
        """Replace CLIP's towers, which on the meta device cost nothing.

        Raises:
            E2FashionError: ``projection_init`` is random: a SigLIP has no image projection.
        """
        if config.vision_config.projection_init == "random":
            raise E2FashionError("projection_init is random, but a SigLIP has no image projection: leave it out")
        parts, text = cast(Any, self), config.text_config
        text.projection_size = config.projection_dim  # the one field of SigLIP's that CLIP's lacks
        parts.text_model = SiglipTextModel._from_config(text)
        parts.vision_model = SiglipVisionTower._from_config(config.vision_config)
        parts.visual_projection = nn.Identity()
        parts.text_projection = nn.Identity()
        self.logit_scale = nn.Parameter(torch.full((1,), float(config.logit_scale_init_value or 0.0)))
        self.logit_bias = nn.Parameter(torch.full((1,), float(config.logit_bias_init_value or 0.0)))

    def _complete(self, *arguments: Any) -> bool:
        """Always: both features depend on all tokens."""
        return True

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        complete_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Texts (B, L): ``pooler_output`` (B, C), not normalized.

        Ids that ``attention_mask`` (B, L) hides are replaced by padding, to which the text attends. An empty batch
        gives empty outputs.

        Raises:
            E2FashionError: more ids than the text tower has positions.
        """
        text = self.config.text_config
        if input_ids.shape[0] == 0:  # not len(), which would fix the size of an exported batch
            empty = self.logit_scale.new_zeros(0, text.max_position_embeddings, text.hidden_size)
            return BaseModelOutputWithPooling(empty, self.logit_scale.new_zeros(0, self.config.projection_dim))
        if attention_mask is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, text.pad_token_id)
        length, positions = input_ids.shape[1], text.max_position_embeddings
        if length > positions:
            raise E2FashionError(f"texts of {length} tokens for a text tower of {positions}: truncate them")
        input_ids = F.pad(input_ids, (0, positions - length), value=text.pad_token_id)
        return super().get_text_features(input_ids, None, position_ids, return_dict=True, **kwargs)

    def joined(
        self, images: E2VisionOutput, texts: BaseModelOutputWithPooling, tag_embeds: Tensor | None, return_loss: bool
    ) -> E2Output:
        """As :meth:`E2Model.joined` with SigLIP's loss, of single pairs, on request."""
        output = super().joined(images, texts, tag_embeds, return_loss=False)
        if return_loss and output.logits_per_text is not None:
            logits = output.logits_per_text
            signs = 2 * torch.eye(len(logits), device=logits.device) - 1
            output.loss = -F.logsigmoid(signs * logits).sum(-1).mean()
        return output
