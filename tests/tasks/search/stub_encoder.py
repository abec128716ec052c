"""An encoder whose embeddings follow from the colors of an image and the color names in a text: no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from e2fashion.data.transforms import ImageTransform

TRANSFORM = ImageTransform(size=8, resize="squeeze")
COLORS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0), "white": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class ColorEncoder:
    """An image is its mean color (and a constant); a text the sum of the colors that it names."""

    name: str = "colors"
    fingerprint: str = "colors-1"
    dimension: int = 4
    compares_tokens: bool = False
    transform: ImageTransform = TRANSFORM

    def embed_squares(self, squares: Tensor) -> Tensor:
        colors = squares.float().mean((-2, -1)) / 255
        return F.normalize(torch.cat([colors, torch.full((len(colors), 1), 0.1)], dim=1), dim=-1)

    def embed_images(self, images: Image.Image | Path | str, batch_size: int = 64) -> Tensor:
        image = images if isinstance(images, Image.Image) else Image.open(images)
        pixels = torch.tensor(list(image.convert("RGB").resize((8, 8)).tobytes()), dtype=torch.uint8)
        return self.embed_squares(pixels.view(8, 8, 3).permute(2, 0, 1)[None])

    def embed_texts(self, texts: str | Sequence[str], batch_size: int = 256) -> Tensor:
        listed = [texts] if isinstance(texts, str) else list(texts)
        sums = [
            torch.tensor([COLORS[w] for w in text.split() if w in COLORS] or [(0.0,) * 3]).sum(0) for text in listed
        ]
        return F.normalize(F.pad(torch.stack(sums), (0, 1), value=0.1), dim=-1)
