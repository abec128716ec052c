"""Making transformers' Auto classes know E2."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPProcessor,
    CLIPTokenizer,
)

from e2fashion.models.configuration_e2 import E2Config, E2VisionConfig
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.opened_images import E2OpenedImageProcessorPil
from e2fashion.models.vision_e2 import E2VisionModel


def register() -> None:
    """Register configuration, models and CLIP's processors; doing it twice changes nothing."""
    AutoConfig.register(E2Config.model_type, E2Config, exist_ok=True)
    AutoConfig.register(E2VisionConfig.model_type, E2VisionConfig, exist_ok=True)
    AutoModel.register(E2Config, E2Model, exist_ok=True)
    AutoModel.register(E2VisionConfig, E2VisionModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(E2Config, E2Model, exist_ok=True)
    AutoProcessor.register(E2Config, CLIPProcessor, exist_ok=True)
    # The PIL class by name: with torchvision about, the default would be another one with other pixels.
    # The other is found by its name alone, in folders that were exported for sentence-transformers.
    processors: dict[str, type] = {"pil": CLIPImageProcessorPil, "opened": E2OpenedImageProcessorPil}
    AutoImageProcessor.register(E2Config, image_processor_classes=processors, exist_ok=True)
    AutoTokenizer.register(E2Config, tokenizer_class=CLIPTokenizer, exist_ok=True)
