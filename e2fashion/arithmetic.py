"""What ``precision: auto`` and ``attention: auto`` mean on a device."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
Attention = Literal["sdpa", "eager"]

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Names in ``torch.cpu.get_capabilities()`` (x86 and Arm) of instructions that multiply bfloat16."""
BF16_ISA = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10", "ALL", "DEFAULT")
"""How values of oneDNN's variable for the highest instruction set begin that leave those instructions on."""
BF16_CUDA_CAPABILITY = (8, 0)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16; elsewhere they are emulated, many times slower.

    ``ONEDNN_MAX_CPU_ISA`` is respected: it can switch the instructions of a processor off. Of MPS nothing is known,
    and False is said.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BF16_CUDA_CAPABILITY
    if device.type != "cpu":
        return False
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "DEFAULT")).upper()
    present = torch.cpu.get_capabilities()
    return limit.startswith(BF16_ISA) and any(present.get(name) for name in BF16_INSTRUCTIONS)


def resolve_precision(precision: Literal["auto"] | Precision, device: torch.device) -> tuple[Precision, str]:
    """The precision that is computed in, and why.

    ``auto`` is bf16 where the device multiplies it natively, else fp32. bf16 that was asked for where it is emulated
    stays bf16, and the reason says how many times slower a product is.
    """
    native = multiplies_bf16(device)
    if precision == "auto":
        if native:
            return "bf16", f"{_name(device)} multiplies bf16 natively"
        return "fp32", f"{_name(device)} has no bf16 instructions"
    if precision == "bf16" and not native:
        factor = f", {bf16_slowdown():.0f} times slower than fp32" if device.type == "cpu" else ""
        return precision, f"as asked for, but {_name(device)} emulates it{factor}: use precision=auto"
    return precision, "as asked for"


def resolve_attention(
    attention: Literal["auto"] | Attention, precision: Precision, device: torch.device
) -> tuple[Attention, str]:
    """The implementation of attention, and why; docs/performance.md holds the measurements behind ``auto``."""
    if attention != "auto":
        return attention, "as asked for"
    if device.type == "cpu" and precision == "bf16":
        return "eager", "faster than sdpa in bf16 on a processor"
    return "sdpa", "no slower than eager, in less memory"


@cache
def bf16_slowdown(rows: int = 1088, width: int = 128, columns: int = 512) -> float:
    """How many times longer a product in bf16 takes than in fp32 on this processor; measured once per process."""
    left, right = torch.ones(rows, width), torch.ones(width, columns)  # the run's random numbers stay its own

    def seconds(one: torch.Tensor, other: torch.Tensor) -> float:
        one @ other  # the first prepares the kernel
        started = time.perf_counter()
        one @ other
        return time.perf_counter() - started

    return seconds(left.bfloat16(), right.bfloat16()) / max(seconds(left, right), 1e-9)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"this {device.type.upper()}"
