"""Interpolation of weights before and after fine-tuning (WiSE-FT), which reduces forgetting."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from e2fashion.types import E2FashionError

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def interpolate_weights(before: nn.Module, after: Model, share: float) -> Model:
    """A copy of ``after`` whose weights are ``(1 - share) * before + share * after``.

    Parameters that ``before`` lacks (E2's additions to CLIP) are those of ``after``.

    Raises:
        E2FashionError: a share outside 0 to 1, a parameter that ``after`` lacks, or one of another shape.
    """
    if not 0.0 <= share <= 1.0:
        raise E2FashionError(f"share is {share}: 0.0 is the model before fine-tuning, 1.0 the one after")
    mixed = copy.deepcopy(after)
    parameters = dict(mixed.named_parameters())
    for name, value in before.named_parameters():
        if name not in parameters:
            raise E2FashionError(f"the fine-tuned model lacks '{name}': interpolate between models of the same towers")
        if parameters[name].shape != value.shape:
            raise E2FashionError(
                f"'{name}' is {tuple(value.shape)} before and {tuple(parameters[name].shape)} after fine-tuning: "
                "interpolate between models of the same towers"
            )
        parameters[name].lerp_(value.to(parameters[name]), 1.0 - share)
    return mixed
