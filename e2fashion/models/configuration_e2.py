"""Configuration of E2: CLIP's, with tag entities, fusion layers and the selection of patches."""

# No postponed annotations here: @strict validates only the types that it finds as objects.
import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig, SiglipConfig

from e2fashion.types import E2FashionError, Entity, Selection

EntitiesLike = Mapping[str, Any] | Iterable[Any]
"""Names, ``Entity`` objects, ``{name, column, tokens}`` mappings, or a mapping from name to tokens or to the rest."""

SIGMOID_LOGIT_SCALE, SIGMOID_LOGIT_BIAS = math.log(10.0), -10.0
"""Temperature and bias at the start of a training with the sigmoid loss. Source: SigLIP."""
#: Maximum selection tokens of one entity; images have a few hundred patches.
MOST_TOKENS = 1000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def _entity(name: Any, value: Any) -> Entity:
    """One entity from its name and None, a number of tokens, a mapping or an ``Entity``."""
    if isinstance(value, Entity):
        return value
    if value is None:
        return Entity(name, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return Entity(name, name, value)
    if isinstance(value, Mapping):
        unknown = set(value) - {"name", "column", "tokens", "fixed"}
        if unknown:
            raise E2FashionError(f"entity {name!r} has unknown keys {sorted(unknown)}; it takes: column, tokens, fixed")
        return Entity(name, value.get("column") or name, value.get("tokens", 2), bool(value.get("fixed", False)))
    raise E2FashionError(f"entity {name!r} got {value!r}; give its number of tokens or {{column: ..., tokens: ...}}")


def parse_entities(entities: EntitiesLike | None) -> tuple[Entity, ...]:
    """The entities in their order, from any of the forms of :data:`EntitiesLike`.

    In a mapping, ``None`` removes an entity, so that an ablation row can say ``entities.brand=null``.

    Raises:
        E2FashionError: an invalid or repeated name, an unknown key, or a negative number of tokens.
    """
    if entities is None:
        return ()
    if isinstance(entities, str):
        raise E2FashionError(f"entities is the text {entities!r}; give a list of names or a mapping")
    if isinstance(entities, Mapping):
        pairs = [(name, value) for name, value in entities.items() if value is not None]
    else:
        pairs = []
        for item in entities:
            if isinstance(item, Mapping):
                pairs.append((item.get("name"), item))
            else:
                pairs.append((item.name, item) if isinstance(item, Entity) else (item, None))
    parsed = tuple(_entity(name, value) for name, value in pairs)
    for entity in parsed:
        _check_entity(entity)
    names = [entity.name for entity in parsed]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise E2FashionError(f"entities {doubled} occur more than once; give each another name")
    return parsed


def _check_entity(entity: Entity) -> None:
    """Check the name, which is used for parameters, and the number of tokens."""
    if not isinstance(entity.name, str) or not _NAME.fullmatch(entity.name):
        raise E2FashionError(
            f"entity name {entity.name!r} names parameters: use letters, digits, '_' and '-', a letter first"
        )
    if hasattr(nn.ModuleDict(), entity.name):
        raise E2FashionError(
            f"entity name {entity.name!r} is taken by PyTorch; "
            f"call it '{entity.name}_tag' and set column: {entity.column}"
        )
    if type(entity.tokens) is not int or not 0 <= entity.tokens <= MOST_TOKENS:
        raise E2FashionError(
            f"entity {entity.name!r} has tokens={entity.tokens!r}; give a whole number from 0 to {MOST_TOKENS}"
        )


@strict
class E2VisionConfig(CLIPVisionConfig):
    """CLIP's vision configuration and the regional part of E2. The defaults of the added fields are plain CLIP.

    The added fields have the meaning of the keys of ``model`` in a run's configuration
    (:class:`e2fashion.training.config.ModelConfig`, docs/configuration.md), where ``selection_temperature`` is called
    ``temperature``. ``entities`` takes what :func:`parse_entities` takes and is stored as a list in the order of the
    regions, because the JSON file sorts the keys of a mapping. Without selection tokens the other fields have no
    effect; ``competition``, ``null_patch`` and ``score_heads`` have none when ``selection`` is random, and
    ``patches_per_token`` none when it is soft. ``projection_init`` is read by :meth:`E2Model.from_clip`.

    Raises:
        E2FashionError: a field whose value cannot work, with the remedy.
    """

    model_type = "e2_vision_model"
    base_config_key = "vision_config"

    entities: list | tuple | dict | None = None
    fusion_layers: list[int] | tuple[int, ...] | None = None
    selection: Selection = "hard"
    noise: Literal["gumbel", "none"] = "gumbel"
    selection_temperature: float | int = 1.0
    patches_per_token: int = 1
    drop_patches: bool = True
    token_gate: float | int | None = None
    projection_init: Literal["clip", "random"] = "clip"
    value_layer: int | None = None
    token_attention: Literal["all", "own"] = "all"
    key_gradient: bool = True
    value_gate: float | int | None = None
    competition: bool = False
    null_patch: bool = False
    score_heads: int = 1
    value_scale: int = 1
    value_window: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)  # that of a CLIP checkpoint, which must not shadow ours
        self.entities = [entity.as_dict() for entity in parse_entities(self.entities)]
        self.fusion_layers = [] if self.fusion_layers is None else list(self.fusion_layers)
        super().__post_init__(**kwargs)

    def validate_regions(self) -> None:
        """Part of the validation that ``@strict`` runs on creation.

        Raises:
            E2FashionError: a value out of its range, or fields that exclude each other.
        """
        layers = list(self.fusion_layers or ())
        inside = all(1 <= layer <= self.num_hidden_layers for layer in layers)
        if not inside or any(later <= earlier for earlier, later in pairwise(layers)):
            raise E2FashionError(
                f"fusion_layers={layers} must be distinct, increasing numbers of finished layers "
                f"from 1 to {self.num_hidden_layers}"
            )
        if not self.selection_temperature > 0:
            raise E2FashionError(f"selection_temperature={self.selection_temperature} must be greater than 0")
        if self.patches_per_token < 1:
            raise E2FashionError(f"patches_per_token={self.patches_per_token} must be at least 1")
        if not self.has_tokens:
            return
        if self.token_attention == "own" and not layers:
            raise E2FashionError(
                "token_attention='own' without fusion_layers: the selection tokens would see nothing of the image. "
                "Name fusion layers, or use token_attention='all'"
            )
        if self.value_layer is not None and not (layers and 0 <= self.value_layer <= layers[0]):
            raise E2FashionError(
                f"value_layer={self.value_layer} must be a number of finished layers from 0 to the first of "
                f"fusion_layers={layers}: a fusion block can only read patch states that exist"
            )
        if self.value_gate is not None and self.value_layer is None:
            raise E2FashionError(
                f"value_gate={self.value_gate} without value_layer: there are no early states to mix with those of the "
                "block's layer. Set value_layer, or value_gate=null"
            )
        if self.score_heads < 1 or self.hidden_size % self.score_heads:
            raise E2FashionError(f"score_heads={self.score_heads} must divide hidden_size={self.hidden_size}")
        if self.value_scale != 1:
            self._check_value_scale()
        if self.value_window != 1:
            self._check_value_window()

    def _check_value_scale(self) -> None:
        scale, heads, patch_size = self.value_scale, self.score_heads, cast(int, self.patch_size)
        if scale < 1 or patch_size % scale or self.hidden_size % (scale * heads):
            raise E2FashionError(
                f"value_scale={scale} must divide patch_size={patch_size}, and times score_heads={heads} "
                f"hidden_size={self.hidden_size}; 1 reads no parts of patches"
            )
        self._need_value_layer("value_scale", "parts of the patch that is read")

    def _check_value_window(self) -> None:
        if self.value_window < 1 or self.value_window % 2 == 0:
            raise E2FashionError(
                f"value_window={self.value_window} must be odd, so that the patch stands in its middle; 1 is the patch "
                "alone"
            )
        self._need_value_layer("value_window", "their neighbors")

    def _need_value_layer(self, name: str, added: str) -> None:
        """Raise an E2FashionError without early values, to which alone the field ``name`` can add something."""
        if self.value_layer is None:
            raise E2FashionError(
                f"{name}={getattr(self, name)} without value_layer: states of the block's layer hold the whole image, "
                f"to which {added} add nothing. Set value_layer, or {name}=1"
            )

    @property
    def entity_list(self) -> tuple[Entity, ...]:
        """The entities as objects, in the order of the regions."""
        return parse_entities(self.entities)

    @property
    def has_tokens(self) -> bool:
        """Whether any entity has selection tokens."""
        return any(entity.tokens for entity in self.entity_list)

    @property
    def active_fusion_layers(self) -> tuple[int, ...]:
        """The layers that are followed by a fusion block: none without selection tokens."""
        return tuple(self.fusion_layers or ()) if self.has_tokens else ()


#: What the vision configuration has that CLIP's has not, in its order.
REGIONAL_FIELDS = tuple(name for name in E2VisionConfig.__annotations__ if name not in CLIPVisionConfig.__annotations__)
#: Fields that were added when models existed, with their default, at which a model is what it was without them.
JOINED_LATER: dict[str, Any] = {
    **{
        name: getattr(E2VisionConfig, name)
        for name in (
            "value_layer",
            "token_attention",
            "key_gradient",
            "value_gate",
            "competition",
            "null_patch",
            "score_heads",
            "value_scale",
            "value_window",
        )
    },
    "region_score_weight": None,
    "logit_bias_init_value": None,
    "backbone": "clip",
    "text_pooling": False,
}


@strict
class E2Config(CLIPConfig):
    """CLIP's configuration with :class:`E2VisionConfig` as its vision part; reads any CLIP ``config.json``.

    Added fields: ``similarity``, the comparison of an image and a text: ``global``, one vector each (CLIP), or
    ``tokens``, every patch with every text token (FILIP; see :mod:`e2fashion.similarity`), which sets the vision part's
    ``drop_patches`` to False; ``text_entities``, tags that join the text's feature (EI-CLIP, our interpretation), in
    any form that :func:`parse_entities` takes, stored as a list of names and columns; ``region_score_weight``, the
    weight of regions in the retrieval score, chosen on val after training (ours; None: not chosen, see
    :func:`e2fashion.embedding.join_regions`); ``logit_bias_init_value``, the bias of
    pairs at the start of a training with the sigmoid loss (SigLIP: -10; None: softmax, no bias); ``backbone``, whose
    towers the encoder has: those of CLIP or of SigLIP (:class:`e2fashion.models.siglip.SiglipE2Model`), whose image
    feature is pooled from the patches, so that ``drop_patches`` is False; ``text_pooling``, the parts of the loss term
    of this name (:class:`e2fashion.models.text_pooling.TextPoolingModel`).

    Raises:
        E2FashionError: ``text_entities`` of a model that compares tokens.
    """

    model_type = "e2"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {"vision_config": E2VisionConfig, "text_config": CLIPTextConfig}

    # Given as configurations or plain values, always configurations once created: typed for their readers.
    text_config: Any = None
    vision_config: Any = None
    projection_dim: int = 512
    similarity: Literal["global", "tokens"] = "global"
    text_entities: list | tuple | dict | None = None
    region_score_weight: float | int | None = None
    logit_bias_init_value: float | int | None = None
    backbone: Literal["clip", "siglip"] = "clip"
    text_pooling: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        if isinstance(self.vision_config, CLIPVisionConfig) and not isinstance(self.vision_config, E2VisionConfig):
            self.vision_config = E2VisionConfig(**self.vision_config.to_dict())
        super().__post_init__(**kwargs)
        # The copies in the towers' configurations are often wrong in published checkpoints.
        for tower in (self.vision_config, self.text_config):
            tower.projection_dim = self.projection_dim
        self.keep_read_patches()
        self.text_entities = [{"name": e.name, "column": e.column} for e in parse_entities(self.text_entities)]
        if self.text_entities and self.similarity == "tokens":
            names = [entity["name"] for entity in self.text_entities]
            raise E2FashionError(
                f"text_entities {names} join the text's one feature, which similarity 'tokens' does not compare: "
                "choose one of the two"
            )

    @property
    def text_entity_list(self) -> tuple[Entity, ...]:
        """The text's entities as objects."""
        return parse_entities(self.text_entities)

    def keep_read_patches(self) -> None:
        """Keep the patches to the last layer if they are compared or pooled there."""
        if self.similarity == "tokens" or self.backbone == "siglip" or self.text_pooling:
            self.vision_config.drop_patches = False


def values_of_siglip(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an :class:`E2Config` for the ``config.json`` of a SigLIP.

    Raises:
        E2FashionError: an image tower without a pooling head of the joint space's width.
    """
    read: Any = SiglipConfig(**values)
    vision, text = read.vision_config, read.text_config
    text.bos_token_id = text.eos_token_id = None  # not read, and beyond the vocabulary in published configurations
    if not vision.vision_use_head or vision.hidden_size != text.projection_size:
        raise E2FashionError(
            f"its image tower yields no feature of the joint space (vision_use_head={vision.vision_use_head}, "
            f"hidden_size={vision.hidden_size}, the text's projection_size={text.projection_size}): give a whole SigLIP"
        )
    return {
        **{
            key: {name: getattr(tower, name) for name in known.__annotations__ if hasattr(tower, name)}
            for key, tower, known in (
                ("vision_config", vision, CLIPVisionConfig),
                ("text_config", text, CLIPTextConfig),
            )
        },
        "projection_dim": text.projection_size,
        "backbone": "siglip",
        "logit_scale_init_value": SIGMOID_LOGIT_SCALE,
        "logit_bias_init_value": SIGMOID_LOGIT_BIAS,
    }
