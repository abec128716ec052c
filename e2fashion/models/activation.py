"""CLIP's quick-GELU with a gradient of its own."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import QuickGELUActivation

#: The activation is ``x * sigmoid(SLOPE * x)``.
SLOPE = 1.702


class _QuickGelu(torch.autograd.Function):
    """CLIP's operations in place. The result is ``silu(SLOPE * x) / SLOPE``, so its gradient is that of ``silu``."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        ctx.save_for_backward(states)
        return (SLOPE * states).sigmoid_().mul_(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (states,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, SLOPE * states)


class QuickGelu(QuickGELUActivation):
    """Transformers' activation, to the bit; its gradient takes two passes over memory, not five, and keeps one tensor.

    In evaluation, and where a compiler fuses the operations, it is that of Transformers.
    """

    def forward(self, input: Tensor) -> Tensor:
        """States of any shape to states of the same shape."""
        if not self.training or torch.compiler.is_compiling():
            return super().forward(input)
        return cast(Tensor, _QuickGelu.apply(input))


def quicken(model: nn.Module) -> None:
    """Replace the quick-GELUs of all layers of a CLIP by :class:`QuickGelu`, which has no parameters either."""
    for module in model.modules():
        if isinstance(getattr(module, "activation_fn", None), QuickGELUActivation):
            module.activation_fn = QuickGelu()
