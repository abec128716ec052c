"""Stripe occlusion masked as tensors and embedded in batches, against a loop that makes a picture of every band."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel

from e2fashion.data.decode import decode_image
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.tasks.localization.attribution import BAND_GRID, bands, grey_square, stripe_occlusion
from scripts.bench.encoders import random_clip
from scripts.bench.report import Result
from scripts.bench.timing import interleave
from scripts.bench.workplace import Workplace

TARGET = 3.0
PICTURES = 2


@dataclass(frozen=True)
class Occlusion:
    """Both arms explain the same encoded pictures for one text embedding (C,)."""

    model: CLIPModel
    pictures: list[bytes]
    transform: ImageTransform
    text: Tensor
    grid: int = BAND_GRID

    def half(self) -> Tensor:
        """Ours with the image tower in bfloat16: (N, S, S)."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.fast()

    def fast(self) -> Tensor:
        """Ours: each picture decoded, squared and resized once, its bands masked and embedded together: (N, S, S)."""
        heats = []
        for data in self.pictures:
            square = self.transform(grey_square(decode_image(data), self.transform.mean))
            pixels = normalize(square[None], self.transform.mean, self.transform.std)
            heats.append(stripe_occlusion(self._embed, pixels, self.text[None, None], self.grid)[0, 0])
        return torch.stack(heats)

    def loop(self) -> Tensor:
        """A picture per band: decoded, padded, masked, resized by the saved processor, embedded alone: (N, S, S)."""
        processor: CLIPImageProcessorPil = self.transform.to_processor()
        return torch.stack([self._one(data, processor) for data in self.pictures])

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
        grey = tuple(round(255 * level) for level in self.transform.mean)
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
        side = max(picture.size)
        square = Image.new("RGB", (side, side), grey)
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        if band is not None:
            first, behind, across = band
            lines = [round(line * side / self.grid) for line in (first, behind)]
            masked = np.full((side, side, 3), grey, dtype=np.uint8)
            place = (slice(*lines), slice(None)) if across else (slice(None), slice(*lines))
            masked[place] = np.asarray(square)[place]
            square = Image.fromarray(masked)
        pixels = processor(images=square, return_tensors="pt")["pixel_values"]
        return float(F.normalize(self._embed(pixels)[0], dim=-1) @ F.normalize(self.text, dim=-1))

    def _embed(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.model.get_image_features(pixel_values=pixels).pooler_output


def run(workplace: Workplace) -> list[Result]:
    """Time both."""
    products = workplace.large_pictures()
    rows = products.catalogue.split("train")
    model = random_clip().eval()
    text = rearrange(
        torch.randn(1, model.config.projection_dim, generator=torch.Generator().manual_seed(0)), "1 c -> c"
    )
    pictures = [rows[row]["image"] for row in range(PICTURES)]
    arms = Occlusion(model, pictures, ImageTransform(size=224, resize="squeeze"), text)
    timing = interleave({"loop": arms.loop, "fast": arms.fast, "half": arms.half}, workplace.turns)
    off = (arms.half() - arms.fast()).abs().mean()
    count = BAND_GRID * (BAND_GRID + 1) - 2
    return [
        Result(
            "occlusion",
            f"stripe occlusion, a picture per band / bands as tensors in batches, {precision}",
            f"at least {TARGET:g} x",
            f"{timing.ratio('loop', arm):.2f} x ({timing.spread('loop', arm)})",
            timing.ratio("loop", arm) >= TARGET,
            f"{products.origin}, JPEGs of 256 px, ViT-B/32 shape with random weights at 224 px, {count} bands a "
            f"picture; loop in fp32 {timing.median('loop') / PICTURES:.2f} s, ours {precision} "
            f"{timing.median(arm) / PICTURES:.2f} s a picture{note}",
        )
        for arm, precision, note in (
            ("fast", "fp32", ""),
            ("half", "bf16", f"; heat, from 0 to 1, is {off:.3f} off on the mean"),
        )
    ]
