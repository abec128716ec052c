"""E2: a CLIP whose image encoder also yields one feature per tag entity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import (
    CLIPModel,
    CLIPPreTrainedModel,
    CLIPTextModel,
    CLIPVisionModelWithProjection,
    contrastive_loss,
)
from transformers.utils.generic import can_return_tuple

from e2fashion.models.configuration_e2 import E2Config, E2VisionConfig, EntitiesLike
from e2fashion.models.entity_text import EntityText
from e2fashion.models.from_clip import load_clip
from e2fashion.models.last_layer import PLAIN_ATTENTION, encode_text_end, real_tokens, trim_padding
from e2fashion.models.outputs import E2Output, E2TextOutput, E2VisionModelOutput
from e2fashion.models.region_heads import RegionHeads
from e2fashion.models.vision_e2 import E2VisionModel, E2VisionOutput, RegionalInitialization
from e2fashion.similarity import token_similarities


def _full_precision(features: Tensor) -> Tensor:
    """Features in fp32 under autocast: unit vectors in half precision tie where the model tells texts apart."""
    return features.float() if torch.is_autocast_enabled(features.device.type) else features


def _normalized(features: Tensor) -> Tensor:
    """Features over their length, in the very operations of CLIP, so that its outputs are equal to the bit."""
    features = _full_precision(features)
    return features / features.pow(2).sum(dim=-1, keepdim=True).pow(0.5)


def _contrast(per_image: Tensor | None, per_text: Tensor | None) -> Tensor:
    """CLIP's loss in CLIP's operations, with logits of their own for the two directions."""
    assert per_image is not None
    assert per_text is not None
    return (contrastive_loss(per_text) + contrastive_loss(per_image)) / 2.0


class E2Model(RegionalInitialization, CLIPModel):
    """CLIP with regions. It keeps CLIP's parameter names: any CLIP checkpoint loads. Without entities it is CLIP.

    With ``complete_states=False`` :meth:`forward`, :meth:`get_image_features` and :meth:`get_text_features` run the
    last layer only for the tokens that are read: the same features for less work, and a ``last_hidden_state`` that
    holds just those tokens, CLS and selection tokens (B, 1 + S, D) or the end token (B, 1, D). That is the default in
    training. In evaluation, and whenever hidden states or attentions are asked for, every token comes out as in CLIP.
    """

    config: E2Config
    config_class = E2Config

    def __init__(self, config: E2Config) -> None:
        CLIPPreTrainedModel.__init__(self, config)  # CLIPModel's own would build a vision tower to throw away
        vision_config, text_config = config.vision_config, config.text_config
        self.projection_dim = config.projection_dim
        self.text_embed_dim = text_config.hidden_size
        self.vision_embed_dim = vision_config.hidden_size
        self.text_model = CLIPTextModel._from_config(text_config)
        self.vision_model = E2VisionModel._from_config(vision_config)
        self.visual_projection = nn.Linear(self.vision_embed_dim, self.projection_dim, bias=False)
        self.text_projection = nn.Linear(self.text_embed_dim, self.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.region_heads = RegionHeads(
            vision_config.entity_list, self.vision_embed_dim, self.projection_dim, vision_config.layer_norm_eps
        )
        listed = config.text_entity_list
        self.entity_text = EntityText(listed, self.projection_dim) if listed else None
        self.post_init()

    @classmethod
    def from_clip(
        cls,
        name_or_folder: str | Path,
        entities: EntitiesLike | None = None,
        fusion_layers: list[int] | tuple[int, ...] = (),
        **options: Any,
    ) -> E2Model:
        """A CLIP's weights in an E2 with these entities and fusion blocks, whose own parameters are freshly drawn.

        ``name_or_folder`` is a local folder, or a name on the Hugging Face hub (the only case that uses the network);
        ``options`` are further fields of :class:`E2VisionConfig` (``selection``, ``noise``, ...).

        Raises:
            E2FashionError: no such folder, not a CLIP, a checkpoint that lacks CLIP weights, or an unknown option.
        """
        return load_clip(cls, name_or_folder, entities=entities, fusion_layers=list(fusion_layers), **options)

    def seed_selection_noise(self, *key: int) -> None:
        """Make the selection noise of the next training passes a function of ``key``: see :class:`E2VisionModel`."""
        self.vision_model.seed_selection_noise(*key)

    @property
    def compares_tokens(self) -> bool:
        """Whether images and texts are compared by their tokens, not by one vector each."""
        return self.config.similarity == "tokens"

    def _complete(self, complete_states: bool | None, config: Any, options: Mapping[str, Any]) -> bool:
        """Whether a tower computes every token: asked for in the call or the configuration, or else in evaluation."""
        wanted = any(
            options.get(name) or getattr(config, name, False) for name in ("output_hidden_states", "output_attentions")
        )
        return wanted or (not self.training if complete_states is None else complete_states)

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool = False,
        output_selection_maps: bool = False,
        complete_states: bool | None = None,
        **kwargs: Any,
    ) -> E2VisionOutput:
        """Images (B, 3, H, W): ``pooler_output`` (B, C) projected, ``region_features`` (B, E, C), not normalised.

        A model that compares tokens adds ``local_features`` (B, P, C), its projected patches.
        """
        output = self.vision_model(
            pixel_values=pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            output_selection_maps=output_selection_maps,
            complete_states=self.compares_tokens or self._complete(complete_states, self.vision_model.config, kwargs),
            return_dict=True,
            **kwargs,
        )
        output.pooler_output = self.visual_projection(output.pooler_output)
        output.region_features = self.region_heads(output.token_states)
        if self.compares_tokens:
            output.local_features = self.visual_projection(self.vision_model.post_layernorm(output.patch_states))
        return output

    def get_region_features(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Region features (B, E, C) of images (B, 3, H, W), in the order of the entities, not normalised."""
        output = self.get_image_features(
            pixel_values, interpolate_pos_encoding, complete_states=False, return_dict=True
        )
        return output.region_features

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        complete_states: bool | None = None,
        output_local_features: bool | None = None,
        tag_features: Tensor | None = None,
        tag_present: Tensor | None = None,
        **kwargs: Any,
    ) -> E2TextOutput:
        """Texts (B, L): ``pooler_output`` (B, C) projected, not normalised.

        A model with text entities adds the texts' ``tag_features`` (B, T, C) to it where ``tag_present`` (B, T), see
        :meth:`get_tag_features`; without any it reads the text alone.
        A model that compares tokens adds ``local_features`` (B, L, C), unless ``output_local_features`` is False.
        Without ``complete_states`` the columns of padding behind the longest text are cut off as well.
        """
        config = self.text_model.config
        plain_mask = attention_mask is None or attention_mask.ndim == 2
        plain_attention = config._attn_implementation in PLAIN_ATTENTION
        complete = self._complete(complete_states, config, kwargs) or not (plain_mask and plain_attention)
        local = self.compares_tokens if output_local_features is None else output_local_features
        if local and not complete:
            input_ids, attention_mask = trim_padding(input_ids, attention_mask, self.text_model.eos_token_id)
            position_ids = None if position_ids is None else position_ids[:, : input_ids.shape[1]]
        if complete or local:
            output = self.text_model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                return_dict=True,
                **kwargs,
            )
        else:
            output = encode_text_end(self.text_model, input_ids, attention_mask, position_ids)
        output = E2TextOutput(**output)
        output.pooler_output = self.text_projection(output.pooler_output)
        if self.entity_text is not None and tag_features is not None and tag_present is not None:
            output.pooler_output = self.entity_text(output.pooler_output, tag_features, tag_present)
        if local:
            real = real_tokens(input_ids, attention_mask, self.text_model.eos_token_id)
            features = self.text_projection(output.last_hidden_state)
            output.local_features = features.masked_fill(~real[..., None], 0.0)
        return output

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        tag_input_ids: Tensor | None = None,
        tag_attention_mask: Tensor | None = None,
        tag_index: Tensor | None = None,
        tag_present: Tensor | None = None,
        output_selection_maps: bool = False,
        **kwargs: Any,
    ) -> E2Output:
        """Embed images (B, 3, H, W), texts (B, L) and tags.

        ``tag_input_ids`` and ``tag_attention_mask`` (U, Lt) are the batch's distinct tag strings, each encoded once;
        ``tag_index`` (B, E) int64 points into them and ``tag_present`` (B, E) bool says where a product has the tag.
        Tags of text entities stand behind those of the image's: (B, E + T).
        """
        images = self.get_image_features(
            pixel_values,
            interpolate_pos_encoding,
            output_selection_maps=output_selection_maps,
            return_dict=True,
            **kwargs,
        )
        tag_embeds = None
        if tag_input_ids is not None:
            if tag_index is None or tag_present is None:
                raise ValueError("tag_input_ids need tag_index and tag_present (B, E): whose tags are they?")
            distinct, regions = self._distinct_tags(tag_input_ids, tag_attention_mask), len(self.region_heads)
            normalised = F.normalize(_full_precision(distinct), dim=-1)
            tag_embeds = _of_products(normalised, tag_index[:, :regions], tag_present[:, :regions])
            if self.entity_text is not None:
                kwargs["tag_present"] = tag_present[:, regions:]
                kwargs["tag_features"] = _of_products(distinct, tag_index[:, regions:], kwargs["tag_present"])
        texts = self.get_text_features(
            input_ids, attention_mask=attention_mask, position_ids=position_ids, return_dict=True, **kwargs
        )
        image_embeds = _normalized(images.pooler_output)
        text_embeds = _normalized(texts.pooler_output)
        local: tuple[Tensor, Tensor] | None = None
        if self.compares_tokens:
            image_local, text_local = (_full_precision(item.local_features) for item in (images, texts))
            local = F.normalize(image_local, dim=-1), F.normalize(text_local, dim=-1)
        per_image, per_text = self._logits(image_embeds, text_embeds, local, bool(return_loss))
        return E2Output(
            loss=_contrast(per_image, per_text) if return_loss else None,
            logits_per_image=per_image,
            logits_per_text=per_text,
            text_embeds=text_embeds,
            image_embeds=image_embeds,
            text_model_output=texts,
            vision_model_output=images,
            region_embeds=F.normalize(_full_precision(images.region_features), dim=-1),
            tag_embeds=tag_embeds,
            logit_scale=self.logit_scale,
            selection_maps=images.selection_maps,
            selected_patches=images.selected_patches,
            image_local_embeds=None if local is None else local[0],
            text_local_embeds=None if local is None else local[1],
        )

    def _logits(
        self, image_embeds: Tensor, text_embeds: Tensor, local: tuple[Tensor, Tensor] | None, wanted: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits per image (B, B) and per text; of tokens in training only when ``wanted``, for they are dear."""
        if local is None:
            per_text = text_embeds @ image_embeds.t() * self.logit_scale.exp()
            return per_text.t(), per_text
        if self.training and not wanted:
            return None, None
        per_image, per_text = token_similarities(*local)
        return per_image * self.logit_scale.exp(), per_text * self.logit_scale.exp()

    def embed_tags(
        self,
        tag_input_ids: Tensor,
        tag_attention_mask: Tensor | None,
        tag_index: Tensor | None,
        tag_present: Tensor | None,
    ) -> Tensor:
        """Normalised tag embeddings (B, E, C), exactly zero in value and gradient where ``tag_present`` is false."""
        distinct = self._distinct_tags(tag_input_ids, tag_attention_mask)
        return _of_products(F.normalize(_full_precision(distinct), dim=-1), tag_index, tag_present)

    def get_tag_features(
        self,
        tag_input_ids: Tensor,
        tag_attention_mask: Tensor | None,
        tag_index: Tensor | None,
        tag_present: Tensor | None,
    ) -> Tensor:
        """Tag features (B, E, C), not normalised, zero where ``tag_present`` is false: what text entities read."""
        return _of_products(self._distinct_tags(tag_input_ids, tag_attention_mask), tag_index, tag_present)

    def _distinct_tags(self, tag_input_ids: Tensor, tag_attention_mask: Tensor | None) -> Tensor:
        """Features (U, C) of distinct tag strings, each encoded once, not normalised."""
        return self.get_text_features(
            tag_input_ids, tag_attention_mask, complete_states=False, output_local_features=False, return_dict=True
        ).pooler_output


def _of_products(distinct: Tensor, tag_index: Tensor | None, tag_present: Tensor | None) -> Tensor:
    """The rows (U, C) that products' tags point at: (B, E, C), zero where a tag is absent."""
    if tag_index is None or tag_present is None:
        raise ValueError("tag_input_ids need tag_index and tag_present (B, E): whose tags are they?")
    if not len(distinct):
        return distinct.new_zeros(*tag_index.shape, distinct.shape[-1])
    # Absent tags point at some row; where() keeps their gradient out even if that row is not finite.
    return torch.where(
        tag_present[..., None], distinct[tag_index], torch.zeros((), dtype=distinct.dtype, device=distinct.device)
    )


class E2VisionModelWithProjection(RegionalInitialization, CLIPVisionModelWithProjection):
    """The image half of E2, with CLIP's meaning of ``image_embeds``; loads from an :class:`E2Model`'s folder."""

    config: E2VisionConfig
    config_class = E2VisionConfig
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012 - typed by the base class
        r"^text_model\.",
        r"^text_projection\.",
        r"^logit_scale$",
        r"^entity_text\.",
    ]

    def __init__(self, config: E2VisionConfig) -> None:
        CLIPPreTrainedModel.__init__(self, config)
        self.vision_model = E2VisionModel._from_config(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.region_heads = RegionHeads(
            config.entity_list, config.hidden_size, config.projection_dim, config.layer_norm_eps
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        output_selection_maps: bool = False,
        **kwargs: Any,
    ) -> E2VisionModelOutput:
        """Images (B, 3, H, W): ``image_embeds`` (B, C) and ``region_features`` (B, E, C), neither normalised."""
        output = self.vision_model(
            pixel_values=pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            output_selection_maps=output_selection_maps,
            return_dict=True,
            **kwargs,
        )
        return E2VisionModelOutput(
            image_embeds=self.visual_projection(output.pooler_output),
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            region_features=self.region_heads(output.token_states),
            selection_maps=output.selection_maps,
            selected_patches=output.selected_patches,
        )
