"""Values from a second scale: parts of patches add to what is read, and the choice stays one of patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from e2fashion.models import E2Model, E2VisionConfig
from e2fashion.models.selection import FusionBlock
from e2fashion.models.selection_tokens import SubPatches
from e2fashion.models.vision_e2 import E2VisionModel
from e2fashion.types import E2FashionError, Entity, Selection
from tests.models.blocks import fusion_block

BuildE2 = Callable[..., E2Model]

B, S, D, P, N, H = 2, 3, 16, 9, 4, 2
ENTITIES = (Entity("brand", "brand", 2), Entity("season", "season", 1))
MODEL: dict[str, Any] = {
    "entities": {"brand": 2, "season": 1},
    "fusion_layers": [2, 3],
    "value_layer": 1,
    "token_attention": "own",
}


def build(selection: Selection = "soft", **options: Any) -> FusionBlock:
    torch.manual_seed(0)
    block = fusion_block(selection, D, ENTITIES, **options)
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=D**-0.5)
    return block


@pytest.fixture
def states() -> dict[str, Tensor]:
    """Tokens, late and early states and parts of patches."""
    torch.manual_seed(1)
    parts = torch.randn(B, N, P, D // 2)
    return {
        "tokens": torch.randn(B, S, D),
        "patches": torch.randn(B, P, D),
        "values": torch.randn(B, P, D),
        "parts": parts,
    }


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, H])
@pytest.mark.parametrize("selection", ["hard", "soft", "random"])
def test_a_token_reads_parts_as_the_loop_does(selection: Selection, heads: int, states: dict[str, Tensor]) -> None:
    """Slowly, part by part; the weights of patches are those without parts, from what the block says of its choice."""
    block = build(selection, score_heads=heads, value_scale=2)
    heads = block.heads
    without = {name: value for name, value in states.items() if name != "parts"}
    plain, fused = block(**without, output_probabilities=True), block(**states, output_probabilities=True)
    assert torch.equal(fused.selected, plain.selected)
    assert torch.equal(fused.probabilities, plain.probabilities)
    scores = block.scores(states["tokens"], states["patches"])
    weights = scores.softmax(-1) if selection == "soft" else torch.eye(P)[scores.argmax(-1)]
    reader, added = block.parts, fused.tokens - plain.tokens
    assert reader is not None
    half, width = D // 2 // heads, D // heads
    for b in range(B):
        for s in range(S):
            query = reader.query.weight @ states["tokens"][b, s]
            for h in range(heads):
                read = torch.zeros(D // 2)
                for p in range(P):
                    logits = states["parts"][b, :, p, h * half : (h + 1) * half] @ query[h * half : (h + 1) * half]
                    shares = (logits / half**0.5).softmax(-1)
                    assert shares.sum() == pytest.approx(1.0)
                    read += weights[b, s * heads + h, p] * (shares @ states["parts"][b, :, p])
                own = slice(h * width, (h + 1) * width)
                expected = (reader.value.weight @ read)[own] / 2
                torch.testing.assert_close(added[b, s, own], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("selection", ["hard", "soft"])
def test_permuted_patches_permute_the_choice_and_permuted_parts_nothing(
    selection: Selection, states: dict[str, Tensor]
) -> None:
    block, order = build(selection, score_heads=H, value_scale=2), torch.randperm(P)
    fused = block(**states, output_probabilities=True)
    moved = {name: value if name == "tokens" else value[..., order, :] for name, value in states.items()}
    again = block(**moved, output_probabilities=True)
    assert torch.equal(order[again.selected], fused.selected)
    torch.testing.assert_close(again.probabilities, fused.probabilities[..., order])
    torch.testing.assert_close(again.tokens, fused.tokens)
    swapped = block(**states | {"parts": states["parts"][:, [2, 0, 3, 1]]})
    torch.testing.assert_close(swapped.tokens, fused.tokens)


@torch.no_grad()
def test_parts_of_patches_that_no_token_picks_are_not_read(states: dict[str, Tensor]) -> None:
    block = build("hard", score_heads=H, value_scale=2, null_patch=True)
    fused = block(**states)
    for b in range(B):
        for p in range(P):
            changed = states["parts"].clone()
            changed[b, :, p] += 1
            same = torch.equal(block(**states | {"parts": changed}).tokens, fused.tokens)
            assert same == (p not in fused.selected[b])


def test_parts_of_an_image_are_those_of_its_patches() -> None:
    config = E2VisionConfig(**MODEL, hidden_size=8, num_attention_heads=2, patch_size=8, image_size=24, value_scale=2)
    embed = SubPatches(config)
    torch.nn.init.normal_(embed.convolution.weight)
    pixels = torch.randn(2, 3, 27, 35)  # what is left of whole patches is cut off, as by the patch embedding
    parts = embed(pixels)
    assert parts.shape == (2, 4, 3 * 4, 4)
    for row, column in ((0, 0), (1, 2), (2, 3)):
        for i, j in ((0, 0), (0, 1), (1, 0)):
            top, left = 8 * row + 4 * i, 8 * column + 4 * j
            window = pixels[:, :, top : top + 4, left : left + 4]
            alone = torch.einsum("bcyx,dcyx->bd", window, embed.convolution.weight)
            expected = torch.nn.functional.gelu(embed.layer_norm(alone))
            torch.testing.assert_close(parts[:, 2 * i + j, 4 * row + column], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_off_is_bit_equal_and_on_adds_to_the_regions(build_e2: BuildE2, pixels: Tensor) -> None:
    plain, off, on = (build_e2(**MODEL, **scale) for scale in ({}, {"value_scale": 1}, {"value_scale": 2}))
    on.load_state_dict(plain.state_dict(), strict=False)
    expected, found, more = (model.get_image_features(pixels, output_selection_maps=True) for model in (plain, off, on))
    assert torch.equal(found.region_features, expected.region_features)
    assert torch.equal(found.pooler_output, expected.pooler_output)
    # The first block has the same tokens and patches to compare, whatever it reads.
    assert torch.equal(more.selected_patches[:, 0], expected.selected_patches[:, 0])
    assert (more.region_features - expected.region_features).abs().max() > 1e-3


@pytest.mark.parametrize("selection", ["hard", "soft", "random"])
def test_every_new_weight_gets_a_gradient(build_e2: BuildE2, pixels: Tensor, selection: Selection) -> None:
    model = build_e2(**MODEL, value_scale=2, score_heads=3, selection=selection)
    model.get_region_features(pixels).square().sum().backward()
    added = {name: p for name, p in model.named_parameters() if ".parts." in name or "sub_patches" in name}
    assert {name.split(".")[1] for name in added} == {"fusion_blocks", "sub_patches"}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in added.values())


@torch.no_grad()
def test_a_folder_keeps_the_scale_and_a_former_model_gains_it(
    build_e2: BuildE2, pixels: Tensor, tmp_path: Path
) -> None:
    model = build_e2(**MODEL, value_scale=2)
    model.save_pretrained(tmp_path / "two")
    again = E2Model.from_pretrained(tmp_path / "two").eval()
    assert again.config.vision_config.value_scale == 2
    assert torch.equal(again.get_region_features(pixels), model.get_region_features(pixels))
    former = build_e2(**MODEL)
    former.save_pretrained(tmp_path / "one")
    state = E2Model.from_clip(tmp_path / "one", **MODEL, value_scale=2).state_dict()
    assert all(torch.equal(state.pop(name), value) for name, value in former.state_dict().items())
    assert {name for name in state if ".parts." not in name} == {
        "vision_model.sub_patches.convolution.weight",
        "vision_model.sub_patches.layer_norm.weight",
        "vision_model.sub_patches.layer_norm.bias",
    }
    scale = state["vision_model.sub_patches.convolution.weight"].std().item()
    assert 0.1 < scale < 0.2  # 48**-0.5 is 0.14: of a part's 3 x 4 x 4 values


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value_scale": 2, "value_layer": None}, "value_scale=2 without value_layer: states of the block's layer"),
        ({"value_scale": 3}, "value_scale=3 must divide patch_size=16, and times score_heads=4 hidden_size=128"),
        ({"value_scale": 2, "patch_size": 15}, "value_scale=2 must divide patch_size=15"),
        ({"value_scale": 4, "score_heads": 64}, "value_scale=4 must divide .* score_heads=64 hidden_size=128"),
        ({"value_scale": 0}, "value_scale=0 must divide"),
    ],
)
def test_impossible_scales_are_refused(fields: dict[str, Any], message: str) -> None:
    size = {"hidden_size": 128, "num_attention_heads": 2, "patch_size": 16, "image_size": 112, "score_heads": 4}
    with pytest.raises(E2FashionError, match=message):
        E2VisionConfig(**MODEL | size | fields)
    E2VisionConfig(**size | fields)  # without entities nothing of it counts


@torch.no_grad()
def test_the_second_scale_costs_less_than_a_twentieth_of_the_encoder() -> None:
    """The tower of a ViT-S/16, at 112 px, and the selection of the quickstart."""
    options = {**MODEL, "entities": {"brand": 2, "season": 2, "sub_category": 2}, "fusion_layers": [8, 11]}
    options |= {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "image_size": 112}
    options |= {"patch_size": 16, "selection": "soft", "score_heads": 4}
    operations = {}
    for scale in (1, 2):
        model = E2VisionModel(E2VisionConfig(**options, value_scale=scale)).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 112, 112), complete_states=False)
        operations[scale] = counter.get_total_flops()
    assert operations[1] < operations[2] < 1.05 * operations[1]
