"""Parts of the image encoder for tests, by themselves."""

from collections.abc import Sequence
from typing import Any

from e2fashion.models.configuration_e2 import E2VisionConfig
from e2fashion.models.selection import FUSION_BLOCKS, FusionBlock
from e2fashion.types import Entity, Selection


def fusion_block(selection: Selection, width: int, entities: Sequence[Entity], **options: Any) -> FusionBlock:
    """A block of this width; ``options`` are further fields of the vision configuration."""
    config = vision_config(width, entities, fusion_layers=[1], value_layer=0, selection=selection, **options)
    return FUSION_BLOCKS[selection](config, 1)


def vision_config(width: int, entities: Sequence[Entity], **options: Any) -> E2VisionConfig:
    """A configuration of this width with these entities."""
    listed = [entity.as_dict() for entity in entities]
    return E2VisionConfig(hidden_size=width, num_attention_heads=1, patch_size=4, entities=listed, **options)
