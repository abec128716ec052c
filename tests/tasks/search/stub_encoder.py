"""An encoder whose embeddings are told by the colours of a picture and the words of a text: no model, no luck."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from e2fashion.data.transforms import ImageTransform

TRANSFORM = ImageTransform(size=8, resize="squeeze")
COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0), "white": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class ColourEncoder:
    """A picture is its mean colour (and a constant); a text the sum of the colours that it names."""

    name: str = "colours"
    fingerprint: str = "colours-1"
    dimension: int = 4
    compares_tokens: bool = False
    transform: ImageTransform = TRANSFORM

    def embed_squares(self, squares: Tensor) -> Tensor:
        colours = squares.float().mean((-2, -1)) / 255
        return F.normalize(torch.cat([colours, torch.full((len(colours), 1), 0.1)], dim=1), dim=-1)

    def embed_images(self, images: Image.Image | Path | str, batch_size: int = 64) -> Tensor:
        picture = images if isinstance(images, Image.Image) else Image.open(images)
        pixels = torch.tensor(list(picture.convert("RGB").resize((8, 8)).tobytes()), dtype=torch.uint8)
        return self.embed_squares(pixels.view(8, 8, 3).permute(2, 0, 1)[None])

    def embed_texts(self, texts: str | Sequence[str], batch_size: int = 256) -> Tensor:
        listed = [texts] if isinstance(texts, str) else list(texts)
        sums = [
            torch.tensor([COLOURS[w] for w in text.split() if w in COLOURS] or [(0.0,) * 3]).sum(0) for text in listed
        ]
        return F.normalize(F.pad(torch.stack(sums), (0, 1), value=0.1), dim=-1)
