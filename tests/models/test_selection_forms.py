"""Forms of selection beyond the official one: each has a law, and off is the official block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from e2fashion.models import E2Model
from e2fashion.models.selection import FusionBlock, NoiseSource
from e2fashion.types import E2FashionError, Entity, Selection
from tests.models.blocks import fusion_block

BuildE2 = Callable[..., E2Model]

ENTITIES = (Entity("brand", "brand", 2), Entity("season", "season", 1), Entity("kind", "kind", 3))
D, P, S = 16, 9, 6
FORMS: dict[str, dict[str, Any]] = {
    "gate": {"value_gate": -2.0},
    "competition": {"competition": True},
    "null_patch": {"null_patch": True},
    "heads": {"score_heads": 4},
}
KINDS: tuple[Selection, ...] = ("hard", "soft")


def build(selection: Selection = "soft", entities: tuple[Entity, ...] = ENTITIES, **options: Any) -> FusionBlock:
    torch.manual_seed(0)
    block = fusion_block(selection, D, entities, **options)
    for weight in block.parameters():
        if weight.ndim:
            torch.nn.init.normal_(weight, std=D**-0.5)
        else:
            torch.nn.init.constant_(weight, -2.0)
    return block


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def tokens() -> Tensor:
    return drawn(1, 2, S, D)


@pytest.fixture
def patches() -> Tensor:
    return drawn(2, 2, P, D)


@pytest.fixture
def early() -> Tensor:
    return drawn(3, 2, P, D)


@pytest.mark.parametrize("selection", [*KINDS, "random"])
def test_a_gate_mixes_early_and_late_values(
    selection: Selection, tokens: Tensor, patches: Tensor, early: Tensor
) -> None:
    block, plain = build(selection, value_gate=-2.0), build(selection)
    plain.load_state_dict(block.state_dict(), strict=False)
    of_early, of_late = (plain(tokens, patches, values=values).tokens for values in (early, patches))
    assert block.gates is not None
    for number, expected in ((-torch.inf, of_early), (torch.inf, of_late)):
        for gate in block.gates.parameters():
            torch.nn.init.constant_(gate, number)
        assert torch.equal(block(tokens, patches, values=early).tokens, expected)
    with torch.no_grad():
        block.gates.brand.fill_(-2.0)
        block.gates.season.fill_(-torch.inf)
    share = torch.tensor(-2.0).sigmoid()
    mixed = torch.cat([(of_early + share * (of_late - of_early))[:, :2], of_early[:, 2:3], of_late[:, 3:]], 1)
    torch.testing.assert_close(block(tokens, patches, values=early).tokens, mixed)


def test_entities_share_each_patch(tokens: Tensor, patches: Tensor) -> None:
    """Slowly: the softmax over patches times the entity's part in the patch, normalized over patches."""
    block = build(competition=True, selection_temperature=0.5)
    found = block(tokens, patches, output_probabilities=True).probabilities
    logits = block.scores(tokens, patches) / 0.5
    claims = torch.stack([logits[:, part].exp().mean(1) for part in (slice(0, 2), slice(2, 3), slice(3, 6))], 1)
    parts = claims / claims.sum(1, keepdim=True)
    torch.testing.assert_close(parts.sum(1), torch.ones(2, P))
    weights = logits.softmax(-1) * parts[:, [0, 0, 1, 2, 2, 2]]
    torch.testing.assert_close(found, weights / weights.sum(-1, keepdim=True))


@pytest.mark.parametrize("selection", KINDS)
def test_one_entity_has_no_competitor(selection: Selection, tokens: Tensor, patches: Tensor) -> None:
    entities = (Entity("brand", "brand", S),)
    alone, plain = (build(selection, entities, competition=competition) for competition in (True, False))
    assert torch.equal(alone(tokens, patches).tokens, plain(tokens, patches).tokens)


def test_competition_parts_equal_choices(patches: Tensor) -> None:
    """Two entities that want the same patch: the one that wants it more keeps it, the other one reads it less."""
    block = build(entities=(Entity("brand", "brand", 1), Entity("season", "season", 1)), competition=True)
    tokens = drawn(4, 2, 1, D) * torch.tensor([[3.0], [1.0]])
    plain = block.scores(tokens, patches).softmax(-1)
    best = plain[:, 0].argmax(-1, keepdim=True)
    found = block(tokens, patches, output_probabilities=True).probabilities
    assert bool((found[:, 1].gather(-1, best) < plain[:, 1].gather(-1, best)).all())
    assert bool((found[:, 0].gather(-1, best) > plain[:, 0].gather(-1, best)).all())


@pytest.mark.parametrize("options", [{"competition": True}, {"null_patch": True}])
def test_tokens_at_fixed_places_stay_there_and_claim_nothing(
    options: dict[str, Any], tokens: Tensor, patches: Tensor
) -> None:
    fixed = (*ENTITIES[:2], Entity("kind", "kind", 3, fixed=True))
    block, official, without = (
        build("hard", fixed, **options),
        build("hard", fixed),
        build("hard", ENTITIES[:2], **options),
    )
    without.load_state_dict(block.state_dict())
    found = block(tokens, patches)
    assert torch.equal(found.selected[:, 3:], official(tokens, patches).selected[:, 3:])
    torch.testing.assert_close(found.tokens[:, :3], without(tokens[:, :3], patches).tokens)
    found.tokens.sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in block.parameters() if weight.grad is not None)


def test_fixed_entities_alone_do_not_compete(tokens: Tensor, patches: Tensor) -> None:
    block = build("hard", (Entity("kind", "kind", S, fixed=True),), competition=True)
    found = block(tokens, patches.requires_grad_())
    found.tokens.sum().backward()
    assert torch.isfinite(patches.grad).all()


@pytest.mark.parametrize("selection", KINDS)
def test_a_null_patch_that_no_token_wants_is_none(selection: Selection, tokens: Tensor, patches: Tensor) -> None:
    entities = (Entity("brand", "brand", 1),)
    block, plain = (build(selection, entities, null_patch=null) for null in (True, False))
    plain.load_state_dict(block.state_dict(), strict=False)
    tokens = tokens[:1, :1].expand(2, -1, -1)
    assert block.null_patch is not None
    with torch.no_grad():
        block.null_patch[0] = -1e6 * (tokens[0, 0] @ block.query.weight.T @ block.key.weight)
    found, expected = (part(tokens, patches, output_probabilities=True) for part in (block, plain))
    assert torch.equal(found.selected, expected.selected)
    torch.testing.assert_close(found.tokens, expected.tokens)
    torch.testing.assert_close(found.probabilities, expected.probabilities)


def test_a_token_may_read_the_null_patch_alone(tokens: Tensor, patches: Tensor) -> None:
    block = build("hard", (Entity("brand", "brand", 1),), null_patch=True)
    tokens = tokens[:1, :1]
    assert block.null_patch is not None
    with torch.no_grad():
        block.null_patch[0] = 1e6 * (tokens[0, 0] @ block.query.weight.T @ block.key.weight)
    found = block(tokens, patches[:1], output_probabilities=True)
    assert found.selected.tolist() == [[[-1]]]
    assert found.probabilities is not None
    assert found.probabilities.shape == (1, 1, P)
    assert found.probabilities.sum() == 0
    torch.testing.assert_close(found.tokens, (block.value(block.null_patch[1]) + tokens) / 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("selection", KINDS)
def test_permuting_patches_permutes_only_the_choice(
    selection: Selection, form: str, tokens: Tensor, patches: Tensor, early: Tensor
) -> None:
    block, order = build(selection, **FORMS[form]), torch.randperm(P, generator=torch.Generator().manual_seed(0))
    first, second = (
        block(tokens, states[0], values=states[1], output_probabilities=True)
        for states in ((patches, early), (patches[:, order], early[:, order]))
    )
    torch.testing.assert_close(first.tokens, second.tokens)
    torch.testing.assert_close(first.probabilities[..., order], second.probabilities)
    picked = torch.where(second.selected < 0, -1, order[second.selected])
    assert torch.equal(picked, first.selected)


@pytest.mark.parametrize("form", FORMS)
def test_forms_work_with_noise_and_several_patches(form: str, tokens: Tensor, patches: Tensor, early: Tensor) -> None:
    block = build("hard", patches_per_token=2, **FORMS[form])
    fused = block(tokens, patches, values=early, noise=NoiseSource(torch.Generator().manual_seed(0)))
    assert fused.selected.shape == (2, S, 2 * block.heads)
    assert int(fused.selected.max()) < P
    fused.tokens.square().sum().backward()
    for name, weight in block.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("selection", KINDS)
def test_each_head_reads_its_part_by_its_scores(
    selection: Selection, tokens: Tensor, patches: Tensor, early: Tensor
) -> None:
    """Slowly: a block per head, of the head's rows of all three matrices."""
    block = build(selection, score_heads=4)
    found, parts, chosen, shares = block(tokens, patches, values=early, output_probabilities=True), [], [], []
    for head in (slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 16)):
        query, key, value = (part.weight[head] for part in (block.query, block.key, block.value))
        scores = (tokens @ query.T) @ (patches @ key.T).transpose(1, 2) / 2
        chosen.append(scores.argmax(-1))
        shares.append(scores.softmax(-1))
        weights = torch.nn.functional.one_hot(chosen[-1], P).float() if selection == "hard" else shares[-1]
        parts.append(weights @ early @ value.T)
    torch.testing.assert_close(found.tokens, (torch.cat(parts, -1) + tokens) / 2)
    torch.testing.assert_close(found.probabilities, torch.stack(shares).mean(0))
    picked = torch.stack(chosen, -1) if selection == "hard" else torch.stack(shares).mean(0).argmax(-1)[..., None]
    assert torch.equal(found.selected, picked)


def test_heads_of_a_token_at_a_fixed_place_read_that_place(tokens: Tensor, patches: Tensor) -> None:
    fixed = (*ENTITIES[:2], Entity("kind", "kind", 3, fixed=True))
    block, single = build("hard", fixed, score_heads=2), build("hard", fixed)
    single.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(tokens, patches).tokens[:, 3:], single(tokens, patches).tokens[:, 3:])


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_exported_for_any_batch(form: str, tokens: Tensor, patches: Tensor) -> None:
    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = build("hard", **FORMS[form]).eval()

        def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
            return self.block(tokens, patches).tokens

    module, batch = Tokens(), torch.export.Dim("batch")
    graph = torch.export.export(module, (tokens, patches), dynamic_shapes=({0: batch}, {0: batch}))
    more = [torch.cat([states, states + 1, states[:1]]) for states in (tokens, patches)]
    torch.testing.assert_close(graph.module()(*more), module(*more))


def build_model(build_e2: BuildE2, form: str, **options: Any) -> E2Model:
    entities = {"brand": 2, "season": 1}
    return build_e2(
        entities=entities, fusion_layers=[2, 3], value_layer=1, token_attention="own", **FORMS[form], **options
    )


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_form_survives_its_folder(build_e2: BuildE2, form: str, pixels: Tensor, tmp_path: Path) -> None:
    model = build_model(build_e2, form)
    model.save_pretrained(tmp_path)
    again, before = (E2Model.from_pretrained(tmp_path).eval(), model)
    (option,) = FORMS[form]
    assert getattr(again.config.vision_config, option) == FORMS[form][option]
    assert torch.equal(again.get_region_features(pixels), before.get_region_features(pixels))


def test_a_model_without_forms_goes_on_with_them(build_e2: BuildE2, tmp_path: Path) -> None:
    options: dict[str, Any] = {"entities": {"brand": 2, "season": 1}, "fusion_layers": [2, 3], "value_layer": 1}
    former = build_e2(**options)
    former.save_pretrained(tmp_path)
    forms = {option: value for form in FORMS.values() for option, value in form.items()}
    state = E2Model.from_clip(tmp_path, **options, **forms).state_dict()
    assert all(torch.equal(state.pop(name), value) for name, value in former.state_dict().items())
    assert {name.split(".")[3] for name in state} == {"gates", "null_patch"}
    assert all(value.item() == -2.0 for name, value in state.items() if ".gates." in name)


def test_gates_start_where_they_shall_and_null_patches_small(build_e2: BuildE2) -> None:
    model = E2Model(build_model(build_e2, "gate", null_patch=True).config)
    added = {name: p for name, p in model.named_parameters() if ".gates." in name or "null_patch" in name}
    names = [f"{layer}.{part}" for layer in (2, 3) for part in ("null_patch", "gates.brand", "gates.season")]
    assert list(added) == [f"vision_model.fusion_blocks.{name}" for name in names]
    for name, parameter in added.items():
        if ".gates." in name:
            assert parameter.item() == -2.0
        else:
            assert 0.05 < parameter.std().item() < 0.3  # 48**-0.5 is 0.14


@pytest.mark.parametrize("form", FORMS)
def test_permuting_entities_permutes_regions(build_e2: BuildE2, form: str, pixels: Tensor) -> None:
    options: dict[str, Any] = {"fusion_layers": [2], "value_layer": 1, **FORMS[form]}
    one = build_e2(entities={"brand": 2, "season": 1}, **options)
    other = build_e2(entities={"season": 1, "brand": 2}, **options)
    if form == "gate":
        torch.nn.init.constant_(one.get_parameter("vision_model.fusion_blocks.2.gates.season"), 1.0)
    other.load_state_dict(one.state_dict())
    first, second = one.get_region_features(pixels), other.get_region_features(pixels)
    torch.testing.assert_close(first[:, [1, 0]], second, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_chooses_in_fp32_under_bf16_autocast(form: str, tokens: Tensor, patches: Tensor, early: Tensor) -> None:
    block = build(**FORMS[form])
    exact = block(tokens, patches, values=early, output_probabilities=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = block(tokens, patches, values=early, output_probabilities=True)
    assert torch.equal(found.selected, exact.selected)
    assert torch.equal(found.probabilities, exact.probabilities)
    torch.testing.assert_close(found.tokens.float(), exact.tokens, atol=0.03, rtol=0.03)
    found.tokens.float().square().sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in block.parameters() if weight.grad is not None)


def test_a_gate_without_early_values_is_refused(build_e2: BuildE2) -> None:
    with pytest.raises(E2FashionError, match=r"value_gate=-2.0 without value_layer"):
        build_e2(entities=["brand"], fusion_layers=[1], value_gate=-2.0)
    build_e2(value_gate=-2.0)  # without entities nothing of it counts


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_that_do_not_divide_the_width_are_refused(build_e2: BuildE2, heads: int) -> None:
    with pytest.raises(E2FashionError, match=f"score_heads={heads} must divide hidden_size=48"):
        build_e2(entities=["brand"], fusion_layers=[1], score_heads=heads)
