"""Encoders with random weights: E2's image encoder against CLIP's, and how often bf16 changes what E2 selects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase

from e2fashion.data.decode import decode_image
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.encoder import load_encoder
from e2fashion.models.configuration_e2 import E2Config
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import text_special_ids
from e2fashion.types import E2FashionError
from scripts.bench.harness import Context, Result, compare, interleave

Shape = Mapping[str, Mapping[str, Any]]
VIT_B32: Shape = {"vision_config": {}, "text_config": {}}
"""CLIP's defaults in transformers: ViT-B/32 at 224 pixels, text tower of 12 layers and width 512, C = 512."""
FUSION_LAYERS = [8, 11]
ENTITIES = {"composition": 2, "sub_category": 2, "brand": 2, "season": 2}
TARGET, BATCH_SIZE = 1.15, 16
FLIP_IMAGES, FLIP_BATCH_SIZE = 128, 32


def random_e2(
    entities: Mapping[str, int], tokenizer: PreTrainedTokenizerBase | None = None, shape: Shape = VIT_B32, **vision: Any
) -> E2Model:
    """An E2 of a shape with seeded random weights; ``vision`` are further fields of its vision configuration.

    The weights keep the size of what passes them: CLIP's small initial ones give every product nearly the same
    embedding, which would hide differences between two variants.
    """
    torch.manual_seed(0)
    special = {} if tokenizer is None else text_special_ids(tokenizer)
    selection = {"entities": dict(entities), "fusion_layers": FUSION_LAYERS, **vision}
    model = E2Model(
        E2Config(vision_config={**shape["vision_config"], **selection}, text_config={**shape["text_config"], **special})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def random_clip(shape: Shape = VIT_B32) -> CLIPModel:
    """The plain CLIP of the same shape, as transformers builds it."""
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(vision_config=dict(shape["vision_config"]), text_config=dict(shape["text_config"])))


def infer(model: CLIPModel, pixels: Tensor, **options: Any) -> Tensor:
    """Image features for an application."""
    with torch.no_grad():
        return model.get_image_features(pixels, **options).pooler_output


def train(model: CLIPModel, pixels: Tensor) -> None:
    """Forward and backward through everything that a loss reads."""
    for parameter in model.parameters():
        parameter.grad = None
    output = model.get_image_features(pixels)
    features = output.pooler_output.square().mean()
    if isinstance(model, E2Model):
        features = features + output.region_features.square().mean()
    features.backward()


def image_encoder(context: Context) -> list[Result]:
    """Time inference and training of E2's image encoder and of the plain CLIP of the same backbone."""
    clip, e2 = random_clip(), random_e2(ENTITIES)
    pixels = torch.randn(BATCH_SIZE, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    detail = f"ViT-B/32 shape, random weights, fp32, batch {BATCH_SIZE}, 4 entities of 2 tokens, fusion at 8 and 11"
    claims: dict[str, dict[str, Callable[[], object]]] = {
        "inference": {"clip": lambda: infer(clip, pixels), "e2": lambda: infer(e2, pixels, complete_states=False)},
        "training": {"clip": lambda: train(clip, pixels), "e2": lambda: train(e2, pixels)},
    }
    results = []
    for claim, variants in claims.items():
        for model in (clip, e2):
            model.train(claim == "training")
        timing = interleave(variants, 2 * context.turns)
        times = f"CLIP {timing.median('clip') * 1e3:.0f} ms, E2 {timing.median('e2') * 1e3:.0f} ms"
        noise = " forward and backward, with selection noise" if claim == "training" else ""
        pair = ("e2", "clip")
        results.append(
            compare("image encoder", f"{claim}, E2 / CLIP", timing, pair, f"{detail}; {times}{noise}", at_most=TARGET)
        )
    return results


def flipped(model: E2Model, pixels: Tensor) -> Tensor:
    """For images (B, 3, H, W), whether bf16 autocast chose another best patch: (B, F, S) bool."""
    with torch.no_grad():
        exact = model.get_image_features(pixels, output_selection_maps=True).selected_patches
        with torch.autocast(pixels.device.type, torch.bfloat16):
            rounded = model.get_image_features(pixels, output_selection_maps=True).selected_patches
    return exact[..., 0] != rounded[..., 0]


def flips(context: Context) -> list[Result]:
    """How often a token reads another patch in bf16 than in fp32, on random weights or the model of ``model=``."""
    if context.model is None:
        model, transform, name = random_e2(ENTITIES), ImageTransform(), "random weights, ViT-B/32 shape"
    else:
        encoder = load_encoder(str(context.model))
        if not isinstance(encoder.model, E2Model) or not encoder.model.vision_model.fusion_blocks:
            raise E2FashionError(f"model={context.model} selects no patches: give an E2 with fusion blocks.")
        model, transform, name = encoder.model, encoder.transform, f"the trained {encoder.name}"
    model.eval()
    products = context.products()
    split = products.catalogue.split("val")
    squares = [transform(decode_image(split[row]["image"])) for row in range(min(FLIP_IMAGES, len(split)))]
    pixels = normalize(torch.stack(squares), transform.mean, transform.std)
    flips_of_parts = torch.cat([flipped(model, part) for part in pixels.split(FLIP_BATCH_SIZE)]).float()
    by_layer = zip(model.config.vision_config.active_fusion_layers, flips_of_parts.mean((0, 2)).tolist(), strict=True)
    shares = ", ".join(f"{share:.1%} behind layer {layer}" for layer, share in by_layer)
    detail = f"{name}; {len(pixels)} val images of {products.origin}; scores are fp32 in both"
    return [Result("selection", "tokens whose patch differs in bf16", "-", shares, None, detail)]
