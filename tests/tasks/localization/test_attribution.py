"""Attention is that of CLIP's last layer, and occlusion equals a slow loop over bands and pixels."""

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel

from e2fashion.models.configuration_e2 import E2Config
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.tasks.localization.attribution import (
    attention_map,
    attention_rollout,
    bands,
    eager_attention,
    gray_square,
    heat_of_patches,
    stripe_occlusion,
)
from e2fashion.tasks.localization.config import Bands
from e2fashion.types import E2FashionError

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
VISION = {**TOWER, "image_size": 16, "patch_size": 4}
TEXT = {**TOWER, "vocab_size": 50, "num_hidden_layers": 1}
REGIONAL = {"entities": {"brand": 2, "season": 1}, "fusion_layers": [1, 2]}


@pytest.fixture
def clip() -> CLIPModel:
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=8)).eval()


@pytest.fixture
def regional() -> E2Model:
    torch.manual_seed(0)
    return E2Model(E2Config(vision_config={**VISION, **REGIONAL}, text_config=TEXT, projection_dim=8)).eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def last_attention(clip: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """CLS to patches in the last layer, computed from its weights: (B, P)."""
    with torch.no_grad():
        states = clip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        layer = clip.vision_model.encoder.layers[-1]
        normed = layer.layer_norm1(states)
        queries, keys = layer.self_attn.q_proj(normed)[:, 0], layer.self_attn.k_proj(normed)
        heads = []
        for part in (slice(0, 8), slice(8, 16)):
            scores = (keys[..., part] @ queries[:, part, None])[..., 0] * 8**-0.5
            heads.append(scores.softmax(-1)[:, 1:])
    return (heads[0] + heads[1]) / 2


def test_attention_of_a_clip_is_that_of_its_last_layer(clip: CLIPModel, pixels: torch.Tensor) -> None:
    found, layer = attention_map(clip, pixels)
    assert layer == 3
    assert found.allclose(last_attention(clip, pixels), atol=1e-6)


def test_attention_of_an_e2_is_that_before_its_last_fusion_block(regional: E2Model, pixels: torch.Tensor) -> None:
    found, layer = attention_map(regional, pixels)
    assert layer == 2
    assert found.shape == (2, 16)
    assert bool((found.sum(-1) < 1).all())


def test_the_kind_of_attention_is_as_before(clip: CLIPModel, pixels: torch.Tensor) -> None:
    before = clip.vision_model.config._attn_implementation
    attention_map(clip, pixels)
    assert clip.vision_model.config._attn_implementation == before == "sdpa"


def test_bands_are_all_stretches_but_the_whole() -> None:
    assert bands(3, 6).int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("grid", [1, 7])
def test_a_grid_that_cannot_be_is_refused(grid: int) -> None:
    with pytest.raises(E2FashionError, match=f"grid of bands is {grid}; give 2 or more, and at most the 6"):
        bands(grid, 6)


def embed(images: torch.Tensor) -> torch.Tensor:
    """A stand-in encoder that is not linear in its pixels: (n, 3, H, W) to (n, 6)."""
    weight = torch.randn(images[0].numel(), 6, generator=torch.Generator().manual_seed(7))
    return torch.tanh(images.flatten(1) @ weight / 8)


def slow_occlusion(image: torch.Tensor, text: torch.Tensor, grid: int) -> torch.Tensor:
    """One band, one image, one pixel at a time: (H, W)."""
    height, width = image.shape[-2:]
    whole = float(F.cosine_similarity(embed(image[None])[0], text, dim=0))
    total, count = torch.zeros(height, width), 0
    for horizontal in (True, False):
        length = height if horizontal else width
        for i in range(grid):
            for j in range(i + 1, grid + 1):
                if (i, j) == (0, grid):
                    continue
                count += 1
                first, behind = round(i * length / grid), round(j * length / grid)
                masked = torch.zeros_like(image)
                for y in range(height):
                    for x in range(width):
                        if first <= (y if horizontal else x) < behind:
                            masked[:, y, x] = image[:, y, x]
                gain = max(0.0, float(F.cosine_similarity(embed(masked[None])[0], text, dim=0)) - whole)
                for y in range(height):
                    for x in range(width):
                        if first <= (y if horizontal else x) < behind:
                            total[y, x] += gain
    heat = (total / count - total.mean() / count).clamp(min=0)
    return (heat - heat.min()) / (heat.max() - heat.min())


@pytest.mark.parametrize("batch_size", [3, 128])
def test_occlusion_equals_a_slow_loop(batch_size: int) -> None:
    images = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(2))
    texts = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(3))
    found = stripe_occlusion(embed, images, texts, Bands(3, batch_size))
    for product in range(2):
        for text in range(3):
            expected = slow_occlusion(images[product], texts[product, text], 3)
            assert found[product, text].allclose(expected, atol=1e-5)


def test_the_length_of_vectors_does_not_matter() -> None:
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    texts = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(3))
    longer = stripe_occlusion(lambda batch: 9 * embed(batch), images, 5 * texts, Bands(4))
    assert longer.allclose(stripe_occlusion(embed, images, texts, Bands(4)), atol=1e-5)


def test_what_the_text_asks_for_is_found() -> None:
    def brightness(images: torch.Tensor) -> torch.Tensor:
        """The text is (1, 0): bright corner against everything else."""
        corner = images[:, :, :2, :2].sum((1, 2, 3))
        return torch.stack([corner, images.sum((1, 2, 3)) - corner], -1)

    heat = stripe_occlusion(brightness, torch.ones(1, 3, 8, 8), torch.tensor([[[1.0, 0.0]]]), Bands(4))[0, 0]
    assert heat[0, 0] == 1.0
    assert heat[4:, 4:].max() == 0.0
    patches = heat_of_patches(heat, 4)
    assert int(patches.argmax()) == 0
    assert patches.shape == (16,)


def test_a_text_that_nothing_serves_has_no_heat() -> None:
    flat = stripe_occlusion(lambda batch: torch.ones(len(batch), 4), torch.ones(1, 3, 8, 8), torch.rand(1, 2, 4))
    assert not flat.any()


def test_patches_are_read_row_by_row() -> None:
    heat = torch.arange(16.0).reshape(1, 4, 4)
    assert heat_of_patches(heat, 2).tolist() == [[2.5, 4.5, 10.5, 12.5]]


def test_rollout_is_the_product_of_the_layers(clip: CLIPModel, pixels: torch.Tensor) -> None:
    found, layer = attention_rollout(clip, pixels)
    with torch.no_grad(), eager_attention(clip):
        layers = clip.vision_model(pixel_values=pixels, output_attentions=True).attentions
    whole = torch.eye(17)
    for attention in layers:
        mixed = attention.mean(1) / 2 + torch.eye(17) / 2
        whole = mixed @ whole
    assert layer == 3
    torch.testing.assert_close(found, whole[:, 0, 1:])
    assert bool((whole.sum(-1) - 1).abs().max() < 1e-5)


def test_rollout_of_an_e2_ends_where_patches_do(regional: E2Model, pixels: torch.Tensor) -> None:
    found, layer = attention_rollout(regional, pixels)
    assert (layer, found.shape) == (2, (2, 16))


def test_a_picture_stands_in_the_middle_of_a_gray_square() -> None:
    picture = torch.full((3, 2, 5), 9, dtype=torch.uint8)
    square = gray_square(picture, (0.0, 0.5, 1.0))
    assert square.shape == (3, 5, 5)
    assert square[:, 1:3].eq(9).all()
    assert square[:, [0, 3, 4], 0].T.tolist() == [[0, 128, 255]] * 3
