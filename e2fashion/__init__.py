"""Regional contrastive learning of expressive fashion representations: E2 and CLIP fine-tuning."""

__version__ = "0.1.0"

from e2fashion.eval.classification.tags_file import load_tag_predictor
from e2fashion.eval.encoder import Encoder, load_encoder
from e2fashion.models import E2Config, E2Model, E2VisionModelWithProjection, register
from e2fashion.plugins.openai_style import load
from e2fashion.tasks.classifier import ZeroShotClassifier
from e2fashion.tasks.search import ProductIndex, build_index, open_index
from e2fashion.types import E2FashionError, Entity

register()

__all__ = [
    "E2Config",
    "E2FashionError",
    "E2Model",
    "E2VisionModelWithProjection",
    "Encoder",
    "Entity",
    "ProductIndex",
    "ZeroShotClassifier",
    "build_index",
    "load",
    "load_encoder",
    "load_tag_predictor",
    "open_index",
]
