"""The quick-GELU of training: Transformers' values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import QuickGELUActivation

from e2fashion.models import E2Config, E2Model
from e2fashion.models.activation import QuickGelu

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_values_and_gradients_are_those_of_transformers(dtype: torch.dtype, tolerance: float) -> None:
    states = torch.linspace(-40, 40, 4001, dtype=dtype, requires_grad=True)
    factors = torch.linspace(-1, 2, 4001, dtype=dtype)
    results = [activation(states) for activation in (QuickGelu(), QuickGELUActivation())]
    gradients = [torch.autograd.grad((result * factors).sum(), states)[0] for result in results]
    torch.testing.assert_close(*results, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(*gradients, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_values_are_equal_to_the_bit(dtype: torch.dtype, training: bool) -> None:
    states = torch.linspace(-20, 20, 4001).to(dtype)
    before = states.clone()
    assert torch.equal(QuickGelu().train(training)(states), QuickGELUActivation()(states))
    assert torch.equal(states, before)


def test_gradients_in_half_precision_are_no_worse() -> None:
    exact = torch.linspace(-8, 8, 1001).bfloat16().double()

    def gradient(activation: nn.Module, dtype: torch.dtype) -> torch.Tensor:
        states = exact.to(dtype, copy=True).requires_grad_()
        activation(states).sum().backward()
        assert states.grad is not None
        return states.grad.double()

    wanted = gradient(QuickGELUActivation(), torch.float64)
    own, theirs = (gradient(activation, torch.bfloat16) for activation in (QuickGelu(), QuickGELUActivation()))
    assert (own - wanted).abs().mean() <= (theirs - wanted).abs().mean()


@pytest.mark.parametrize("name", ["quick_gelu", "gelu"])
def test_every_layer_of_both_towers_has_it(name: str) -> None:
    tower = {**TOWER, "hidden_act": name}
    model = E2Model(E2Config(text_config=tower, vision_config={**tower, "image_size": 16, "patch_size": 8}))
    found: list[nn.Module] = [m.activation_fn for m in model.modules() if hasattr(m, "activation_fn")]
    assert [isinstance(activation, QuickGelu) for activation in found] == [name == "quick_gelu"] * 4
