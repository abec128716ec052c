"""CLIP in OpenAI's layout, computed from the state dict alone: what a converted model has to equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.checkpoints.openai import OpenAIShape, openai_shapes

State = dict[str, Tensor]
Activation = Callable[[Tensor], Tensor]

TINY = OpenAIShape(
    vision_width=128,
    vision_mlp=512,
    vision_layers=3,
    patch_size=8,
    grid=3,
    text_width=64,
    text_mlp=256,
    text_layers=2,
    vocabulary=60,
    context=9,
    joint=32,
)
#: Patch size and grid of the published models, at a fraction of their depth, width and vocabulary.
PUBLISHED = {
    "ViT-B-32": replace(TINY, vision_layers=2, patch_size=32, grid=7),
    "ViT-B-16": replace(TINY, vision_layers=2, patch_size=16, grid=14),
    "ViT-L-14": replace(TINY, vision_layers=2, patch_size=14, grid=16, vision_width=192, vision_mlp=768, joint=48),
}


def random_state(sizes: OpenAIShape, scale: float = 0.15, seed: int = 0) -> State:
    """Random weights under OpenAI's names."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) * scale for key, shape in openai_shapes(sizes).items()}


def quick_gelu(states: Tensor) -> Tensor:
    return states * torch.sigmoid(1.702 * states)


def norm(state: State, key: str, states: Tensor) -> Tensor:
    return F.layer_norm(states, states.shape[-1:], state[f"{key}.weight"], state[f"{key}.bias"])


def block(
    state: State,
    key: str,
    states: Tensor,
    mask: Tensor | None = None,
    activation: Activation = quick_gelu,
    heads: int | None = None,
) -> Tensor:
    """A residual attention block on (B, T, D); heads have width 64 unless their number is given."""
    width = states.shape[-1]
    attended, _ = F.multi_head_attention_forward(
        *[norm(state, f"{key}.ln_1", states).transpose(0, 1)] * 3,
        width,
        heads or width // 64,
        state[f"{key}.attn.in_proj_weight"],
        state[f"{key}.attn.in_proj_bias"],
        None,
        None,
        False,
        0.0,
        state[f"{key}.attn.out_proj.weight"],
        state[f"{key}.attn.out_proj.bias"],
        attn_mask=mask,
        need_weights=False,
    )
    states = states + attended.transpose(0, 1)
    hidden = F.linear(
        norm(state, f"{key}.ln_2", states), state[f"{key}.mlp.c_fc.weight"], state[f"{key}.mlp.c_fc.bias"]
    )
    return states + F.linear(activation(hidden), state[f"{key}.mlp.c_proj.weight"], state[f"{key}.mlp.c_proj.bias"])


def layers(state: State, prefix: str) -> int:
    return len({key.removeprefix(f"{prefix}.").split(".")[0] for key in state if key.startswith(f"{prefix}.")})


def encode_image(state: State, pixels: Tensor, activation: Activation = quick_gelu, heads: int | None = None) -> Tensor:
    """Features (B, C) of pixels (B, 3, H, W), not normalized."""
    size = state["visual.conv1.weight"].shape[-1]
    patches = F.conv2d(pixels, state["visual.conv1.weight"], stride=size).flatten(2).transpose(1, 2)
    cls = state["visual.class_embedding"].expand(len(pixels), 1, -1)
    states = norm(state, "visual.ln_pre", torch.cat([cls, patches], 1) + state["visual.positional_embedding"])
    for layer in range(layers(state, "visual.transformer.resblocks")):
        states = block(state, f"visual.transformer.resblocks.{layer}", states, None, activation, heads)
    return norm(state, "visual.ln_post", states[:, 0]) @ state["visual.proj"]


def encode_text(state: State, ids: Tensor, activation: Activation = quick_gelu, heads: int | None = None) -> Tensor:
    """Features (B, C) of token ids (B, L), read at the largest id, not normalized."""
    length = ids.shape[1]
    states = state["token_embedding.weight"][ids] + state["positional_embedding"][:length]
    mask = torch.full((length, length), float("-inf")).triu(1)
    for layer in range(layers(state, "transformer.resblocks")):
        states = block(state, f"transformer.resblocks.{layer}", states, mask, activation, heads)
    return norm(state, "ln_final", states)[torch.arange(len(ids)), ids.argmax(-1)] @ state["text_projection"]


def logits(state: State, pixels: Tensor, ids: Tensor, activation: Activation = quick_gelu) -> Tensor:
    """Logits per image (B, N)."""
    images = F.normalize(encode_image(state, pixels, activation), dim=-1)
    texts = F.normalize(encode_text(state, ids, activation), dim=-1)
    return state["logit_scale"].exp() * images @ texts.T
