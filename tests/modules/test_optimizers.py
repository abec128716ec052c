import pytest
import torch
from torch import nn

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.models import E2Config, E2Model
from e2fashion.models.from_clip import new_parameter_names
from e2fashion.modules.optimizers import (
    OptimizerSettings,
    build_optimizer,
    freeze_disconnected,
    select_trainable,
)
from e2fashion.types import E2FashionError


def tiny_model(entities: tuple[str, ...] = ("brand", "season"), fusion_layers: tuple[int, ...] = (1,)) -> E2Model:
    tower = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vision = {**tower, "image_size": 16, "patch_size": 8, "entities": list(entities), "fusion_layers": fusion_layers}
    text = {**tower, "vocab_size": 12, "max_position_embeddings": 8}
    special = {"bos_token_id": 10, "eos_token_id": 11, "pad_token_id": 11}
    torch.manual_seed(0)
    return E2Model(E2Config(vision_config=vision, text_config={**text, **special}, projection_dim=8))


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
    optimizer = build_optimizer(model, OptimizerSettings(optimizer="adamw", weight_decay=0.5))
    decays = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in optimizer.param_groups}
    assert decays == {0.5: [2], 0.0: [1, 1, 1]}


def test_adam_holds_every_trainable_parameter() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerSettings(optimizer="adam", weight_decay=0.1))
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
