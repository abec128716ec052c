"""The state dicts of the official E2 code, both ways: OpenAI's layout plus tokens, fusion blocks and region heads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from e2fashion.checkpoints.openai import (
    KINDS,
    Facts,
    OpenAIShape,
    Shape,
    State,
    check_openai_rules,
    check_state,
    count_numbers,
    filled,
    openai_shapes,
    shape_of,
    to_openai,
    to_transformers,
    tower_configs,
)
from e2fashion.models.configuration_e2 import JOINED_LATER, REGIONAL_FIELDS, E2Config
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.types import E2FashionError

OFFICIAL_ENTITIES = ("sub_category", "brand", "description", "season", "composition")
"""The official groups in their order; the 4-group model has the first four."""
OFFICIAL_FUSION_LAYERS = (8, 11)
TOKENS_PER_ENTITY = 2
IMAGE_PROJECTION = "visual.proj_cls"
OFFICIAL_CODE = "the official E2 code (rclip_v2 or rclip_v2_5)"

#: In the official state dict, never read by its forward pass.
UNUSED = re.compile(r"visual\.(proj|proj_cls_mid|ln_selection\.(weight|bias)|ln_s5\.(weight|bias))")


def _region_shapes(groups: int, sizes: OpenAIShape) -> dict[str, Shape]:
    """Keys and shapes that the official code adds to OpenAI's and reads."""
    width = sizes.vision_width
    shapes: dict[str, Shape] = {}
    for token in range(1, TOKENS_PER_ENTITY * groups + 1):
        shapes[f"visual.token_{token}_embedding"] = (width,)
    for block in ("", "2"):
        shapes |= {f"visual.proj_{kind}{block}": (width, width) for kind in "qkv"}
    for group in range(1, groups + 1):
        shapes[f"visual.proj_s{group}"] = (width, sizes.joint)
        shapes |= {f"visual.ln_s{min(group, 4)}.{kind}": (width,) for kind in KINDS}
    return shapes


def _equal_tensors(entities: Sequence[str]) -> dict[str, str]:
    """Official names and ours of the tensors that are the same in both.

    The 5-group model normalizes its fifth group with the fourth group's LayerNorm; that of the fifth is never trained.
    """
    return {
        f"region_heads.{entity}.layer_norm.{kind}": f"visual.ln_s{min(index + 1, 4)}.{kind}"
        for index, entity in enumerate(entities)
        for kind in KINDS
    }


def _transposed(entities: Sequence[str], fusion_layers: Sequence[int]) -> dict[str, str]:
    """Ours and the official names of the matrices that the official code multiplies from the right."""
    pairs = {f"region_heads.{name}.projection.weight": f"visual.proj_s{i + 1}" for i, name in enumerate(entities)}
    for layer, block in zip(fusion_layers, ("", "2"), strict=True):
        for name in ("query", "key", "value"):
            pairs[f"vision_model.fusion_blocks.{layer}.{name}.weight"] = f"visual.proj_{name[0]}{block}"
    return pairs


def _token_names(index: int, groups: int) -> list[str]:
    """The names of a group's tokens in sequence: the code prepends them one by one, so the last comes first."""
    count, start = TOKENS_PER_ENTITY * groups, TOKENS_PER_ENTITY * index
    return [f"visual.token_{count - start - offset}_embedding" for offset in range(TOKENS_PER_ENTITY)]


def _regions_from_official(state: State, entities: Sequence[str], fusion_layers: Sequence[int]) -> dict[str, Tensor]:
    """Tokens, fusion blocks and region heads under our names."""
    mapped = {ours: state[official] for ours, official in _equal_tensors(entities).items()}
    mapped |= {ours: state[official].T for ours, official in _transposed(entities, fusion_layers).items()}
    for index, entity in enumerate(entities):
        tokens = [state[name] for name in _token_names(index, len(entities))]
        mapped[f"vision_model.selection_tokens.{entity}"] = torch.stack(tokens)
    return mapped


def official_e2_to_e2(
    state_dict: Mapping[str, Any],
    fusion_layers: Sequence[int] = OFFICIAL_FUSION_LAYERS,
    special: Mapping[str, int] | None = None,
    dropped: list[str] | None = None,
) -> E2Model:
    """The official 4- or 5-group E2 (``rclip_v2``, ``rclip_v2_5``) as our model, float32, in evaluation mode.

    ``state_dict`` holds tensors or arrays under the official key names. The entities are the first four or five of
    :data:`OFFICIAL_ENTITIES` with two tokens each. The last region averages both of its tokens, where the official
    code pools only the first (its defect); all other outputs are the official ones without noise. ``special`` are the
    ids of the start, end and pad token; ``dropped`` is filled with the keys that are known and left behind.

    Raises:
        E2FashionError: keys that are missing, unknown or misshapen, by name; another number of groups.
    """
    state = {key: torch.as_tensor(value).float() for key, value in state_dict.items()}
    sizes = OpenAIShape.of(state)
    groups = count_numbers(state, r"visual\.proj_s(\d+)$")
    if groups not in (4, 5):
        raise E2FashionError(f"the state dict has {groups} groups (keys visual.proj_s<number>); 4 or 5 were expected")
    _two_layers(fusion_layers)
    expected = openai_shapes(sizes, IMAGE_PROJECTION) | _region_shapes(groups, sizes)
    known = check_state(state, expected, sizes, OFFICIAL_CODE, UNUSED)
    if dropped is not None:
        dropped += known
    check_openai_rules(sizes, "the state dict")
    entities = OFFICIAL_ENTITIES[:groups]
    towers = tower_configs(sizes, Facts("quick_gelu", special=dict(special or {})))
    towers["vision_config"] |= {
        "entities": list(entities),
        "fusion_layers": list(fusion_layers),
        "projection_init": "random",
    }
    regions = _regions_from_official(state, entities, fusion_layers)
    return filled(
        E2Model,
        E2Config(**towers, projection_dim=sizes.joint),
        to_transformers(state, sizes, IMAGE_PROJECTION) | regions,
    )


def _two_layers(fusion_layers: Sequence[int]) -> None:
    if len(fusion_layers) != 2:
        raise E2FashionError(f"fusion_layers is {list(fusion_layers)}; the official model has two fusion blocks")


def e2_to_official(model: E2Model, fusion_layers: Sequence[int] = OFFICIAL_FUSION_LAYERS) -> dict[str, Tensor]:
    """An E2 under the official names, with every key that the official class asks for.

    What its forward pass never reads is filled in: ``visual.proj`` with the image projection, the others with zeros
    (LayerNorms: as they start). ``fusion_layers`` are those of the code that will read it, which the state dict
    does not hold.

    Raises:
        E2FashionError: the official code would compute something else; all reasons are named.
    """
    reasons = official_obstacles(model, fusion_layers)
    if reasons:
        raise E2FashionError(
            f"the official E2 code would compute something else: {'; '.join(reasons)}. Keep this model in its folder"
        )
    entities = [entity.name for entity in model.config.vision_config.entity_list]
    state, sizes, groups = model.state_dict(), shape_of(model), len(entities)
    mapped = to_openai(model, IMAGE_PROJECTION)
    mapped |= {official: state[ours] for ours, official in _equal_tensors(entities).items()}
    mapped |= {official: state[ours].T for ours, official in _transposed(entities, fusion_layers).items()}
    for index, entity in enumerate(entities):
        tokens = state[f"vision_model.selection_tokens.{entity}"]
        mapped |= dict(zip(_token_names(index, groups), tokens, strict=True))
    mapped["visual.proj"] = mapped[IMAGE_PROJECTION]
    mapped["visual.proj_cls_mid"] = torch.zeros(sizes.vision_width, sizes.joint)
    for norm in ("ln_selection", *(["ln_s5"] if groups == 5 else [])):
        mapped |= {
            f"visual.{norm}.weight": torch.ones(sizes.vision_width),
            f"visual.{norm}.bias": torch.zeros(sizes.vision_width),
        }
    return {key: value.detach().contiguous().clone() for key, value in mapped.items()}


def official_obstacles(model: E2Model, fusion_layers: Sequence[int] = OFFICIAL_FUSION_LAYERS) -> list[str]:
    """Why the official code would not compute what ``model`` does in evaluation; empty where it would.

    The last group is not among them: the official code pools its first token alone, whatever the weights.
    """
    _two_layers(fusion_layers)
    vision, reasons = model.config.vision_config, []
    entities = vision.entity_list
    expected = {
        "fusion_layers": (list(vision.active_fusion_layers), list(fusion_layers)),
        "tokens of each entity": (sorted({entity.tokens for entity in entities}), [TOKENS_PER_ENTITY]),
        "selection": (vision.selection, "hard"),
        "patches_per_token": (vision.patches_per_token, 1),
        "drop_patches": (vision.drop_patches, True),
        "token_gate": (vision.token_gate, None),
        # key_gradient matters in training alone.
        **{
            name: (getattr(vision, name), JOINED_LATER[name])
            for name in REGIONAL_FIELDS
            if name in JOINED_LATER and name != "key_gradient"
        },
    }
    names = tuple(entity.name for entity in entities)
    if names not in (OFFICIAL_ENTITIES[:4], OFFICIAL_ENTITIES):
        known = ", ".join(OFFICIAL_ENTITIES)
        reasons.append(f"its groups are {known}, the first four or all; this model's are {', '.join(names) or 'none'}")
    reasons += [f"{key} is {value}, there {there}" for key, (value, there) in expected.items() if value != there]
    reasons += [f"it does not know {departure}" for departure in model.departures()]
    if names == OFFICIAL_ENTITIES:
        state = model.state_dict()
        unused, used = (f"region_heads.{name}.layer_norm." for name in (names[4], names[3]))
        if any(not torch.equal(state[unused + kind], state[used + kind]) for kind in KINDS):
            reasons.append("it normalizes the fifth group with the fourth's LayerNorm, and this model's fifth differs")
    return reasons
