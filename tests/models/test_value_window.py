"""Values that hold a window of patches: a crop around what a token picks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from e2fashion.models import E2Model, E2VisionConfig
from e2fashion.models.selection_tokens import ValueWindow
from e2fashion.types import E2FashionError

BuildE2 = Callable[..., E2Model]

MODEL: dict[str, Any] = {
    "entities": {"brand": 2, "season": 1},
    "fusion_layers": [2, 3],
    "value_layer": 1,
    "token_attention": "own",
}
WINDOW = "vision_model.value_window.convolution.weight"


@torch.no_grad()
@pytest.mark.parametrize("side", [3, 5])
def test_a_window_is_the_sum_over_its_patches(side: int) -> None:
    """Slowly, patch by patch, on a grid of 3 x 4; what lies beyond the border is zero."""
    rows, columns, width = 3, 4, 6
    config = E2VisionConfig(**MODEL, hidden_size=width, num_attention_heads=2, value_window=side)
    window = ValueWindow(config)
    torch.nn.init.normal_(window.convolution.weight)
    values = torch.randn(2, rows * columns, width)
    found = window(values, columns)
    reach, weight = side // 2, window.convolution.weight[:, 0]
    for y in range(rows):
        for x in range(columns):
            expected = torch.zeros(2, width)
            for i in range(-reach, reach + 1):
                for j in range(-reach, reach + 1):
                    if 0 <= y + i < rows and 0 <= x + j < columns:
                        expected += weight[:, i + reach, j + reach] * values[:, (y + i) * columns + x + j]
            torch.testing.assert_close(found[:, y * columns + x], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("value_layer", [0, 1])
def test_a_new_window_is_the_patch_alone(build_e2: BuildE2, pixels: Tensor, value_layer: int) -> None:
    fields = {**MODEL, "value_layer": value_layer}
    plain, wide = build_e2(**fields), build_e2(**fields, value_window=3)
    new = E2Model(wide.config).get_parameter(WINDOW)
    assert new.sum() == len(new)  # a one in the middle of each
    assert torch.equal(new[:, 0, 1, 1], torch.ones(len(new)))
    wide.load_state_dict({**plain.state_dict(), WINDOW: new})
    expected, found = plain.get_image_features(pixels), wide.get_image_features(pixels)
    torch.testing.assert_close(found.region_features, expected.region_features)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output)


@torch.no_grad()
def test_a_window_moves_what_is_read_and_not_the_choice(build_e2: BuildE2, pixels: Tensor) -> None:
    model = build_e2(**MODEL, value_window=3)
    before = model.get_image_features(pixels, output_selection_maps=True)
    model.get_parameter(WINDOW)[:, :, 0, 0] = 1.0
    after = model.get_image_features(pixels, output_selection_maps=True)
    assert torch.equal(after.selected_patches[:, 0], before.selected_patches[:, 0])
    assert (after.region_features - before.region_features).abs().max() > 1e-3


@torch.no_grad()
def test_only_the_window_of_the_pick_is_read(build_e2: BuildE2, pixels: Tensor) -> None:
    """A patch state two rows or columns from every pick changes nothing, a neighbor's does."""
    model = build_e2(**MODEL, value_window=3)
    tower = model.vision_model
    model.get_parameter(WINDOW)[:] = 1.0
    states = tower.embed(pixels)[:, 1:-3]
    columns = pixels.shape[-1] // tower.config.patch_size
    values = tower.value_window(states, columns)
    for patch in range(states.shape[1]):
        changed = states.clone()
        changed[:, patch] += 1
        moved = (tower.value_window(changed, columns) != values).any(-1)[0]
        near = [
            abs(patch // columns - other // columns) <= 1 and abs(patch % columns - other % columns) <= 1
            for other in range(states.shape[1])
        ]
        assert moved.tolist() == near


def test_the_window_gets_a_gradient(build_e2: BuildE2, pixels: Tensor) -> None:
    model = build_e2(**MODEL, value_window=3, selection="soft", noise="none")
    model.get_region_features(pixels).square().sum().backward()
    gradient = model.get_parameter(WINDOW).grad
    assert gradient is not None
    assert (gradient.abs().amax((0, 1)) > 0).all()


@torch.no_grad()
def test_a_folder_keeps_the_window_and_a_former_model_gains_it(
    build_e2: BuildE2, pixels: Tensor, tmp_path: Path
) -> None:
    model = build_e2(**MODEL, value_window=3)
    model.get_parameter(WINDOW).normal_()
    model.save_pretrained(tmp_path / "wide")
    again = E2Model.from_pretrained(tmp_path / "wide").eval()
    assert torch.equal(again.get_region_features(pixels), model.get_region_features(pixels))
    former = build_e2(**MODEL)
    former.save_pretrained(tmp_path / "plain")
    gained = E2Model.from_clip(tmp_path / "plain", **MODEL, value_window=3).eval()
    torch.testing.assert_close(gained.get_region_features(pixels), former.get_region_features(pixels))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value_window": 2}, "value_window=2 must be odd"),
        ({"value_window": 0}, "value_window=0 must be odd"),
        ({"value_window": 3, "value_layer": None}, "value_window=3 without value_layer: states of the block's layer"),
    ],
)
def test_impossible_windows_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        E2VisionConfig(**MODEL | fields)
    E2VisionConfig(**fields)  # without entities nothing of it counts
