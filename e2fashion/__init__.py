"""Regional contrastive learning of expressive fashion representations: E2 and CLIP fine-tuning.

Importing the package is fast: PyTorch is imported when a name that needs it is first used. E2 is registered with
Transformers' Auto classes, whichever of the two packages is imported first.
"""

from typing import TYPE_CHECKING

from e2fashion.lazy import announce_model_types, lazy_names
from e2fashion.types import E2FashionError, Entity

if TYPE_CHECKING:
    from e2fashion.ablation.run import train
    from e2fashion.config import load_config
    from e2fashion.data.catalogue import Catalogue
    from e2fashion.data.datamodule import CatalogueDataModule
    from e2fashion.encoder import Encoder, load_encoder
    from e2fashion.evaluation import evaluate
    from e2fashion.export.fashion_clip import FashionCLIP
    from e2fashion.export.open_clip import create_model_and_transforms, get_tokenizer
    from e2fashion.export.openai_clip import load, tokenize
    from e2fashion.models import E2Config, E2Model, E2VisionModelWithProjection
    from e2fashion.tasks.captioning.captioner import caption, load_captioner
    from e2fashion.tasks.captioning.config import CaptionRunConfig
    from e2fashion.tasks.classification.classifier import ZeroShotClassifier
    from e2fashion.tasks.classification.tag_predictor import load_tag_predictor
    from e2fashion.tasks.localization.config import ExplainConfig
    from e2fashion.tasks.localization.explain import explain
    from e2fashion.tasks.probing.config import ProbeConfig
    from e2fashion.tasks.probing.probe import probe
    from e2fashion.tasks.retrieval.config import EvaluateConfig
    from e2fashion.tasks.search.build import build_index
    from e2fashion.tasks.search.index import ProductIndex, open_index, search
    from e2fashion.tasks.search.recommend import recommend
    from e2fashion.training.config import RunConfig
    from e2fashion.training.module import ContrastiveModule

__version__ = "0.2.0"

__all__ = [
    "CaptionRunConfig",
    "Catalogue",
    "CatalogueDataModule",
    "ContrastiveModule",
    "E2Config",
    "E2FashionError",
    "E2Model",
    "E2VisionModelWithProjection",
    "Encoder",
    "Entity",
    "EvaluateConfig",
    "ExplainConfig",
    "FashionCLIP",
    "ProbeConfig",
    "ProductIndex",
    "RunConfig",
    "ZeroShotClassifier",
    "build_index",
    "caption",
    "create_model_and_transforms",
    "evaluate",
    "explain",
    "get_tokenizer",
    "load",
    "load_captioner",
    "load_config",
    "load_encoder",
    "load_tag_predictor",
    "open_index",
    "probe",
    "recommend",
    "search",
    "tokenize",
    "train",
]

__getattr__ = lazy_names(
    __name__,
    {
        "e2fashion.ablation.run": ("train",),
        "e2fashion.config": ("load_config",),
        "e2fashion.data.catalogue": ("Catalogue",),
        "e2fashion.data.datamodule": ("CatalogueDataModule",),
        "e2fashion.encoder": ("Encoder", "load_encoder"),
        "e2fashion.evaluation": ("evaluate",),
        "e2fashion.export.fashion_clip": ("FashionCLIP",),
        "e2fashion.export.open_clip": ("create_model_and_transforms", "get_tokenizer"),
        "e2fashion.export.openai_clip": ("load", "tokenize"),
        "e2fashion.models": ("E2Config", "E2Model", "E2VisionModelWithProjection"),
        "e2fashion.tasks.captioning.captioner": ("caption", "load_captioner"),
        "e2fashion.tasks.captioning.config": ("CaptionRunConfig",),
        "e2fashion.tasks.classification.classifier": ("ZeroShotClassifier",),
        "e2fashion.tasks.classification.tag_predictor": ("load_tag_predictor",),
        "e2fashion.tasks.localization.config": ("ExplainConfig",),
        "e2fashion.tasks.localization.explain": ("explain",),
        "e2fashion.tasks.probing.config": ("ProbeConfig",),
        "e2fashion.tasks.probing.probe": ("probe",),
        "e2fashion.tasks.retrieval.config": ("EvaluateConfig",),
        "e2fashion.tasks.search.build": ("build_index",),
        "e2fashion.tasks.search.index": ("ProductIndex", "open_index", "search"),
        "e2fashion.tasks.search.recommend": ("recommend",),
        "e2fashion.training.config": ("RunConfig",),
        "e2fashion.training.module": ("ContrastiveModule",),
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


announce_model_types()
