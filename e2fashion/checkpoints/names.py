"""OpenAI's names of a CLIP's tensors and those of Transformers, both ways, and the model that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig
from transformers.initialization import no_init_weights

from e2fashion.checkpoints.shapes import (
    HEAD_WIDTH,
    IMAGE_PROJECTION,
    KINDS,
    TEXT_LAYERS,
    VISION_LAYERS,
    OpenAIShape,
    State,
)
from e2fashion.models.loading import load_module
from e2fashion.types import E2FashionError

Model = TypeVar("Model", bound=CLIPModel)

_LAYER_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_SINGLE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
}
_JOINED = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Facts:
    """What a state dict in OpenAI's layout does not hold: the activation, the heads, the special tokens.

    Heads of None have width 64, as OpenAI's code gives them. Without ``special`` ids (``bos_token_id``, ...) start and
    end are the last two of the vocabulary, as in CLIP's; the text is read at its largest id, so the end must be last.
    """

    activation: str
    vision_heads: int | None = None
    text_heads: int | None = None
    special: dict[str, int] = field(default_factory=dict)


def _layers(sizes: OpenAIShape) -> list[tuple[str, str]]:
    """Each layer's prefix in both layouts."""
    towers = ((VISION_LAYERS, "vision_model", sizes.vision_layers), (TEXT_LAYERS, "text_model", sizes.text_layers))
    return [(f"{old}.{layer}", f"{new}.encoder.layers.{layer}") for old, new, n in towers for layer in range(n)]


def _same(sizes: OpenAIShape) -> dict[str, str]:
    """OpenAI's names, and Transformers', of the tensors that are the same in both."""
    pairs = dict(_SINGLE)
    for kind in KINDS:
        pairs |= {f"{old}.{kind}": f"{new}.{kind}" for old, new in _NORMS.items()}
        for old, new in _layers(sizes):
            pairs |= {f"{old}.{part}.{kind}": f"{new}.{other}.{kind}" for part, other in _LAYER_PARTS.items()}
    return pairs


def _transposed(image_projection: str) -> dict[str, str]:
    """Those that OpenAI multiplies from the right."""
    return {"text_projection": "text_projection.weight", image_projection: "visual_projection.weight"}


def to_transformers(state: State, sizes: OpenAIShape, image_projection: str = IMAGE_PROJECTION) -> dict[str, Tensor]:
    """A state dict in OpenAI's layout under the names of ``CLIPModel``."""
    mapped = {new: state[old] for old, new in _same(sizes).items()}
    mapped |= {new: state[old].T for old, new in _transposed(image_projection).items()}
    for old, new in _layers(sizes):
        for kind in KINDS:
            parts = state[f"{old}.attn.in_proj_{kind}"].chunk(len(_JOINED))
            mapped |= {f"{new}.self_attn.{n}.{kind}": part for n, part in zip(_JOINED, parts, strict=True)}
    return mapped


def to_openai(model: CLIPModel, image_projection: str = IMAGE_PROJECTION) -> dict[str, Tensor]:
    """The CLIP of a model under OpenAI's names; what an E2 adds is not among them."""
    state, sizes = model.state_dict(), shape_of(model)
    mapped = {old: state[new] for old, new in _same(sizes).items()}
    mapped |= {old: state[new].T for old, new in _transposed(image_projection).items()}
    for old, new in _layers(sizes):
        for kind in KINDS:
            parts = [state[f"{new}.self_attn.{name}.{kind}"] for name in _JOINED]
            mapped[f"{old}.attn.in_proj_{kind}"] = torch.cat(parts)
    return {key: value.detach().contiguous().clone() for key, value in mapped.items()}


def shape_of(model: CLIPModel) -> OpenAIShape:
    """The sizes of a model, from its configuration."""
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    return OpenAIShape(
        vision_width=vision.hidden_size,
        vision_mlp=vision.intermediate_size,
        vision_layers=vision.num_hidden_layers,
        patch_size=vision.patch_size,
        grid=vision.image_size // vision.patch_size,
        text_width=text.hidden_size,
        text_mlp=text.intermediate_size,
        text_layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
        context=text.max_position_embeddings,
        joint=int(model.visual_projection.out_features),
    )


def tower_configs(sizes: OpenAIShape, facts: Facts) -> dict[str, Any]:
    """``text_config`` and ``vision_config`` of a model of these sizes.

    Raises:
        E2FashionError: heads that do not divide a tower's width.
    """
    text_heads = facts.text_heads or max(1, sizes.text_width // HEAD_WIDTH)
    vision_heads = facts.vision_heads or max(1, sizes.vision_width // HEAD_WIDTH)
    for key, width, heads in (
        ("text_heads", sizes.text_width, text_heads),
        ("vision_heads", sizes.vision_width, vision_heads),
    ):
        if heads < 1 or width % heads:
            raise E2FashionError(f"{key} is {heads}, which does not divide the tower's width {width}")
    special: dict[str, Any] = dict(facts.special) or {
        "bos_token_id": sizes.vocabulary - 2,
        "eos_token_id": sizes.vocabulary - 1,
        "pad_token_id": sizes.vocabulary - 1,
    }
    text = CLIPTextConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.text_width,
        intermediate_size=sizes.text_mlp,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=text_heads,
        max_position_embeddings=sizes.context,
        projection_dim=sizes.joint,
        hidden_act=facts.activation,
        **special,
    )
    vision = CLIPVisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=sizes.vision_mlp,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=vision_heads,
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        projection_dim=sizes.joint,  # read by the towers with a projection of their own
        hidden_act=facts.activation,
    )
    return {"text_config": text.to_dict(), "vision_config": vision.to_dict()}


def filled(model_class: type[Model], config: CLIPConfig, tensors: State) -> Model:
    """A model of ``config`` that holds ``tensors``, float32, in evaluation mode."""
    with no_init_weights():
        model = model_class(config)
    load_module(model, {key: value.float() for key, value in tensors.items()}, "the converted state dict")
    return model.eval()


def clip_from_openai(state: State, sizes: OpenAIShape, facts: Facts) -> CLIPModel:
    """The CLIP that a checked state dict in OpenAI's layout holds."""
    config = CLIPConfig(**tower_configs(sizes, facts), projection_dim=sizes.joint)
    return filled(CLIPModel, config, to_transformers(state, sizes))
