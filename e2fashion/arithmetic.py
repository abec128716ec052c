"""Resolve ``precision: auto`` and ``attention: auto`` for a device."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, Literal, Protocol, TypeVar, cast

import torch

from e2fashion.options import Accelerator
from e2fashion.types import E2FashionError

Precision = Literal["fp32", "bf16", "fp16"]
Attention = Literal["sdpa", "eager"]

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Names in ``torch.cpu.get_capabilities()`` (x86 and Arm) of instructions for bfloat16 products."""
BF16_ISA = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10", "ALL", "DEFAULT")
"""Prefixes of the values of oneDNN's maximum instruction set that leave those instructions enabled."""
BF16_CUDA_CAPABILITY = (8, 0)

AS_CONFIGURED = "as configured"

logger = logging.getLogger(__name__)

Value = TypeVar("Value", bound=str)


@dataclass(frozen=True)
class Choice(Generic[Value]):
    """The value in use and the reason; ``emulated``: requested, but the device lacks the instructions."""

    value: Value
    reason: str = AS_CONFIGURED
    emulated: bool = False

    def __str__(self) -> str:
        return f"{self.value}: {self.reason}"


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products; without them they are emulated, many times slower.

    ``ONEDNN_MAX_CPU_ISA``, which can disable the instructions of a CPU, is respected. MPS: False, for lack of a query.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BF16_CUDA_CAPABILITY
    if device.type != "cpu":
        return False
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "DEFAULT")).upper()
    present = torch.cpu.get_capabilities()
    return limit.startswith(BF16_ISA) and any(present.get(name) for name in BF16_INSTRUCTIONS)


def resolve_precision(precision: Literal["auto"] | Precision, device: torch.device) -> Choice[Precision]:
    """The precision to compute in.

    ``auto`` is bf16 where the device multiplies it natively, else fp32. A requested bf16 that is emulated stays bf16;
    the reason states how many times slower a product is.
    """
    native = multiplies_bf16(device)
    if precision == "auto":
        if native:
            return Choice("bf16", f"{device_name(device)} multiplies bf16 natively")
        return Choice("fp32", f"{device_name(device)} has no bf16 instructions")
    if precision == "bf16" and not native:
        factor = f", {bf16_slowdown():.0f} times slower than fp32" if device.type == "cpu" else ""
        reason = f"{AS_CONFIGURED}, but {device_name(device)} emulates it{factor}: use precision=auto"
        return Choice(precision, reason, emulated=True)
    return Choice(precision)


def resolve_attention(
    attention: Literal["auto"] | Attention, precision: Precision, device: torch.device
) -> Choice[Attention]:
    """The implementation of attention; docs/performance.md has the measurements behind ``auto``."""
    if attention != "auto":
        return Choice(attention)
    if device.type == "cpu" and precision == "bf16":
        return Choice("eager", "faster than sdpa in bf16 on a CPU")
    return Choice("sdpa", "no slower than eager, in less memory")


def with_recorded_reasons(choices: Mapping[str, Choice], recorded: Mapping[str, str]) -> dict[str, Choice]:
    """The choices of a run that may be resumed, with the reasons from its record.

    The configuration of a run holds what ``auto`` was resolved to, not why; ``recorded`` maps names to choices as text.
    """
    result = dict(choices)
    for name, choice in choices.items():
        value, _, reason = str(recorded.get(name, "")).partition(": ")
        if choice == Choice(value) and reason:
            result[name] = replace(choice, reason=reason)
    return result


@cache
def bf16_slowdown(rows: int = 1088, width: int = 128, columns: int = 512) -> float:
    """How many times longer a product takes in bf16 than in fp32 on this CPU; measured once per process."""
    left, right = torch.ones(rows, width), torch.ones(width, columns)  # not random: the run's generator stays as it is

    def seconds(one: torch.Tensor, other: torch.Tensor) -> float:
        one @ other  # warm-up
        started = time.perf_counter()
        one @ other
        return time.perf_counter() - started

    return seconds(left.bfloat16(), right.bfloat16()) / max(seconds(left, right), 1e-9)


def device_name(device: torch.device) -> str:
    """What messages call a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"this {device.type.upper()}"


def build_device(accelerator: str) -> torch.device:
    """The device that ``accelerator`` (auto, cpu, gpu, cuda, mps) means on this machine.

    Raises:
        E2FashionError: this machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kinds = {"auto": ["cuda", "mps", "cpu"], "gpu": ["cuda", "mps"]}.get(accelerator, [accelerator])
    for kind in kinds:
        if available.get(kind):
            return torch.device(kind)
    raise E2FashionError(
        f"accelerator is '{accelerator}', but PyTorch finds no such device. Use accelerator=cpu, or install a "
        f"build of PyTorch for your GPU."
    )


def set_threads(threads: int | None) -> None:
    """Set the number of threads of this process; None: unchanged.

    Raises:
        E2FashionError: the number is below 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise E2FashionError(f"threads is {threads}; give a number from 1, or null for all.")
    torch.set_num_threads(threads)


def log_arithmetic(choices: Mapping[str, Choice]) -> None:
    """Log each choice with its reason; a warning where it is emulated."""
    for name, choice in choices.items():
        logger.log(logging.WARNING if choice.emulated else logging.INFO, "%s %s: %s", name, choice.value, choice.reason)


class ChoosesPrecision(Protocol):
    """The keys that set the precision and device of a measurement."""

    accelerator: Accelerator
    precision: Literal["auto", "fp32", "bf16"]


def measuring_precision(config: ChoosesPrecision) -> Literal["fp32", "bf16"]:
    """The precision of an encoder that is only measured; what ``auto`` resolves to is logged."""
    choice = resolve_precision(config.precision, build_device(config.accelerator))
    if config.precision != "fp32":
        log_arithmetic({"precision": choice})
    return cast(Literal["fp32", "bf16"], choice.value)
