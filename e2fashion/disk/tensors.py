"""Tensors in a safetensors file, written atomically and verified by a checksum when read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from e2fashion.disk.atomic import atomic_file
from e2fashion.disk.trouble import DamagedError, check_regular

CHECKSUM = "checksum"
"""Metadata key with the checksum over all tensors and the other metadata."""
CHECKSUM_OF_TENSORS = "xxh3"
"""The key of earlier versions, whose checksum is over the tensors alone."""


def save_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors with their checksum, atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_file(file) as partial:
        save_file(contiguous, partial, metadata={**metadata, CHECKSUM: _checksum(contiguous, metadata)})


def load_tensors(file: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a file.

    Raises:
        DamagedError: the file cannot be read or does not match its checksum; ``remedy`` ends the message.
    """
    check_regular(file, remedy)
    try:
        with safe_open(file, framework="pt") as content:
            metadata: dict[str, str] = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DamagedError(f"{file} cannot be read or is damaged ({error}). {remedy}") from error
    expected, of_tensors = metadata.pop(CHECKSUM, None), metadata.pop(CHECKSUM_OF_TENSORS, None)
    if expected not in (None, _checksum(tensors, metadata)) or of_tensors not in (None, _checksum(tensors, {})):
        raise DamagedError(f"{file} is damaged: its content is not what was written. {remedy}")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = xxhash.xxh3_128()
    for key, text in sorted(metadata.items()):
        digest.update(json.dumps([key, text]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
