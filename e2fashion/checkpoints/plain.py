"""A model as the plain CLIP that other layouts can hold: what stands in the way, and what is lost."""

from __future__ import annotations

from typing import Any

from transformers import CLIPConfig, CLIPModel

from e2fashion.checkpoints.names import filled, shape_of
from e2fashion.checkpoints.open_clip import ACTIVATIONS
from e2fashion.checkpoints.shapes import HEAD_WIDTH
from e2fashion.models.from_clip import REGIONAL_PREFIXES
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import ARGMAX_END

_EPSILON = 1e-5


def obstacles(model: CLIPModel, openai: bool) -> list[str]:
    """Why a reader of OpenAI's layout (or of open_clip's, which has a configuration) would compute something else."""
    sizes, reasons = shape_of(model), []
    towers: dict[str, Any] = {"image": model.config.vision_config, "text": model.config.text_config}
    acts = {config.hidden_act for config in towers.values()}
    if openai and acts != {ACTIVATIONS[True]}:
        reasons.append(f"its activation is {' and '.join(sorted(acts))}, and OpenAI's code knows quick_gelu alone")
    elif len(acts) > 1 or not acts <= set(ACTIVATIONS.values()):
        reasons.append(
            f"its activation is {' and '.join(sorted(acts))}, and open_clip knows quick_gelu or gelu in both"
        )
    for name, config in towers.items():
        if config.layer_norm_eps != _EPSILON:
            reasons.append(f"the {name} tower's layer_norm_eps is {config.layer_norm_eps}, there {_EPSILON}")
        if openai and config.num_attention_heads * HEAD_WIDTH != config.hidden_size:
            width = config.hidden_size / config.num_attention_heads
            reasons.append(f"the {name} tower's heads have width {width:g}, there {HEAD_WIDTH}")
        if openai and config.intermediate_size != 4 * config.hidden_size:
            reasons.append(f"the {name} tower's MLP is not four times as wide as the tower")
    end = towers["text"].eos_token_id
    if end not in (ARGMAX_END, sizes.vocabulary - 1):
        reasons.append(
            f"texts are read there at their largest token id, and this model's end token {end} is not the last of "
            f"{sizes.vocabulary}"
        )
    return reasons


def lost_parts(model: CLIPModel) -> list[str]:
    """What a plain CLIP does not hold of a model, with counts; empty for a CLIP."""
    if not isinstance(model, E2Model):
        return []
    counts = {
        prefix: sum(value.numel() for key, value in model.named_parameters() if key.startswith(prefix))
        for prefix in REGIONAL_PREFIXES
    }
    vision, lost = model.config.vision_config, []
    entities = vision.entity_list
    names, tokens = ", ".join(entity.name for entity in entities), sum(entity.tokens for entity in entities)
    layers = vision.active_fusion_layers
    said = {
        "vision_model.selection_tokens.": f"{tokens} selection tokens of {len(entities)} entities ({names})",
        "vision_model.fusion_blocks.": f"{len(layers)} fusion blocks behind layers {', '.join(map(str, layers))}",
        "vision_model.token_gates.": "the attention gates of the tokens",
        "region_heads.": f"{len(entities)} region projections with their LayerNorms",
    }
    lost += [f"{said[prefix]}: {count:,} values" for prefix, count in counts.items() if count]
    return lost + model.departures()


def plain_clip(model: CLIPModel) -> CLIPModel:
    """The CLIP within a model; of an E2 with entities its image features differ, for CLS attends to the tokens."""
    if not isinstance(model, E2Model):
        return model
    towers: dict[str, Any] = {
        key: {name: value for name, value in getattr(model.config, key).to_dict().items() if name != "model_type"}
        for key in ("text_config", "vision_config")
    }
    own = set(CLIPConfig.sub_configs["vision_config"]().to_dict())
    towers["vision_config"] = {key: value for key, value in towers["vision_config"].items() if key in own}
    config = CLIPConfig(**towers, projection_dim=model.config.projection_dim)
    tensors = {key: value for key, value in model.state_dict().items() if not key.startswith(model.added_prefixes)}
    return filled(CLIPModel, config, tensors)
