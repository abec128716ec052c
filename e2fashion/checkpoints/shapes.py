"""The sizes of a CLIP in OpenAI's layout, the shapes that follow from them, and what a state dict has instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.types import E2FashionError

Shape = tuple[int, ...]
State = Mapping[str, Tensor]

VISION_LAYERS, TEXT_LAYERS = "visual.transformer.resblocks", "transformer.resblocks"
IMAGE_PROJECTION = "visual.proj"
KINDS = ("weight", "bias")
HEAD_WIDTH = 64
"""OpenAI's code gives every head this width."""

#: Numbers that OpenAI's archives hold beside the weights, by the size that they repeat.
SIZE_ENTRIES = {"input_resolution": "image_size", "context_length": "context", "vocab_size": "vocabulary"}
#: Known and left behind: those numbers, and buffers of older savers that any model makes for itself.
KNOWN_EXTRAS = re.compile(rf"({'|'.join(SIZE_ENTRIES)}|(.+\.)?(attn_mask|position_ids))")
#: Other families by keys that only they have, and what to do instead.
_FOREIGN = {
    "visual.layer1.": "a CLIP with a ResNet as its image tower; only vision transformers can be converted",
    "visual.trunk.": "an open_clip model with an image tower of timm; only OpenAI's own kind can be converted",
    "transformer.embeddings.": "an open_clip model with another text tower than CLIP's, which cannot be converted",
    "vision_model.": "in the layout of Transformers already: put it beside its config.json as model.safetensors",
}
_SHOWN = 5


@dataclass(frozen=True)
class OpenAIShape:
    """The sizes of a CLIP in OpenAI's layout, read from its tensors; ``mlp`` is the inner width of a layer's MLP."""

    vision_width: int
    vision_mlp: int
    vision_layers: int
    patch_size: int
    grid: int
    text_width: int
    text_mlp: int
    text_layers: int
    vocabulary: int
    context: int
    joint: int

    @property
    def image_size(self) -> int:
        """Pixels of a side."""
        return self.grid * self.patch_size

    @classmethod
    def of(cls, state: State, where: str = "the state dict") -> OpenAIShape:
        """Sizes of the model that ``state`` holds; errors call it ``where``.

        Raises:
            E2FashionError: a tensor that tells a size is missing or misshapen, or this is another kind of model.
        """
        for prefix, what in _FOREIGN.items():
            if any(key.startswith(prefix) for key in state):
                raise E2FashionError(f"{where} is {what} (it has keys {prefix}...)")
        patches = _shape(state, "visual.conv1.weight", 4, where)
        positions = _shape(state, "visual.positional_embedding", 2, where)[0]
        grid = round((positions - 1) ** 0.5)
        if grid**2 + 1 != positions:
            raise E2FashionError(
                f"{where}: 'visual.positional_embedding' has {positions} rows, not one for CLS and a square of patches"
            )
        vocabulary, text_width = _shape(state, "token_embedding.weight", 2, where)
        return cls(
            vision_width=patches[0],
            vision_mlp=_shape(state, f"{VISION_LAYERS}.0.mlp.c_fc.weight", 2, where)[0],
            vision_layers=count_numbers(state, rf"{re.escape(VISION_LAYERS)}\.(\d+)\."),
            patch_size=patches[-1],
            grid=grid,
            text_width=text_width,
            text_mlp=_shape(state, f"{TEXT_LAYERS}.0.mlp.c_fc.weight", 2, where)[0],
            text_layers=count_numbers(state, rf"{re.escape(TEXT_LAYERS)}\.(\d+)\."),
            vocabulary=vocabulary,
            context=_shape(state, "positional_embedding", 2, where)[0],
            joint=_shape(state, "text_projection", 2, where)[1],
        )


def _shape(state: State, key: str, dimensions: int, where: str) -> Shape:
    if key not in state:
        begin = ", ".join(sorted(state)[:3]) or "none"
        raise E2FashionError(
            f"{where} lacks {key!r}: it is no CLIP in OpenAI's layout, which open_clip and the official E2 share. "
            f"Its {len(state)} keys begin with: {begin}"
        )
    if state[key].ndim != dimensions:
        raise E2FashionError(
            f"{where}: {key!r} has shape {tuple(state[key].shape)}; {dimensions} dimensions were expected"
        )
    return tuple(state[key].shape)


def count_numbers(state: State, pattern: str) -> int:
    """How many different numbers occur in the keys that match."""
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def _tower_shapes(prefix: str, width: int, mlp: int, layers: int) -> dict[str, Shape]:
    """Keys and shapes of one transformer in OpenAI's layout."""
    block: dict[str, Shape] = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (mlp, width),
        "mlp.c_fc.bias": (mlp,),
        "mlp.c_proj.weight": (width, mlp),
        "mlp.c_proj.bias": (width,),
    }
    for norm in ("ln_1", "ln_2"):
        block |= {f"{norm}.{kind}": (width,) for kind in KINDS}
    return {f"{prefix}.{layer}.{key}": shape for layer in range(layers) for key, shape in block.items()}


def openai_shapes(sizes: OpenAIShape, image_projection: str = IMAGE_PROJECTION) -> dict[str, Shape]:
    """Every key of OpenAI's CLIP layout, with its shape."""
    vision, text = sizes.vision_width, sizes.text_width
    shapes: dict[str, Shape] = {
        "positional_embedding": (sizes.context, text),
        "text_projection": (text, sizes.joint),
        "logit_scale": (),
        "token_embedding.weight": (sizes.vocabulary, text),
        "visual.class_embedding": (vision,),
        "visual.positional_embedding": (sizes.grid**2 + 1, vision),
        "visual.conv1.weight": (vision, 3, sizes.patch_size, sizes.patch_size),
        image_projection: (vision, sizes.joint),
    }
    for norm, width in (("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)):
        shapes |= {f"{norm}.{kind}": (width,) for kind in KINDS}
    shapes |= _tower_shapes(VISION_LAYERS, vision, sizes.vision_mlp, sizes.vision_layers)
    return shapes | _tower_shapes(TEXT_LAYERS, text, sizes.text_mlp, sizes.text_layers)


def check_state(
    state: State, expected: Mapping[str, Shape], sizes: OpenAIShape, what: str, unused: re.Pattern[str] | None = None
) -> list[str]:
    """Every ``expected`` key there, in its shape and finite; the keys that are known and left behind.

    ``unused`` matches keys of this layout that its own forward pass never reads.

    Raises:
        E2FashionError: keys that are missing, unknown, misshapen or not finite, with counts and the first by name; a
            number such as ``input_resolution`` that contradicts the tensors.
    """
    patterns = [KNOWN_EXTRAS] if unused is None else [KNOWN_EXTRAS, unused]
    others = sorted(state.keys() - expected.keys())
    dropped = [key for key in others if any(pattern.fullmatch(key) for pattern in patterns)]
    found = {key: state[key] for key in expected if key in state}
    wrong = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": [key for key in others if key not in dropped],
        "misshapen": [
            f"{key} {tuple(value.shape)} instead of {expected[key]}"
            for key, value in found.items()
            if tuple(value.shape) != expected[key]
        ],
        "not finite": [key for key, value in found.items() if not torch.isfinite(value).all()],
        "contradicting the tensors": [
            f"{key} {int(state[key])} instead of {getattr(sizes, size)}"
            for key, size in SIZE_ENTRIES.items()
            if key in dropped and int(state[key]) != getattr(sizes, size)
        ],
    }
    problems = [f"{label} ({len(keys)}): {', '.join(keys[:_SHOWN])}" for label, keys in wrong.items() if keys]
    if problems:
        raise E2FashionError(
            f"not a state dict of {what}: {'; '.join(problems)}. Name the layout that it really has, or save it again "
            "from the code that made it; nothing is dropped or filled in unasked"
        )
    return dropped


def check_openai_rules(sizes: OpenAIShape, what: str) -> None:
    """Refuse sizes that OpenAI's own code, which derives heads and MLP widths, would not rebuild.

    Raises:
        E2FashionError: a width that heads of 64 do not divide, or an MLP that is not four times as wide.
    """
    for tower, width, mlp in (
        ("image", sizes.vision_width, sizes.vision_mlp),
        ("text", sizes.text_width, sizes.text_mlp),
    ):
        if mlp != 4 * width or width % HEAD_WIDTH:
            raise E2FashionError(
                f"{what}: the {tower} tower has width {width} and MLP width {mlp}; OpenAI's code knows heads of width "
                f"{HEAD_WIDTH} and MLPs of 4 x width alone. Take open_clip's layout, whose configuration says them"
            )
