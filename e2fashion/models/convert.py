"""Foreign checkpoint layouts: the official E2 code's, which is OpenAI's CLIP layout plus tokens, fusion and regions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextConfig
from transformers.initialization import no_init_weights

from e2fashion.models.configuration_e2 import E2Config, E2VisionConfig
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.types import E2FashionError

OFFICIAL_ENTITIES = ("sub_category", "brand", "description", "season", "composition")
"""The official groups in their order; the 4-group model has the first four."""
OFFICIAL_FUSION_LAYERS = (8, 11)
TOKENS_PER_ENTITY = 2
HEAD_WIDTH = 64

# In the official state dict, never read by its forward pass (the last three belong to OpenAI's archives).
_UNUSED = re.compile(
    r"visual\.(proj|proj_cls_mid|ln_selection\.(weight|bias)|ln_s5\.(weight|bias))"
    r"|input_resolution|context_length|vocab_size"
)
_LAYER_NORMS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}
_MLP = {"c_fc": "fc1", "c_proj": "fc2"}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class OpenAIShape:
    """The sizes of a CLIP in OpenAI's layout, read from its tensors."""

    vision_width: int
    vision_layers: int
    patch_size: int
    grid: int
    text_width: int
    text_layers: int
    vocabulary: int
    context: int
    joint: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> OpenAIShape:
        """Sizes of the model that ``state`` holds."""
        patches = _shape(state, "visual.conv1.weight", 4)
        vocabulary, text_width = _shape(state, "token_embedding.weight", 2)
        return cls(
            vision_width=patches[0],
            vision_layers=_count(state, r"visual\.transformer\.resblocks\.(\d+)\."),
            patch_size=patches[-1],
            grid=round((_shape(state, "visual.positional_embedding", 2)[0] - 1) ** 0.5),
            text_width=text_width,
            text_layers=_count(state, r"transformer\.resblocks\.(\d+)\."),
            vocabulary=vocabulary,
            context=_shape(state, "positional_embedding", 2)[0],
            joint=_shape(state, "text_projection", 2)[1],
        )


def _shape(state: Mapping[str, Tensor], key: str, dimensions: int) -> Shape:
    if key not in state:
        raise E2FashionError(f"the state dict lacks {key!r}; is it a checkpoint of the official code?")
    if state[key].ndim != dimensions:
        raise E2FashionError(f"{key!r} has shape {tuple(state[key].shape)}; {dimensions} dimensions were expected")
    return tuple(state[key].shape)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers occur in the keys that match."""
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def _openai_tower_shapes(prefix: str, width: int, layers: int) -> dict[str, Shape]:
    """Keys and shapes of one transformer in OpenAI's layout."""
    block: dict[str, Shape] = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    for norm in _LAYER_NORMS:
        block |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return {f"{prefix}.{layer}.{key}": shape for layer in range(layers) for key, shape in block.items()}


def openai_shapes(sizes: OpenAIShape) -> dict[str, Shape]:
    """Every key of OpenAI's CLIP layout but its image projection, with its shape."""
    vision, text = sizes.vision_width, sizes.text_width
    shapes: dict[str, Shape] = {
        "positional_embedding": (sizes.context, text),
        "text_projection": (text, sizes.joint),
        "logit_scale": (),
        "token_embedding.weight": (sizes.vocabulary, text),
        "visual.class_embedding": (vision,),
        "visual.positional_embedding": (sizes.grid**2 + 1, vision),
        "visual.conv1.weight": (vision, 3, sizes.patch_size, sizes.patch_size),
    }
    for norm, width in (("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    shapes |= _openai_tower_shapes("visual.transformer.resblocks", vision, sizes.vision_layers)
    return shapes | _openai_tower_shapes("transformer.resblocks", text, sizes.text_layers)


def _tower_from_openai(state: Mapping[str, Tensor], source: str, target: str, layers: int) -> dict[str, Tensor]:
    """The layers of one transformer under Hugging Face's names."""
    mapped: dict[str, Tensor] = {}
    for layer in range(layers):
        old, new = f"{source}.{layer}", f"{target}.encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            joined = state[f"{old}.attn.in_proj_{kind}"].chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), joined, strict=True):
                mapped[f"{new}.self_attn.{name}.{kind}"] = part
            mapped[f"{new}.self_attn.out_proj.{kind}"] = state[f"{old}.attn.out_proj.{kind}"]
            for before, after in _LAYER_NORMS.items():
                mapped[f"{new}.{after}.{kind}"] = state[f"{old}.{before}.{kind}"]
            for before, after in _MLP.items():
                mapped[f"{new}.mlp.{after}.{kind}"] = state[f"{old}.mlp.{before}.{kind}"]
    return mapped


def openai_to_clip(state: Mapping[str, Tensor], sizes: OpenAIShape) -> dict[str, Tensor]:
    """OpenAI's layout under the names of ``CLIPModel``, but for the image projection."""
    mapped = {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T,
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    for kind in ("weight", "bias"):
        mapped[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        mapped[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        mapped[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
    mapped |= _tower_from_openai(state, "visual.transformer.resblocks", "vision_model", sizes.vision_layers)
    return mapped | _tower_from_openai(state, "transformer.resblocks", "text_model", sizes.text_layers)


def openai_config(sizes: OpenAIShape, **vision_options: Any) -> E2Config:
    """The configuration of a model in OpenAI's layout: heads of width 64, quick GELU, the end token last but none."""
    text = CLIPTextConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.text_width,
        intermediate_size=4 * sizes.text_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=max(1, sizes.text_width // HEAD_WIDTH),
        max_position_embeddings=sizes.context,
        bos_token_id=sizes.vocabulary - 2,
        eos_token_id=sizes.vocabulary - 1,  # the official code reads a text at its largest id
    )
    vision = E2VisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=4 * sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=max(1, sizes.vision_width // HEAD_WIDTH),
        image_size=sizes.grid * sizes.patch_size,
        patch_size=sizes.patch_size,
        **vision_options,
    )
    return E2Config(text_config=text.to_dict(), vision_config=vision, projection_dim=sizes.joint)


def _region_shapes(groups: int, sizes: OpenAIShape) -> dict[str, Shape]:
    """Keys and shapes that the official code adds to OpenAI's."""
    width = sizes.vision_width
    shapes: dict[str, Shape] = {"visual.proj_cls": (width, sizes.joint)}
    for token in range(1, TOKENS_PER_ENTITY * groups + 1):
        shapes[f"visual.token_{token}_embedding"] = (width,)
    for block in ("", "2"):
        shapes |= {f"visual.proj_{kind}{block}": (width, width) for kind in "qkv"}
    for group in range(1, groups + 1):
        shapes[f"visual.proj_s{group}"] = (width, sizes.joint)
        norm = f"visual.ln_s{min(group, 4)}"
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return shapes


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Shape]) -> None:
    """Every expected key there, in its shape, and no key that nobody knows."""
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(key for key in state.keys() - expected.keys() if not _UNUSED.fullmatch(key))
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    problems = [
        f"{label} ({len(keys)}): {', '.join(keys[:5])}"
        for label, keys in (("missing", missing), ("unknown", unknown), ("misshapen", misshapen))
        if keys
    ]
    if problems:
        raise E2FashionError(
            f"not a state dict of the official E2 code (rclip_v2 or rclip_v2_5): {'; '.join(problems)}"
        )


def _regions_from_official(
    state: Mapping[str, Tensor], entities: Sequence[str], fusion_layers: Sequence[int]
) -> dict[str, Tensor]:
    """Tokens, fusion blocks and region heads under our names."""
    mapped = {"visual_projection.weight": state["visual.proj_cls"].T}
    count = TOKENS_PER_ENTITY * len(entities)
    # The official code prepends the tokens one by one, so position 0 holds the last of them.
    sequence = [state[f"visual.token_{count - position}_embedding"] for position in range(count)]
    for index, entity in enumerate(entities):
        start = TOKENS_PER_ENTITY * index
        mapped[f"vision_model.selection_tokens.{entity}"] = torch.stack(sequence[start : start + TOKENS_PER_ENTITY])
        head = f"region_heads.{entity}"
        mapped[f"{head}.projection.weight"] = state[f"visual.proj_s{index + 1}"].T
        # The 5-group model normalises its fifth group with the fourth group's LayerNorm; its own is never trained.
        for kind in ("weight", "bias"):
            mapped[f"{head}.layer_norm.{kind}"] = state[f"visual.ln_s{min(index + 1, 4)}.{kind}"]
    for layer, block in zip(fusion_layers, ("", "2"), strict=True):
        for name in ("query", "key", "value"):  # official weights multiply from the right
            mapped[f"vision_model.fusion_blocks.{layer}.{name}.weight"] = state[f"visual.proj_{name[0]}{block}"].T
    return mapped


def official_e2_to_e2(
    state_dict: Mapping[str, Any], fusion_layers: tuple[int, int] = OFFICIAL_FUSION_LAYERS
) -> E2Model:
    """The official 4- or 5-group E2 (``rclip_v2``, ``rclip_v2_5``) as our model, float32, in evaluation mode.

    ``state_dict`` holds tensors or arrays under the official key names. The entities are the first four or five of
    :data:`OFFICIAL_ENTITIES` with two tokens each. The last region averages both of its tokens, where the official
    code pools only the first (its defect); all other outputs are the official ones without noise.

    Raises:
        E2FashionError: keys that are missing, unknown or misshapen, by name; another number of groups.
    """
    state = {key: torch.as_tensor(value).float() for key, value in state_dict.items()}
    sizes = OpenAIShape.of(state)
    groups = _count(state, r"visual\.proj_s(\d+)$")
    if groups not in (4, 5):
        raise E2FashionError(f"the state dict has {groups} groups (keys visual.proj_s<number>); 4 or 5 were expected")
    _check(state, openai_shapes(sizes) | _region_shapes(groups, sizes))
    entities = OFFICIAL_ENTITIES[:groups]
    config = openai_config(sizes, entities=list(entities), fusion_layers=list(fusion_layers), projection_init="random")
    with no_init_weights():
        model = E2Model(config)
    model.load_state_dict(openai_to_clip(state, sizes) | _regions_from_official(state, entities, fusion_layers))
    return model.eval()
