"""CLIP's image processor for libraries that hand it strings which may be texts."""

from __future__ import annotations

from typing import Any

from transformers import CLIPImageProcessorPil

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
