"""Stripe occlusion masked as tensors and embedded in batches, against a loop that makes an image of every band."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel

from e2fashion.data.decode import decode_image
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.tasks.localization.attribution import bands, gray_square, stripe_occlusion
from e2fashion.tasks.localization.config import Bands
from scripts.bench.encoders import random_clip
from scripts.bench.harness import Context, Result, compare, interleave

TARGET = 3.0
IMAGES = 2


@dataclass(frozen=True)
class Occlusion:
    """Both variants explain the same encoded images for one text embedding (C,)."""

    model: CLIPModel
    images: list[bytes]
    transform: ImageTransform
    text: Tensor
    grid: int = Bands.grid

    def half(self) -> Tensor:
        """Ours with the image tower in bfloat16: (N, S, S)."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.fast()

    def fast(self) -> Tensor:
        """Ours: each image decoded, squared and resized once, its bands masked and embedded together: (N, S, S)."""
        heats = []
        for data in self.images:
            square = self.transform(gray_square(decode_image(data), self.transform.mean))
            pixels = normalize(square[None], self.transform.mean, self.transform.std)
            heats.append(stripe_occlusion(self._embed, pixels, self.text[None, None], Bands(self.grid))[0, 0])
        return torch.stack(heats)

    def loop(self) -> Tensor:
        """An image per band: decoded, padded, masked, resized by the saved processor, embedded alone: (N, S, S)."""
        processor: CLIPImageProcessorPil = self.transform.to_processor()
        return torch.stack([self._one(data, processor) for data in self.images])

    def _one(self, data: bytes, processor: CLIPImageProcessorPil) -> Tensor:
        side = self.transform.size
        masks = bands(self.grid, side)
        whole = self._score(data, None, processor)
        total = torch.zeros(side, side)
        stretches = [(i, j) for i in range(self.grid) for j in range(i + 1, self.grid + 1) if j - i < self.grid]
        for across in (True, False):
            for (i, j), mask in zip(stretches, masks, strict=True):
                gain = max(0.0, self._score(data, (i, j, across), processor) - whole)
                total += gain * (mask[:, None] if across else mask[None, :])
        heat = total / (2 * len(stretches))
        above = (heat - heat.mean()).clamp(min=0)
        return (above - above.min()) / (above.max() - above.min())

    def _score(self, data: bytes, band: tuple[int, int, bool] | None, processor: CLIPImageProcessorPil) -> float:
        gray = tuple(round(255 * level) for level in self.transform.mean)
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
        side = max(image.size)
        square = Image.new("RGB", (side, side), gray)
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        if band is not None:
            first, behind, across = band
            lines = [round(line * side / self.grid) for line in (first, behind)]
            masked = np.full((side, side, 3), gray, dtype=np.uint8)
            lit = (slice(*lines), slice(None)) if across else (slice(None), slice(*lines))
            masked[lit] = np.asarray(square)[lit]
            square = Image.fromarray(masked)
        pixels = processor(images=square, return_tensors="pt")["pixel_values"]
        return float(F.normalize(self._embed(pixels)[0], dim=-1) @ F.normalize(self.text, dim=-1))

    def _embed(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.model.get_image_features(pixel_values=pixels).pooler_output


def occlusion(context: Context) -> list[Result]:
    """Time the loop against ours in fp32 and in bf16."""
    products = context.large_images()
    rows = products.catalogue.split("train")
    model = random_clip().eval()
    text = torch.randn(model.config.projection_dim, generator=torch.Generator().manual_seed(0))
    images = [rows[row]["image"] for row in range(IMAGES)]
    variants = Occlusion(model, images, ImageTransform(size=224, resize="squeeze"), text)
    timing = interleave({"loop": variants.loop, "fp32": variants.fast, "bf16": variants.half}, context.turns)
    off = (variants.half() - variants.fast()).abs().mean()
    count = Bands.grid * (Bands.grid + 1) - 2
    results = []
    for precision, note in (("fp32", ""), ("bf16", f"; heat, from 0 to 1, is {off:.3f} off on the mean")):
        detail = (
            f"{products.origin}, JPEGs of 256 px, ViT-B/32 shape with random weights at 224 px, {count} bands an "
            f"image; loop in fp32 {timing.median('loop') / IMAGES:.2f} s, ours {precision} "
            f"{timing.median(precision) / IMAGES:.2f} s an image{note}"
        )
        claim = f"stripe occlusion, an image per band / bands as tensors in batches, {precision}"
        results.append(compare("occlusion", claim, timing, ("loop", precision), detail, at_least=TARGET))
    return results
