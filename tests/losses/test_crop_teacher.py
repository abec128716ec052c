"""The crop that teaches a region: where it lies, what it is compared with, and who learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from e2fashion.data.catalogue import Catalogue
from e2fashion.losses.terms import CropTeacher
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch, E2FashionError
from tests.losses.steps import module_and_batch


def module_of(catalogue: Catalogue, *overrides: str) -> tuple[ContrastiveModule, Batch]:
    return module_and_batch(catalogue, "model.noise=none", *overrides)


@pytest.mark.parametrize(
    ("patch", "window", "top", "left"),
    [(0, 3, 0, 0), (5, 3, 0, 0), (10, 3, 8, 8), (15, 3, 8, 8), (6, 2, 0, 8), (9, 1, 16, 8), (7, 4, 0, 0)],
)
def test_the_window_lies_around_the_pick_and_within_the_image(patch: int, window: int, top: int, left: int) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = CropTeacher(window).crops(images, torch.tensor([patch, patch]), 8)
    side = 8 * window
    plain = images[:, :, top : top + side, left : left + side]
    torch.testing.assert_close(found, F.interpolate(plain, (32, 32), mode="bilinear", align_corners=False))


@pytest.mark.parametrize("selection", ["hard", "soft"])
def test_a_region_learns_from_the_crop_around_its_most_probable_patch(
    selection: str, synth_catalogue: Catalogue
) -> None:
    options = ["model.entities={brand: {tokens: 2}, season: {tokens: 0}}", f"model.selection={selection}"]
    term = "loss.terms.crop_teacher={weight: 0.5, options: {window: 2}}"
    module, batch = module_of(synth_catalogue, *options, term)
    plain, _ = module_of(synth_catalogue, *options)
    batch = replace(batch, tag_present=batch.tag_present & (torch.arange(len(batch)) > 2)[:, None])
    result, without = module.compute_loss(batch), plain.compute_loss(batch)
    assert torch.equal(result.terms["global"], without.terms["global"])
    found = result.terms["crop_teacher"]
    torch.testing.assert_close(result.total, without.total + 0.5 * found)

    model, losses = module.model, []
    for place in range(len(batch)):
        if not batch.tag_present[place, 0]:  # an entity without tokens is never drawn
            continue
        image = batch.pixel_values[place][None]
        output = model.get_image_features(image, output_selection_maps=True)
        row, column = divmod(int(output.selection_maps[0, -1, :2].mean(0).argmax()), 4)
        top, left = (8 * min(max(number - 1, 0), 2) for number in (row, column))
        crop = F.interpolate(image[:, :, top : top + 16, left : left + 16], (32, 32), mode="bilinear")
        teacher = model.get_image_features(crop).pooler_output[0]
        losses.append(1 - F.cosine_similarity(output.region_features[0, 0], teacher, dim=0))
    assert 0 < len(losses) < len(batch) - 2
    torch.testing.assert_close(found, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)

    found.backward()
    heads, projection = model.region_heads.get_parameter("brand.projection.weight"), model.visual_projection.weight
    assert heads.grad is not None
    assert heads.grad.ne(0).any()
    # The teacher is not taught: the image feature's projection is read by nothing else in this term.
    assert projection.grad is None or not projection.grad.any()


def test_the_entity_is_drawn_by_the_step_and_without_tags_the_term_is_zero(synth_catalogue: Catalogue) -> None:
    module, batch = module_of(synth_catalogue, "loss.terms.crop_teacher.weight=1")

    def term(seed: int, batch: Batch = batch) -> Any:
        torch.manual_seed(seed)
        return module.compute_loss(batch).terms["crop_teacher"]

    assert torch.equal(term(1), term(1))
    assert len({term(seed).item() for seed in range(4)}) > 1
    assert term(1, replace(batch, tag_present=torch.zeros_like(batch.tag_present))) == 0


@pytest.mark.parametrize("words", [["model.fusion_layers=[]"], ["model.entities={}"]])
def test_without_a_selection_it_is_refused_before_work(words: list[str], synth_catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"'crop_teacher' needs the patches.*name model.fusion_layers"):
        module_of(synth_catalogue, "loss.terms.crop_teacher.weight=1", *words)


def test_a_window_larger_than_the_image_is_refused(synth_catalogue: Catalogue) -> None:
    module, batch = module_of(synth_catalogue, "loss.terms.crop_teacher.options.window=5")
    with pytest.raises(
        E2FashionError, match=r"window is 5, and the image has 4 x 4 patches: give a number from 1 to 4"
    ):
        module.compute_loss(batch)
