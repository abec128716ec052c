import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase
from trial_pass import reached_parameters

from e2fashion.ablation.plan import load_ablation
from e2fashion.config import load_config
from e2fashion.losses.contrastive import ContrastiveLoss, WeightedTerm
from e2fashion.losses.filip import TokenContrast
from e2fashion.models import E2Config, E2Model
from e2fashion.models.from_clip import new_parameter_names
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.training import build
from e2fashion.training.config import OptimizerConfig, RunConfig
from e2fashion.training.optimization import (
    build_optimizer,
    cosine_with_warmup,
    freeze_disconnected,
    linear_with_warmup,
    select_trainable,
)
from e2fashion.types import E2FashionError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def tiny_model(
    entities: tuple[str, ...] = ("brand", "season"),
    fusion_layers: tuple[int, ...] = (1,),
    similarity: str = "global",
    drop_patches: bool = True,
) -> E2Model:
    tower = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vision = {**tower, "image_size": 16, "patch_size": 8, "entities": list(entities), "fusion_layers": fusion_layers}
    vision["drop_patches"] = drop_patches
    text = {**tower, "vocab_size": 12, "max_position_embeddings": 8}
    special = {"bos_token_id": 10, "eos_token_id": 11, "pad_token_id": 11}
    torch.manual_seed(0)
    return E2Model(
        E2Config(vision_config=vision, text_config={**text, **special}, projection_dim=8, similarity=similarity)
    )


def test_freeze_patterns_win_over_what_is_trained() -> None:
    model = tiny_model()
    trained = select_trainable(model, None, ["text_model.*", "logit_scale"])
    assert trained
    assert not any(name.startswith("text_model.") or name == "logit_scale" for name in trained)
    assert trained == [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_new_parameters_alone_can_be_trained() -> None:
    model = tiny_model()
    assert select_trainable(model, new_parameter_names(model), []) == new_parameter_names(model)


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(E2FashionError, match=r"'vison_model\.\*' matches no parameter"):
        select_trainable(tiny_model(), None, ["vison_model.*"])


def test_adamw_decays_matrices_only() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.5), 1e-3)
    decays = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in optimizer.param_groups}
    assert decays == {0.5: [2], 0.0: [1, 1, 1]}


def test_adam_holds_every_trainable_parameter() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerConfig("adam", weight_decay=0.1), 1e-3)
    assert [p.shape for group in optimizer.param_groups for p in group["params"]] == [model.weight.shape]


def test_region_heads_are_frozen_when_the_regional_loss_weighs_nothing() -> None:
    model = tiny_model()
    names = select_trainable(model, None, [])
    kept = freeze_disconnected(model, ContrastiveLoss(["brand", "season"], region_weight=0.0), names)
    assert {name.split(".")[0] for name in set(names) - set(kept)} == {"region_heads"}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_is_frozen_when_every_part_has_a_gradient() -> None:
    model = tiny_model()
    names = select_trainable(model, None, [])
    assert freeze_disconnected(model, ContrastiveLoss(["brand", "season"], region_weight=0.5), names) == names


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["a red shirt"], "word", vocabulary=20)


def narrow(config: RunConfig) -> RunConfig:
    """The run with towers of next to no width and, for a checkpoint's, of twelve layers."""
    scratch = config.model.scratch
    vision, text = (replace(tower, width=8, heads=2) for tower in (scratch.vision, scratch.text))
    if config.model.checkpoint is not None:
        vision = replace(vision, layers=12)
    scratch = replace(scratch, vision=vision, text=replace(text, layers=1), projection_dim=4, patch_size=16)
    text_part = replace(config.text, overflow="truncate", context_length=16)
    model = replace(config.model, checkpoint=None, scratch=scratch)
    return replace(config, model=model, text=text_part, image=replace(config.image, size=64))


def shipped() -> dict[str, RunConfig]:
    """Every run under configs/ and every row of an ablation, those of equal model and loss once."""
    runs = {file.stem: load_config(RunConfig, file, ["data=d"]) for file in sorted((CONFIGS / "run").glob("*.yaml"))}
    for file in sorted((CONFIGS / "ablation").glob("*.yaml")):
        for run in load_ablation(file, ["data=d", "seeds=[0]"]).runs:
            runs[f"{file.stem}/{run.row}"] = run.config
    return {repr((run.model, run.loss)): run for run in runs.values()}


def test_what_is_frozen_is_what_a_backward_pass_does_not_reach() -> None:
    configurations = list(shipped().values())
    assert len(configurations) > 30
    frozen = set()
    for config in map(narrow, configurations):
        model, loss = build.build_model(config, tokenizer()), build.build_loss(config)
        reached = reached_parameters(model, loss)
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        kept = freeze_disconnected(model, loss, names)
        assert set(kept) == reached, config.name
        assert kept == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        frozen |= set(names) - set(kept)
    assert frozen


class RegionSpread:
    reads_regions: ClassVar[bool] = True

    def __call__(self, output: Any, batch: Any) -> torch.Tensor:
        del batch
        return output.region_embeds.square().mean()


@pytest.mark.parametrize("similarity", ["global", "tokens"])
@pytest.mark.parametrize("drop_patches", [True, False])
@pytest.mark.parametrize("fusion_layers", [[], [1], [2], [1, 2]])
@pytest.mark.parametrize(("weight", "with_term"), [(0.0, False), (0.0, True), (1.0, False)])
def test_the_rule_holds_wherever_the_last_fusion_block_stands(
    similarity: str, drop_patches: bool, fusion_layers: list[int], weight: float, with_term: bool
) -> None:
    model = tiny_model(fusion_layers=tuple(fusion_layers), similarity=similarity, drop_patches=drop_patches)
    loss = ContrastiveLoss(
        ["brand", "season"],
        weight,
        global_term=TokenContrast() if similarity == "tokens" else None,
        terms={"spread": WeightedTerm(RegionSpread())} if with_term else {},
    )
    names = [name for name, _ in model.named_parameters()]
    reached = reached_parameters(model, loss)
    assert set(freeze_disconnected(model, loss, names)) == reached


def test_warmup_rises_linearly_to_the_base_rate() -> None:
    multiplier = cosine_with_warmup(warmup_steps=4, total_steps=100)
    assert [multiplier(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_cosine_is_half_way_down_in_the_middle_and_zero_at_the_end() -> None:
    multiplier = cosine_with_warmup(warmup_steps=0, total_steps=100)
    assert multiplier(50) == pytest.approx(0.5)
    assert multiplier(100) == pytest.approx(0.0)


def test_a_warmup_longer_than_the_run_is_cut_to_a_tenth_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    multiplier = cosine_with_warmup(warmup_steps=100, total_steps=20)
    assert multiplier(2) == pytest.approx(1.0)
    (line,) = caplog.messages
    assert line == "warm-up steps: 2 instead of train.warmup_steps=100, a tenth of the stage's steps (20)"


def test_a_warmup_that_fits_needs_no_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cosine_with_warmup(warmup_steps=10, total_steps=100)
    cosine_with_warmup(warmup_steps=0, total_steps=5)
    assert not caplog.messages


def test_the_linear_schedule_rises_and_falls_in_straight_lines() -> None:
    multiplier = linear_with_warmup(warmup_steps=4, total_steps=100)
    assert [multiplier(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert multiplier(52) == pytest.approx(0.5)
    assert multiplier(100) == multiplier(200) == 0.0


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_steps_on_a_cpu_are_those_of_pytorchs_default(name: str) -> None:
    models = [tiny_model(), tiny_model()]
    fused, plain = (build_optimizer(model, OptimizerConfig(name, weight_decay=0.1), 1e-3) for model in models)
    assert all(group["fused"] for group in fused.param_groups)
    for group in plain.param_groups:
        group["fused"] = None
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        fused.step()
        plain.step()
    start = tiny_model().state_dict()
    for (key, one), other in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
        assert not torch.equal(one, start[key])


def test_a_state_of_the_default_goes_on() -> None:
    model = nn.Linear(3, 2)
    before, after = (build_optimizer(model, OptimizerConfig("adam"), 1e-3) for _ in range(2))
    for group in before.param_groups:
        group["fused"] = None
    model(torch.ones(1, 3)).sum().backward()
    before.step()
    after.load_state_dict(before.state_dict())
    after.step()
    assert {int(state["step"]) for state in after.state.values()} == {2}


def test_elsewhere_the_implementation_is_pytorchs_choice() -> None:
    optimizer = build_optimizer(tiny_model().to("meta"), OptimizerConfig(), 1e-3)
    assert {group["fused"] for group in optimizer.param_groups} == {None}
