"""Trainable parameters, optimizer and learning-rate schedules."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.training.config import OptimizerConfig
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)


def select_trainable(model: nn.Module, trainable: Iterable[str] | None, freeze: Sequence[str]) -> list[str]:
    """Enable gradients of the ``trainable`` parameters (None: all), except those that match a ``freeze`` pattern.

    Patterns are shell-style over full parameter names, as in ``text_model.*``.

    Returns:
        The names of the trainable parameters, in the model's order.

    Raises:
        E2FashionError: a pattern that matches no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in freeze:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise E2FashionError(
                f"The freeze pattern '{pattern}' matches no parameter. Patterns are matched against full names "
                f"such as '{names[0]}'; 'vision_model.*' freezes the image tower."
            )
    wanted = set(names) if trainable is None else set(trainable)
    selected = []
    for name, parameter in model.named_parameters():
        on = name in wanted and not any(fnmatchcase(name, pattern) for pattern in freeze)
        parameter.requires_grad_(on)
        if on:
            selected.append(name)
    return selected


def build_optimizer(model: nn.Module, config: OptimizerConfig, learning_rate: float) -> Optimizer:
    """Adam (official code: L2 decay of everything) or AdamW (decay of matrices only) over the trainable parameters.

    AdamW does not decay biases, norms, single vectors and the temperature, as in CLIP. With ``layer_decay`` below 1 the
    rate falls by it with every layer from a tower's output to its input; what is not in a tower, or is E2's, has the
    whole rate. On a CPU a step is one pass over memory (PyTorch's ``fused``), the same up to rounding.
    """
    options: dict[str, Any] = {"lr": learning_rate, "betas": tuple(config.betas)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    distances = _distances(model) if config.layer_decay < 1.0 else {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 or config.optimizer == "adam"
            rate = learning_rate * config.layer_decay ** distances.get(name, 0)
            groups.setdefault((rate, decays), []).append(parameter)
    # Decayed ones first, by rate: the order in which checkpoints have them. `fused` is in the groups: with an option of
    # the optimizer, Lightning would not clip gradients. None leaves the choice to PyTorch.
    listed = [
        {
            "params": groups[rate, decays],
            "lr": rate,
            "weight_decay": config.weight_decay if decays else 0.0,
            "fused": all(map(_is_plain_on_cpu, groups[rate, decays])) or None,
        }
        for rate, decays in sorted(groups, reverse=True)
    ]
    return (Adam if config.optimizer == "adam" else AdamW)(listed, **options)


def _is_plain_on_cpu(parameter: nn.Parameter) -> bool:
    """Whether it is on a CPU, and not one process's part of a weight (FSDP)."""
    return type(parameter) is nn.Parameter and parameter.device.type == "cpu"


def _distances(model: nn.Module) -> dict[str, int]:
    """How many layers each parameter of a tower is away from its output: its last layer 1, its embeddings most."""
    added: tuple[str, ...] = getattr(model, "added_prefixes", ())
    distances = {}
    for tower in ("vision_model", "text_model"):
        layers = len(getattr(model, tower).encoder.layers)
        inputs = (f"{tower}.embeddings.", f"{tower}.pre_layrnorm.")
        for name, _ in model.named_parameters():
            if name.startswith(added):
                continue
            if name.startswith(inputs):
                distances[name] = layers + 1
            elif name.startswith(f"{tower}.encoder.layers."):
                distances[name] = layers - int(name.split(".")[3])
    return distances


def freeze_disconnected(model: E2Model, loss: ContrastiveLoss, trained: Sequence[str]) -> list[str]:
    """Freeze parameters without a gradient, see :meth:`e2fashion.models.modeling_e2.E2Model.unread_prefixes`.

    A weight of zero disconnects whole parts (region heads at ``region_weight: 0``): DDP would wait for their gradients,
    and weight decay would change them.

    Returns:
        The names in ``trained`` that remain.
    """
    unread = model.unread_prefixes(loss.reads_regions)
    for name, parameter in model.named_parameters():
        if name.startswith(unread):
            parameter.requires_grad_(False)
    return [name for name in trained if not name.startswith(unread)]


def scaled_to_batch(learning_rate: float, warmup_steps: int, batch: int, reference: int) -> tuple[float, int]:
    """Learning rate and warm-up steps for steps of ``batch`` products, given those for ``reference`` products.

    The rate grows with the root of the batch, as fits Adam, whose steps have the size of the rate whatever that of the
    gradient (Malladi et al., NeurIPS 2022); the warm-up sees the same number of products.
    """
    ratio = batch / reference
    return learning_rate * math.sqrt(ratio), max(1, round(warmup_steps / ratio)) if warmup_steps else 0


def cosine_with_warmup(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Linear warm-up over ``warmup_steps``, then half a cosine to zero at ``total_steps`` (official code).

    The warm-up is limited to a tenth of the steps; a shortened one is logged.
    """
    return _with_warmup(warmup_steps, total_steps, lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)))


def linear_with_warmup(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Linear warm-up, limited as in :func:`cosine_with_warmup`, then a linear decay to zero (DeCap, CapDec)."""
    return _with_warmup(warmup_steps, total_steps, lambda progress: 1.0 - progress)


def _with_warmup(warmup_steps: int, total_steps: int, decay: Callable[[float], float]) -> Callable[[int], float]:
    warmup = min(warmup_steps, max(1, total_steps // 10)) if warmup_steps else 0
    if warmup < warmup_steps:
        logger.info(
            "warm-up steps: %d instead of train.warmup_steps=%d, a tenth of the stage's steps (%d)",
            warmup,
            warmup_steps,
            total_steps,
        )

    def multiplier(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return decay(min(1.0, (step - warmup) / max(1, total_steps - warmup)))

    return multiplier
