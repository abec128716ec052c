"""Tensors in a safetensors file, written atomically and verified by a checksum when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from e2fashion.disk.atomic import atomic_file
from e2fashion.disk.trouble import DamagedError

CHECKSUM = "xxh3"
"""Metadata key with the checksum over all tensors."""


def save_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors with their checksum, atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_file(file) as partial:
        save_file(contiguous, partial, metadata={**metadata, CHECKSUM: _checksum(contiguous)})


def load_tensors(file: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a file; files of earlier versions have no checksum.

    Raises:
        DamagedError: the file cannot be read or does not match its checksum; ``remedy`` ends the message.
    """
    try:
        with safe_open(file, framework="pt") as content:
            metadata: dict[str, str] = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DamagedError(f"{file} cannot be read or is damaged ({error}). {remedy}") from error
    if metadata.get(CHECKSUM) not in (None, _checksum(tensors)):
        raise DamagedError(f"{file} is damaged: its tensors are not what was written. {remedy}")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
