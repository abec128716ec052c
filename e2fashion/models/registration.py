"""Registration of E2 with Transformers' Auto classes."""

from __future__ import annotations

from typing import Any

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
from e2fashion.models.vision_e2 import E2VisionModel
from e2fashion.types import E2FashionError


class E2OpenedImageProcessorPil(CLIPImageProcessorPil):
    """As CLIP's, of opened images alone: no string is read as a file's name or fetched as a URL.

    sentence-transformers takes a text that looks like an image's name for the image, and Transformers would then open
    or download it.
    """

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Images as they are.

        Raises:
            E2FashionError: one is a string.
        """
        if isinstance(image_url_or_urls, list | tuple):
            return [self.fetch_images(image) for image in image_url_or_urls]
        if isinstance(image_url_or_urls, str):
            raise E2FashionError(
                f"'{image_url_or_urls[:80]}' is a string that looks like an image's name, which this export neither "
                "opens nor fetches: write {'text': ...} to encode it as a text, or open the image with PIL.Image.open"
            )
        return super().fetch_images(image_url_or_urls)


def register() -> None:
    """Register configuration, models and CLIP's processors; idempotent."""
    AutoConfig.register(E2Config.model_type, E2Config, exist_ok=True)
    AutoConfig.register(E2VisionConfig.model_type, E2VisionConfig, exist_ok=True)
    AutoModel.register(E2Config, E2Model, exist_ok=True)
    AutoModel.register(E2VisionConfig, E2VisionModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(E2Config, E2Model, exist_ok=True)
    AutoProcessor.register(E2Config, CLIPProcessor, exist_ok=True)
    # The PIL class explicitly: with torchvision installed, the default would be a class with other pixel values.
    # The second one is looked up by class name, in folders exported for sentence-transformers.
    processors: dict[str, type] = {"pil": CLIPImageProcessorPil, "opened": E2OpenedImageProcessorPil}
    AutoImageProcessor.register(E2Config, image_processor_classes=processors, exist_ok=True)
    AutoTokenizer.register(E2Config, tokenizer_class=CLIPTokenizer, exist_ok=True)
