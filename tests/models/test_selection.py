from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.models.selection import (
    FusionBlock,
    NoiseSource,
    SelectionNoise,
    SelectionTokens,
    best_patches,
    gumbel_noise,
    straight_through,
)
from e2fashion.types import E2FashionError, Entity, Selection
from tests.models.blocks import fusion_block

ENTITIES = (Entity("brand", "brand", 2), Entity("season", "season", 1))
D = 16


def build(selection: Selection = "hard", **options: object) -> FusionBlock:
    torch.manual_seed(0)
    block = fusion_block(selection, D, ENTITIES, **options)
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=D**-0.5)
    return block


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 3, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def patches() -> Tensor:
    return torch.randn(2, 9, D, generator=torch.Generator().manual_seed(2))


def slow_fusion(block: FusionBlock, tokens: Tensor, patches: Tensor, weigh: str = "hard") -> Tensor:
    """The block as the paper describes it: every patch projected, one token at a time."""
    keys, values = patches @ block.key.weight.T, patches @ block.value.weight.T
    fused = torch.empty_like(tokens)
    for image in range(len(tokens)):
        for token in range(tokens.shape[1]):
            logits = keys[image] @ (block.query.weight @ tokens[image, token]) / D**0.5
            soft = (logits / block.temperature).softmax(0)
            if weigh == "hard":
                chosen = F.one_hot(logits.argmax(), len(logits)).float()
                soft = chosen - soft.detach() + soft
            fused[image, token] = (soft @ values[image] + tokens[image, token]) / 2
    return fused


@pytest.mark.parametrize("selection", ["hard", "soft"])
def test_fusion_equals_the_slow_one_in_value_and_gradient(selection: str, tokens: Tensor, patches: Tensor) -> None:
    block = build(selection=selection, selection_temperature=0.7)
    inputs = [tokens.requires_grad_(), patches.requires_grad_(), *block.parameters()]
    fast = block(tokens, patches).tokens
    slow = slow_fusion(block, tokens, patches, weigh=selection)
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    direction = torch.randn(fast.shape, generator=torch.Generator().manual_seed(3))
    for one, other in zip(
        torch.autograd.grad((fast * direction).sum(), inputs),
        torch.autograd.grad((slow * direction).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_hard_selection_reads_the_argmax(tokens: Tensor, patches: Tensor) -> None:
    block = build()
    fusion = block(tokens, patches)
    best = block.scores(tokens, patches).argmax(-1)
    assert torch.equal(fusion.selected[..., 0], best)
    read = torch.stack([patches[image, best[image]] for image in range(2)]) @ block.value.weight.T
    torch.testing.assert_close(fusion.tokens, (read + tokens) / 2)


def test_gradient_tracking_does_not_change_the_value(tokens: Tensor, patches: Tensor) -> None:
    block = build()
    with torch.no_grad():
        without = block(tokens, patches).tokens
    assert torch.equal(block(tokens, patches).tokens, without)


def test_one_best_patch_is_hard_selection() -> None:
    scores = torch.randn(4, 9)
    assert torch.equal(best_patches(scores, 1), scores.topk(1).indices)


def test_top_k_reads_the_mean_of_the_best(tokens: Tensor, patches: Tensor) -> None:
    block = build(patches_per_token=3)
    fusion = block(tokens, patches)
    best = block.scores(tokens, patches).topk(3).indices
    assert torch.equal(fusion.selected, best)
    mean = torch.stack([patches[image, best[image]].mean(-2) for image in range(2)])
    torch.testing.assert_close(fusion.tokens, (mean @ block.value.weight.T + tokens) / 2)


def test_straight_through_has_the_gradient_of_the_softmax() -> None:
    scores = torch.randn(3, 9, requires_grad=True)
    values = torch.randn(9)
    for count in (1, 4):
        weights = straight_through(best_patches(scores, count), scores, 0.5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3))
        (ours,) = torch.autograd.grad((weights @ values).sum(), scores)
        (softmax,) = torch.autograd.grad(((scores / 0.5).softmax(-1) @ values).sum(), scores)
        torch.testing.assert_close(ours, softmax)


def test_soft_selection_becomes_hard_as_the_temperature_falls(tokens: Tensor, patches: Tensor) -> None:
    hard = build()(tokens, patches).tokens
    torch.testing.assert_close(build(selection="soft", selection_temperature=1e-4)(tokens, patches).tokens, hard)


def test_too_many_patches_per_token_are_refused(tokens: Tensor, patches: Tensor) -> None:
    with pytest.raises(E2FashionError, match="patches_per_token=10 but the image has 9 patches"):
        build(patches_per_token=10)(tokens, patches)


def test_probabilities_are_free_of_noise_and_only_on_request(tokens: Tensor, patches: Tensor) -> None:
    block = build()
    assert block(tokens, patches).probabilities is None
    noisy = block(tokens, patches, noise=NoiseSource(), output_probabilities=True)
    torch.testing.assert_close(noisy.probabilities, block.scores(tokens, patches).softmax(-1))


def test_noise_follows_the_gumbel_distribution() -> None:
    noise = gumbel_noise((200_000,), torch.device("cpu"), NoiseSource(torch.Generator().manual_seed(0)))
    assert abs(noise.mean().item() - 0.5772) < 0.01
    assert abs(noise.std().item() - torch.pi / 6**0.5) < 0.01


def test_noisy_choices_follow_the_softmax() -> None:
    block = build()
    tokens, patches = torch.randn(1, 3, D).expand(4000, -1, -1), torch.randn(1, 9, D).expand(4000, -1, -1)
    fusion = block(tokens, patches, noise=NoiseSource(torch.Generator().manual_seed(0)))
    shares = F.one_hot(fusion.selected[..., 0], 9).float().mean(0)
    torch.testing.assert_close(shares, block.scores(tokens[:1], patches[:1])[0].softmax(-1), atol=0.04, rtol=0)


def test_random_selection_does_not_depend_on_the_image_and_needs_no_query(tokens: Tensor, patches: Tensor) -> None:
    block = build(selection="random", patches_per_token=2)
    assert {name for name, _ in block.named_parameters()} == {"value.weight"}
    first, second = block(tokens, patches).selected, block(tokens + 1, patches.flip(0)).selected
    assert torch.equal(first, second)
    assert torch.equal(first[0], first[1])


def test_random_selection_belongs_to_the_token_not_to_its_place(tokens: Tensor, patches: Tensor) -> None:
    forward = fusion_block("random", D, ENTITIES)(tokens, patches).selected
    backward = fusion_block("random", D, ENTITIES[::-1])(tokens, patches).selected
    assert torch.equal(forward[:, [2, 0, 1]], backward)


def test_random_selection_covers_all_patches_in_training(tokens: Tensor, patches: Tensor) -> None:
    block = build(selection="random")
    many = block(tokens[:1].expand(3000, -1, -1), patches[:1].expand(3000, -1, -1), noise=NoiseSource()).selected
    shares = F.one_hot(many.flatten(), 9).float().mean(0)
    torch.testing.assert_close(shares, torch.full((9,), 1 / 9), atol=0.02, rtol=0)


def test_scores_stay_in_float32_under_autocast(tokens: Tensor, patches: Tensor) -> None:
    block = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = block.scores(tokens, patches)
    assert torch.equal(scores, block.scores(tokens, patches))


def test_selection_tokens_stand_in_the_order_of_the_entities() -> None:
    tokens = SelectionTokens(ENTITIES, D)
    for number, parameter in enumerate(tokens.parameters()):
        torch.nn.init.constant_(parameter, number)
    assert tokens(2)[1, :, 0].tolist() == [0.0, 0.0, 1.0]
    assert {name for name, _ in tokens.named_parameters()} == {"brand", "season"}


def test_seeded_noise_repeats_and_moves_on() -> None:
    def draw(noise: SelectionNoise) -> Tensor:
        return torch.rand(8, generator=noise.source(torch.device("cpu")).generator)

    noise = SelectionNoise()
    noise.seed(7, 1)
    first, second = draw(noise), draw(noise)
    torch.rand(5)  # the global generator must not matter
    noise.seed(7, 1)
    assert torch.equal(draw(noise), first)
    assert not torch.equal(first, second)
    noise.seed(7, 2)
    assert not torch.equal(draw(noise), first)
    noise.seed()
    assert noise.source(torch.device("cpu")).generator is None


def test_negative_noise_keys_are_refused() -> None:
    with pytest.raises(E2FashionError, match=r"\(3, -1\)"):
        SelectionNoise().seed(3, -1)


def test_without_key_gradient_patches_learn_from_what_is_read_alone(tokens: Tensor, patches: Tensor) -> None:
    values = torch.randn(patches.shape, generator=torch.Generator().manual_seed(3))
    gradients = {}
    for learned in (True, False):
        block, states = build("soft", key_gradient=learned), patches.clone().requires_grad_()
        early = values.clone().requires_grad_()
        fused = block(tokens, states, values=early).tokens
        torch.testing.assert_close(fused, build("soft")(tokens, patches, values=values).tokens)
        gradients[learned] = torch.autograd.grad(fused.sum(), [states, early, block.query.weight], allow_unused=True)
    assert gradients[True][0].abs().sum() > 0
    assert gradients[False][0] is None
    for with_keys, without in zip(gradients[True][1:], gradients[False][1:], strict=True):
        torch.testing.assert_close(with_keys, without)


def test_tokens_at_fixed_places_read_what_random_selection_reads_and_others_choose(
    tokens: Tensor, patches: Tensor
) -> None:
    entities = (Entity("brand", "brand", 2), Entity("season", "season", 1, fixed=True))
    block, random = (fusion_block("soft", D, entities), fusion_block("random", D, entities))
    fused, drawn = (part(tokens, patches, output_probabilities=True) for part in (block, random))
    assert torch.equal(fused.selected[:, 2:], drawn.selected[:, 2:])
    assert fused.probabilities is not None
    assert torch.equal(fused.probabilities[:, 2:].argmax(-1, keepdim=True), drawn.selected[:, 2:])
    plain = fusion_block("soft", D, ENTITIES)
    plain.load_state_dict(block.state_dict())
    torch.testing.assert_close(fused.tokens[:, :2], plain(tokens, patches).tokens[:, :2])
    expected = (block.value(patches.gather(1, drawn.selected[:, 2:].expand(-1, -1, D))) + tokens[:, 2:]) / 2
    torch.testing.assert_close(fused.tokens[:, 2:], expected)
