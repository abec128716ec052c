"""State dicts on disk: read as data, never as code, and written as safetensors."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from e2fashion.types import E2FashionError

#: Where training code puts the state dict among optimizer, epoch and the like.
WRAPPERS = ("state_dict", "model_state_dict", "model")
#: What data-parallel training puts before every key.
PARALLEL = "module."


@dataclass
class StateFile:
    """Tensors by name, text that was stored with them (a training run's ``name``), and notes on how they were read."""

    tensors: dict[str, Tensor]
    texts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_state_file(file: str | Path) -> StateFile:
    """The state dict in a ``.safetensors`` file, or in one of ``torch.save``, which is read with ``weights_only``.

    A state dict within a training checkpoint is taken out, and ``module.`` before every key is cut off: both are noted.

    Raises:
        E2FashionError: no such file, a TorchScript archive, a pickle that holds more than tensors, or no state dict.
    """
    path = Path(file)
    if not path.is_file():
        raise E2FashionError(f"'{file}' is not a file: give the checkpoint itself, a .safetensors or .pt file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    read = _unwrapped(content, path)
    if read.tensors and all(key.startswith(PARALLEL) for key in read.tensors):
        read.tensors = {key.removeprefix(PARALLEL): value for key, value in read.tensors.items()}
        read.notes.append(f"'{PARALLEL}' of data-parallel training cut off every key")
    kinds = sorted(
        {str(value.dtype).removeprefix("torch.") for value in read.tensors.values() if value.is_floating_point()}
    )
    if kinds != ["float32"]:
        read.notes.append(f"weights in {', '.join(kinds) or 'no floating point type'}, written as float32")
    return read


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise E2FashionError(f"'{path}' cannot be read as safetensors: {error}. Fetch or save it again") from error


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(Path(name).name == "constants.pkl" for name in archive.namelist()):
                raise E2FashionError(_torchscript_remedy(path))
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file fails in the unpickler in any way
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {match[1]}" if match else f"{type(error).__name__} while reading"
        raise E2FashionError(
            f"'{path}' holds more than tensors, or is not a file of torch.save ({reason}). It is not unpickled here, "
            "which would run any code in it. If you trust where it comes from, save its state dict elsewhere: "
            "safetensors.torch.save_file(torch.load(file, weights_only=False)['state_dict'], 'state.safetensors')"
        ) from error


def _torchscript_remedy(path: Path) -> str:
    return (
        f"'{path}' is a TorchScript archive (as OpenAI publishes its CLIPs): it holds code besides the weights and is "
        "not run here. Take the state dict out of it where you trust it: "
        'python -c "import torch; from safetensors.torch import save_file; '
        f"save_file({{k: v.contiguous() for k, v in torch.jit.load('{path.name}', map_location='cpu')"
        f".state_dict().items()}}, '{path.stem}.safetensors')\""
    )


def _unwrapped(content: Any, path: Path) -> StateFile:
    if not isinstance(content, Mapping):
        raise E2FashionError(f"'{path}' holds a {type(content).__name__}, no state dict: save model.state_dict()")
    inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    texts = {str(key): value for key, value in content.items() if isinstance(value, str)}
    notes: list[str] = []
    if inner:
        if len(inner) > 1:
            raise E2FashionError(f"'{path}' holds several state dicts, {', '.join(inner)}: save the one that is meant")
        others = ", ".join(sorted(str(key) for key in content if key != inner[0])) or "nothing"
        notes.append(f"the state dict was under '{inner[0]}'; not read: {others}")
        content = content[inner[0]]
        texts = {key: value for key, value in texts.items() if key != inner[0]}
    wrong = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if wrong or not content:
        problem = f"{len(wrong)} entries are not tensors: {', '.join(wrong[:5])}" if wrong else "it is empty"
        raise E2FashionError(f"'{path}' is not a state dict: {problem}. Save model.state_dict()")
    return StateFile({str(key): value for key, value in content.items()}, texts, notes)


def write_state_file(tensors: Mapping[str, Tensor], file: Path, **facts: str) -> None:
    """Tensors by name as safetensors, with ``facts`` in its header."""
    save_file(dict(tensors), file, metadata={"format": "pt", **facts})
