"""E2: a CLIP whose image encoder also yields one feature per tag entity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import (
    CLIPModel,
    CLIPOutput,
    CLIPPreTrainedModel,
    CLIPTextModel,
    CLIPVisionModelWithProjection,
    contrastive_loss,
)
from transformers.utils.generic import can_return_tuple

from e2fashion.models.activation import quicken
from e2fashion.models.configuration_e2 import E2Config, E2VisionConfig, EntitiesLike
from e2fashion.models.from_clip import REGIONAL_PREFIXES, load_clip
from e2fashion.models.last_layer import PLAIN_ATTENTION, encode_text_end
from e2fashion.models.selection_tokens import RegionHeads
from e2fashion.models.vision_e2 import E2VisionModel, E2VisionModelOutput, E2VisionOutput, RegionalInitialization
from e2fashion.types import E2FashionError


def full_precision(features: Tensor) -> Tensor:
    """Features in fp32 under autocast: in half precision different unit vectors may become equal."""
    return features.float() if torch.is_autocast_enabled(features.device.type) else features


def _normalized(features: Tensor) -> Tensor:
    """L2-normalized features, with CLIP's operations, so that its outputs are bit-equal."""
    features = full_precision(features)
    return features / features.pow(2).sum(dim=-1, keepdim=True).pow(0.5)


def contrast(per_image: Tensor, per_text: Tensor) -> Tensor:
    """CLIP's loss () from the logits (B, B) of both directions, with CLIP's operations."""
    return (contrastive_loss(per_text) + contrastive_loss(per_image)) / 2.0


@dataclass
class E2Output(CLIPOutput):
    """CLIP's output, then the regions.

    ``image_embeds`` and ``text_embeds`` (B, C), ``region_embeds`` (B, E, C) and ``tag_embeds`` (B, E, C; zeros where a
    tag is absent; None when no tags were given) are L2-normalized. ``logit_scale`` () is the log of the inverse
    temperature, ``logit_bias`` () the bias of a sigmoid loss (None: softmax). ``selection_maps`` (B, F, S, P) and
    ``selected_patches`` (B, F, S, k): on request, see :class:`~e2fashion.models.vision_e2.E2VisionOutput`. ``loss`` is
    CLIP's own, of images and texts alone.
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


class E2Model(RegionalInitialization, CLIPModel):
    """CLIP with regions, under CLIP's parameter names, so that any CLIP checkpoint loads; without entities it is CLIP.

    With ``complete_states=False`` :meth:`forward`, :meth:`get_image_features` and :meth:`get_text_features` compute the
    last layer only for the tokens that are read: the same features at lower cost, and a ``last_hidden_state`` of these
    tokens only, CLS and selection tokens (B, 1 + S, D) or the end token (B, 1, D). This is the default in training. In
    evaluation, and if hidden states or attentions are requested, all tokens are computed as in CLIP.

    **Variants** are subclasses in separate files. :meth:`is_for` defines which configurations a variant implements;
    ``E2Model(config)``, and with it ``from_pretrained``, :meth:`from_clip` and ``AutoModel``, create the variant of the
    configuration. A variant may override :meth:`add_parts`, :meth:`get_image_features`, :meth:`get_text_features`,
    :meth:`text_options` (further inputs of the text encoder) and :meth:`joined` (logits and loss from both towers'
    features).
    """

    config: E2Config
    config_class = E2Config

    #: Name prefixes of the parameters that CLIP checkpoints lack.
    added_prefixes: ClassVar[tuple[str, ...]] = (*REGIONAL_PREFIXES, "logit_bias")
    #: Whether texts are encoded with tags of their products, see :meth:`text_options`.
    reads_tags: ClassVar[bool] = False

    def __new__(cls, config: E2Config | None = None, *args: Any, **kwargs: Any) -> Self:
        """An instance of the variant for ``config``; without one (when copied or unpickled) of ``cls``."""
        del args, kwargs
        if cls is not E2Model or config is None:
            return super().__new__(cls)
        variants = [variant for variant in E2Model.__subclasses__() if variant.is_for(config)]
        if len(variants) > 1:
            names = " and ".join(variant.__name__ for variant in variants)
            raise E2FashionError(f"the model's configuration is for {names} at once: choose one of them")
        return super().__new__(cast(type[Self], variants[0]) if variants else cls)

    @classmethod
    def is_for(cls, config: E2Config) -> bool:
        """Whether this variant implements ``config``."""
        del config
        return False

    def __init__(self, config: E2Config) -> None:
        CLIPPreTrainedModel.__init__(self, config)  # CLIPModel.__init__ would build an unused vision tower
        vision_config, text_config = config.vision_config, config.text_config
        self.projection_dim = config.projection_dim
        self.text_embed_dim = text_config.hidden_size
        self.vision_embed_dim = vision_config.hidden_size
        self.text_model = CLIPTextModel._from_config(text_config)
        self.vision_model = E2VisionModel._from_config(vision_config)
        self.visual_projection = nn.Linear(self.vision_embed_dim, self.projection_dim, bias=False)
        self.text_projection = nn.Linear(self.text_embed_dim, self.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        bias = config.logit_bias_init_value
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(float(bias)))
        self.region_heads = RegionHeads(vision_config)
        self.add_parts(config)
        quicken(self)
        self.post_init()

    def add_parts(self, config: E2Config) -> None:
        """Create the additional modules of a variant, before weights are initialized: none here."""

    @classmethod
    def from_clip(
        cls,
        name_or_folder: str | Path,
        entities: EntitiesLike | None = None,
        fusion_layers: list[int] | tuple[int, ...] = (),
        **options: Any,
    ) -> E2Model:
        """An E2 with these entities and fusion blocks, CLIP's or SigLIP's weights, and random additional parameters.

        ``name_or_folder`` is a local folder, or a name on the Hugging Face hub (the only case that uses the network);
        ``options`` are further fields of :class:`E2VisionConfig` (``selection``, ``noise``, ...).

        Raises:
            E2FashionError: a missing folder, neither a CLIP nor a SigLIP, missing weights, or an unknown option.
        """
        model: E2Model = load_clip(cls, name_or_folder, entities, list(fusion_layers), **options)
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, E2Model) and module.logit_bias is not None:
            init.constant_(module.logit_bias, float(module.config.logit_bias_init_value or 0.0))

    def seed_selection_noise(self, *key: int) -> None:
        """Make the selection noise of the next training passes a function of ``key``: see :class:`E2VisionModel`."""
        self.vision_model.seed_selection_noise(*key)

    def unread_prefixes(self, reads_regions: bool) -> tuple[str, ...]:
        """Name prefixes of the parameters that a loss does not depend on: the region heads unless it ``reads_regions``.

        All others affect the features of images and texts, or (a fusion block after the last layer) get a zero
        gradient.
        """
        return () if reads_regions else ("region_heads.",)

    def departures(self) -> list[str]:
        """Phrases for the additions of this variant to E2, which a conversion to another layout loses."""
        return [] if self.logit_bias is None else ["the bias of its sigmoid loss, with which it rates a pair: 1 value"]

    def text_options(self, distinct: Tensor, tag_index: Tensor, tag_present: Tensor) -> dict[str, Tensor]:
        """Keyword arguments of :meth:`get_text_features` derived from a batch's tags: none here.

        ``distinct`` (U, C) are the unnormalized features of the batch's tag strings; ``tag_index`` and ``tag_present``
        (B, E + T), the tags of regions first.
        """
        del distinct, tag_index, tag_present
        return {}

    def _complete(self, complete_states: bool | None, config: Any, options: Mapping[str, Any]) -> bool:
        """Whether a tower computes all tokens: as requested in the call or the configuration, else in evaluation."""
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
        """Images (B, 3, H, W): ``pooler_output`` (B, C) projected, ``region_features`` (B, E, C), not normalized."""
        output = self.vision_model(
            pixel_values=pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            output_selection_maps=output_selection_maps,
            complete_states=self._complete(complete_states, self.vision_model.config, kwargs),
            return_dict=True,
            **kwargs,
        )
        output.pooler_output = self.visual_projection(output.pooler_output)
        output.region_features = self.region_heads(output.token_states, output.pooler_output)
        return output

    def get_region_features(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Region features (B, E, C) of images (B, 3, H, W), in the order of the entities, not normalized."""
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
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Texts (B, L): ``pooler_output`` (B, C) projected, not normalized.

        Without ``complete_states`` padding after the longest text is also removed.
        """
        if self._completes_text(attention_mask, complete_states, kwargs):
            output = self.text_model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                return_dict=True,
                **kwargs,
            )
        else:
            output = encode_text_end(self.text_model, input_ids, attention_mask, position_ids)
        output.pooler_output = self.text_projection(output.pooler_output)
        return output

    def _completes_text(
        self, attention_mask: Tensor | None, complete_states: bool | None, options: Mapping[str, Any]
    ) -> bool:
        """Whether the text tower computes all tokens: requested, or needed for the mask or attention implementation."""
        config = self.text_model.config
        plain_mask = attention_mask is None or attention_mask.ndim == 2
        plain_attention = config._attn_implementation in PLAIN_ATTENTION
        return self._complete(complete_states, config, options) or not (plain_mask and plain_attention)

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
        ``tag_index`` (B, E) int64 are indices into them and ``tag_present`` (B, E) bool is whether a product has the
        tag. The tags of T text entities of a variant follow those of the regions: (B, E + T).
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
                raise ValueError("tag_input_ids need tag_index and tag_present (B, E)")
            distinct = self.distinct_tags(tag_input_ids, tag_attention_mask)
            tag_embeds = self.region_tags(distinct, tag_index, tag_present)
            kwargs |= self.text_options(distinct, tag_index, tag_present)
        texts = self.get_text_features(
            input_ids, attention_mask=attention_mask, position_ids=position_ids, return_dict=True, **kwargs
        )
        return self.joined(images, texts, tag_embeds, bool(return_loss))

    def joined(
        self, images: E2VisionOutput, texts: BaseModelOutputWithPooling, tag_embeds: Tensor | None, return_loss: bool
    ) -> E2Output:
        """The model's output from both towers' features: embeddings, logits (B, B) and, on request, CLIP's loss."""
        assert images.pooler_output is not None
        assert images.region_features is not None
        assert texts.pooler_output is not None
        image_embeds = _normalized(images.pooler_output)
        text_embeds = _normalized(texts.pooler_output)
        per_text = self.logits(text_embeds @ image_embeds.t())
        per_image = per_text.t()
        return E2Output(
            loss=contrast(per_image, per_text) if return_loss else None,
            logits_per_image=per_image,
            logits_per_text=per_text,
            text_embeds=text_embeds,
            image_embeds=image_embeds,
            text_model_output=texts,
            vision_model_output=images,
            region_embeds=F.normalize(full_precision(images.region_features), dim=-1),
            tag_embeds=tag_embeds,
            logit_scale=self.logit_scale,
            logit_bias=self.logit_bias,
            selection_maps=images.selection_maps,
            selected_patches=images.selected_patches,
        )

    def logits(self, similarities: Tensor) -> Tensor:
        """Similarities of normalized embeddings with the temperature, and the bias if there is one, applied."""
        scaled = similarities * self.logit_scale.exp()
        return scaled if self.logit_bias is None else scaled + self.logit_bias

    def region_tags(self, distinct: Tensor, tag_index: Tensor, tag_present: Tensor) -> Tensor:
        """Normalized embeddings (B, E, C) of the regions' tags, the first of (B, E + T), from ``distinct`` (U, C).

        They are exactly zero in value and gradient where ``tag_present`` is false.
        """
        regions = len(self.region_heads.tokens_per_entity)
        normalized = F.normalize(full_precision(distinct), dim=-1)
        return of_products(normalized, tag_index[:, :regions], tag_present[:, :regions])

    def distinct_tags(self, tag_input_ids: Tensor, tag_attention_mask: Tensor | None) -> Tensor:
        """Features (U, C) of distinct tag strings (U, Lt), each encoded once, not normalized."""
        return self.get_text_features(
            tag_input_ids, tag_attention_mask, complete_states=False, return_dict=True
        ).pooler_output


def of_products(distinct: Tensor, tag_index: Tensor, tag_present: Tensor) -> Tensor:
    """The features of products' tags from those of distinct tags (U, C): (B, E, C), zero where a tag is absent."""
    if not len(distinct):
        return distinct.new_zeros(*tag_index.shape, distinct.shape[-1])
    # Absent tags have an arbitrary index; where() stops their gradient even if that row is not finite.
    return torch.where(
        tag_present[..., None], distinct[tag_index], torch.zeros((), dtype=distinct.dtype, device=distinct.device)
    )


class E2VisionModelWithProjection(RegionalInitialization, CLIPVisionModelWithProjection):
    """E2's image encoder, with CLIP's meaning of ``image_embeds``; loads from the folder of an :class:`E2Model`."""

    config: E2VisionConfig
    config_class = E2VisionConfig
    # All other parts of an E2Model or its variants.
    _keys_to_ignore_on_load_unexpected = [r"^(?!vision_model\.|visual_projection\.|region_heads\.)"]  # noqa: RUF012

    def __init__(self, config: E2VisionConfig) -> None:
        CLIPPreTrainedModel.__init__(self, config)
        self.vision_model = E2VisionModel._from_config(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.region_heads = RegionHeads(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        output_selection_maps: bool = False,
        **kwargs: Any,
    ) -> E2VisionModelOutput:
        """Images (B, 3, H, W): ``image_embeds`` (B, C) and ``region_features`` (B, E, C), neither normalized."""
        output = self.vision_model(
            pixel_values=pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            output_selection_maps=output_selection_maps,
            return_dict=True,
            **kwargs,
        )
        image_embeds = self.visual_projection(output.pooler_output)
        return E2VisionModelOutput(
            image_embeds=image_embeds,
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            region_features=self.region_heads(output.token_states, image_embeds),
            selection_maps=output.selection_maps,
            selected_patches=output.selected_patches,
        )
