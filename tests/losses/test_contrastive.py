"""The weighted sum of global and regional terms in one process."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.losses.functional import info_nce
from e2fashion.types import E2FashionError

ENTITIES = ("brand", "season", "composition")
SCALE = torch.tensor(2.0)


def inputs(products: int = 6, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, 8, generator=generator), dim=-1)

    return {
        "image_embeds": unit(products),
        "text_embeds": unit(products),
        "region_embeds": unit(products, len(ENTITIES)),
        "tag_embeds": unit(products, len(ENTITIES)),
        "tag_present": torch.rand(products, len(ENTITIES), generator=generator) > 0.3,
        "tag_value": torch.randint(0, 3, (products, len(ENTITIES)), generator=generator),
        "logit_scale": SCALE,
    }


@pytest.mark.parametrize("targets", ["diagonal", "same_value"])
def test_total_is_the_weighted_mean_of_the_terms(targets: str) -> None:
    batch = inputs()
    found = ContrastiveLoss(ENTITIES, 0.3, targets)(**batch)
    regional = [
        info_nce(
            batch["region_embeds"][:, e],
            batch["tag_embeds"][:, e],
            SCALE,
            batch["tag_present"][:, e],
            batch["tag_value"][:, e] if targets == "same_value" else None,
        )
        for e in range(len(ENTITIES))
    ]
    expected = 0.7 * info_nce(batch["image_embeds"], batch["text_embeds"], SCALE) + 0.3 * sum(regional) / 3
    assert torch.allclose(found.total, expected, atol=1e-6)
    assert list(found.terms) == ["global", "region/brand", "region/season", "region/composition"]
    assert torch.allclose(found.terms["region/season"], regional[1], atol=1e-6)


def test_a_rare_entity_leaves_the_mean() -> None:
    batch = inputs()
    batch["tag_present"] = torch.ones(6, 3, dtype=torch.bool)
    batch["tag_present"][1:, 1] = False
    found = ContrastiveLoss(ENTITIES, 0.5)(**batch)
    kept = (found.terms["region/brand"] + found.terms["region/composition"]) / 2
    assert "region/season" not in found.terms
    assert torch.allclose(found.total, 0.5 * found.terms["global"] + 0.5 * kept, atol=1e-6)


def test_without_any_tag_the_global_term_has_the_whole_weight() -> None:
    batch = inputs()
    batch["tag_present"] = torch.zeros(6, 3, dtype=torch.bool)
    batch["region_embeds"].requires_grad_()
    batch["image_embeds"].requires_grad_()
    found = ContrastiveLoss(ENTITIES, 0.5)(**batch)
    found.total.backward()
    assert torch.equal(found.total, found.terms["global"])
    assert (batch["region_embeds"].grad == 0).all()


@pytest.mark.parametrize(("names", "weight"), [(ENTITIES, 0.0), ((), 0.5)])
def test_clip_fine_tuning_reads_nothing_regional(names: tuple[str, ...], weight: float) -> None:
    batch = inputs()
    found = ContrastiveLoss(names, weight)(batch["image_embeds"], batch["text_embeds"], None, None, None, None, SCALE)
    assert list(found.terms) == ["global"]
    assert torch.allclose(found.total, info_nce(batch["image_embeds"], batch["text_embeds"], SCALE), atol=1e-6)


def test_the_scale_learns_from_every_term() -> None:
    batch = inputs()
    gradients = []
    for weight in (0.0, 1.0, 0.5):
        batch["logit_scale"] = SCALE.clone().requires_grad_()
        ContrastiveLoss(ENTITIES, weight)(**batch).total.backward()
        gradients.append(batch["logit_scale"].grad)
    assert gradients[1].abs() > 0
    assert torch.allclose(gradients[2], (gradients[0] + gradients[1]) / 2, atol=1e-6)


def test_low_precision_inputs_are_summed_in_fp32() -> None:
    batch = inputs()
    for name in ("image_embeds", "text_embeds", "region_embeds", "tag_embeds"):
        batch[name] = batch[name].bfloat16()
    assert ContrastiveLoss(ENTITIES)(**batch).total.dtype == torch.float32


def test_missing_regional_embeddings_are_refused() -> None:
    batch = inputs()
    batch["region_embeds"] = None
    with pytest.raises(E2FashionError, match=r"region_weight is 0\.5 but the regional embeddings are None"):
        ContrastiveLoss(ENTITIES)(**batch)


def test_another_number_of_entities_is_refused() -> None:
    with pytest.raises(E2FashionError, match="region_embeds has 3 entities, the loss was built for 2"):
        ContrastiveLoss(ENTITIES[:2])(**inputs())


def test_a_weight_beyond_one_is_refused() -> None:
    with pytest.raises(E2FashionError, match=r"region_weight is 1\.5"):
        ContrastiveLoss(ENTITIES, 1.5)


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(E2FashionError, match="region_targets is 'same'"):
        ContrastiveLoss(ENTITIES, 0.5, "same")  # type: ignore[arg-type]
