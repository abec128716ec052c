"""A CLIP in OpenAI's layout: its sizes and shapes, what a state dict has instead, and its names in Transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig
from transformers.initialization import no_init_weights

from e2fashion.models.loading import load_module
from e2fashion.types import E2FashionError

Shape = tuple[int, ...]
State = Mapping[str, Tensor]
Model = TypeVar("Model", bound=CLIPModel)

VISION_LAYERS, TEXT_LAYERS = "visual.transformer.resblocks", "transformer.resblocks"
IMAGE_PROJECTION = "visual.proj"
KINDS = ("weight", "bias")
LAYOUT_NAMES = {"openai": "OpenAI's CLIP", "open_clip": "open_clip", "e2_official": "the official E2 code"}
"""The layouts of others as messages call them."""
HEAD_WIDTH = 64
"""OpenAI's code gives every head this width."""

#: Numbers that OpenAI's archives hold besides the weights, by the size that they repeat.
SIZE_ENTRIES = {"input_resolution": "image_size", "context_length": "context", "vocab_size": "vocabulary"}
#: Known and left behind: those numbers, and buffers of older savers that any model makes for itself.
KNOWN_EXTRAS = re.compile(rf"({'|'.join(SIZE_ENTRIES)}|(.+\.)?(attn_mask|position_ids))")
#: Other families by keys that only they have, and what to do instead.
_OTHER_FAMILIES = {
    "visual.layer1.": "a CLIP with a ResNet as its image tower; only vision transformers can be converted",
    "visual.trunk.": "an open_clip model with an image tower of timm; only OpenAI's kind can be converted",
    "transformer.embeddings.": "an open_clip model with another text tower than CLIP's, which cannot be converted",
    "vision_model.": "in the layout of Transformers already: name it model.safetensors next to its config.json",
}
_SHOWN = 5

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
            E2FashionError: a tensor that defines a size is missing or misshapen, or this is another kind of model.
        """
        for prefix, what in _OTHER_FAMILIES.items():
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
            f"{where} lacks {key!r}: it is not a CLIP in OpenAI's layout, which open_clip and the official E2 share. "
            f"Its {len(state)} keys begin with: {begin}"
        )
    shape = tuple(state[key].shape)
    if len(shape) != dimensions or 0 in shape:
        raise E2FashionError(f"{where}: {key!r} has shape {shape}; {dimensions} dimensions above 0 were expected")
    return shape


def count_numbers(state: State, pattern: str) -> int:
    """How many different numbers occur in the keys that match."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def check_state(
    state: State, expected: Mapping[str, Shape], sizes: OpenAIShape, what: str, unused: re.Pattern[str] | None = None
) -> list[str]:
    """Every ``expected`` key there, in its shape and finite; the keys that are known and left behind.

    ``unused`` matches keys of this layout that its forward pass never reads.

    Raises:
        E2FashionError: keys that are missing, unknown, misshapen or not finite, with counts and the first by name; a
            number such as ``input_resolution`` that contradicts the tensors.
    """
    patterns = [KNOWN_EXTRAS] if unused is None else [KNOWN_EXTRAS, unused]
    others = sorted(state.keys() - expected.keys())
    dropped = [key for key in others if any(pattern.fullmatch(key) for pattern in patterns)]
    known = {key: state[key] for key in expected if key in state}
    wrong = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": [key for key in others if key not in dropped],
        "misshapen": [
            f"{key} {tuple(value.shape)} instead of {expected[key]}"
            for key, value in known.items()
            if tuple(value.shape) != expected[key]
        ],
        "not finite": [key for key, value in known.items() if not torch.isfinite(value).all()],
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
    """Raise an E2FashionError for sizes that OpenAI's code would not rebuild: it derives heads and MLP widths."""
    for tower, width, mlp in (
        ("image", sizes.vision_width, sizes.vision_mlp),
        ("text", sizes.text_width, sizes.text_mlp),
    ):
        if mlp != 4 * width or width % HEAD_WIDTH:
            raise E2FashionError(
                f"{what}: the {tower} tower has width {width} and MLP width {mlp}; OpenAI's code knows heads of width "
                f"{HEAD_WIDTH} and MLPs of 4 x width alone. Take open_clip's layout, whose configuration says them"
            )


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
        projection_dim=sizes.joint,  # read by the towers that are loaded alone
        hidden_act=facts.activation,
    )
    return {"text_config": text.to_dict(), "vision_config": vision.to_dict()}


def openai_shapes(sizes: OpenAIShape, image_projection: str = IMAGE_PROJECTION) -> dict[str, Shape]:
    """Every key of OpenAI's CLIP layout, with the shape that it has in a model of these sizes."""
    config = CLIPConfig(**tower_configs(sizes, Facts("quick_gelu", 1, 1)), projection_dim=sizes.joint)
    with torch.device("meta"), no_init_weights():
        model = CLIPModel(config)
    return {key: tuple(tensor.shape) for key, tensor in to_openai(model, image_projection).items()}


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
