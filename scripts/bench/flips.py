"""How often bf16 makes a selection token read another patch than fp32: selection is not continuous."""

from __future__ import annotations

import torch
from torch import Tensor

from e2fashion.data.decode import decode_image
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.encoder import load_encoder
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.types import E2FashionError
from scripts.bench.encoders import random_e2
from scripts.bench.image_encoder import ENTITIES
from scripts.bench.report import Result
from scripts.bench.workplace import Workplace

PICTURES = 128
BATCH_SIZE = 32


def flipped(model: E2Model, pixels: Tensor) -> Tensor:
    """For images (B, 3, H, W), whether bf16 autocast chose another best patch: (B, F, S) bool."""
    with torch.no_grad():
        exact = model.get_image_features(pixels, output_selection_maps=True).selected_patches
        with torch.autocast(pixels.device.type, torch.bfloat16):
            rounded = model.get_image_features(pixels, output_selection_maps=True).selected_patches
    return exact[..., 0] != rounded[..., 0]


def run(workplace: Workplace) -> list[Result]:
    """Share of flips by fusion block, on random weights or on the model that ``model=`` names."""
    if workplace.model is None:
        model, transform, name = random_e2(ENTITIES), ImageTransform(), "random weights, ViT-B/32 shape"
    else:
        encoder = load_encoder(str(workplace.model))
        if not isinstance(encoder.model, E2Model) or not encoder.model.vision_model.fusion_blocks:
            raise E2FashionError(f"model={workplace.model} selects no patches: give an E2 with fusion blocks.")
        model, transform, name = encoder.model, encoder.transform, f"the trained {encoder.name}"
    model.eval()
    products = workplace.products()
    split = products.catalogue.split("val")
    squares = [transform(decode_image(split[row]["image"])) for row in range(min(PICTURES, len(split)))]
    pixels = normalize(torch.stack(squares), transform.mean, transform.std)
    found = torch.cat([flipped(model, part) for part in pixels.split(BATCH_SIZE)]).float()
    layers = model.config.vision_config.active_fusion_layers
    shares = ", ".join(
        f"{share:.1%} behind layer {layer}" for layer, share in zip(layers, found.mean((0, 2)).tolist(), strict=True)
    )
    detail = f"{name}; {len(pixels)} val pictures of {products.origin}; scores are fp32 in both"
    return [Result("selection", "tokens whose patch differs in bf16", "-", shares, None, detail)]
