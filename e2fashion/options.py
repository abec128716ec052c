"""What several configurations share: keys, types, and keys that join a schema after runs were trained by it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from omegaconf import MISSING as REQUIRED

from e2fashion.literals import join_texts

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]


@dataclass
class Computing:
    """Where a verb computes, and with how many threads."""

    accelerator: Accelerator = "auto"
    """Device that computes; ``auto`` uses a GPU if there is one."""
    threads: int | None = None
    """Processor threads; null: all."""


@dataclass
class Preprocessing:
    """Overrides of an encoder's saved image processor."""

    resize: Literal["squeeze", "crop", "pad"] | None = None
    """How an image becomes square; null: as the saved processor does."""
    size: int | None = None
    """Pixels along the square; null: the saved processor's size."""


@dataclass
class Measuring(Computing, Preprocessing):
    """What every measurement of an encoder on a catalogue needs."""

    model: str = REQUIRED
    """Run folder, model folder, or hub name of a CLIP."""
    data: str = REQUIRED
    """A prepared catalogue."""
    name: str | None = None
    """Name of the model in tables; null: its folder's name."""
    batch_size: int = 128
    """Products per step."""
    workers: int = 0
    """Processes that prepare batches; 0: the main process."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Precision of the encoder; what is computed from its features is fp32 either way. ``auto``: bf16 where the device
    multiplies it natively, else fp32; the default gives the same numbers on every machine."""
    output: str | None = None
    """Records file; null: ``results.jsonl`` of the run folder, else of ``runs/<verb>/<model>``."""


@dataclass
class FitConfig:
    """How a training computes and keeps its place, whatever it trains."""

    gradient_clip: float | None = None
    """Largest norm of the gradient; null: no bound. Source: official code."""
    checkpoint_every_steps: int = 200
    """Steps between checkpoints to resume from."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Autocast precision; weights stay fp32. ``auto``: bf16 where the device multiplies it natively (CUDA 8.0,
    AVX512-BF16, AMX, Arm bf16), else fp32; a run's identity counts what was used. ``fp16`` needs a GPU; the official
    code uses it."""


@dataclass
class LoggingConfig:
    """Loggers of a training."""

    to: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """``tensorboard``, ``wandb``, ``mlflow``; ``[]``: none."""
    online: bool = False
    """Whether W&B and MLflow may reach the servers that their environment variables name; false: everything stays in
    the folder."""


@dataclass
class RunLoggingConfig(LoggingConfig):
    """Loggers of a run, and its sample figures."""

    figures_every: int = 1
    """Epochs between sample figures of val; 0: none."""


#: In a field's metadata: the key joined its schema after runs had been trained without it.
_JOINED_LATER = "joined_later"


def joined_later(default: Any = MISSING, *, default_factory: Any = MISSING) -> Any:
    """A field whose key joins a schema that runs were trained by before; its default **must** be what those did.

    The key is part of an identity only where it differs from its default, so that earlier runs keep theirs, and
    ``config.yaml`` files that lack it are read. ``default_factory`` is for a list, a mapping or a section of keys.
    """
    if default is MISSING and default_factory is MISSING:
        raise TypeError("a key that joins later needs a default: what runs did before it existed")
    return field(default=default, default_factory=default_factory, metadata={_JOINED_LATER: True})


#: In a field's metadata: the key was a comma-separated text when identities were first computed.
_FORMERLY_TEXT = "formerly_text"


def formerly_text(*default: Any, later: bool = False) -> Any:
    """A list whose key was a comma-separated text before: identities count it as that text, so that they stay.

    ``default`` are its items; ``later`` says that the key joined its schema later as well, see :func:`joined_later`.
    """
    return field(default_factory=lambda: list(default), metadata={_FORMERLY_TEXT: True, _JOINED_LATER: later})


def identity_values(config: Any) -> Any:
    """A configuration as plain values, for a hash.

    Keys, at any depth, that joined later and equal their default are left out; lists that were texts are texts.
    """
    if is_dataclass(config) and not isinstance(config, type):
        return {
            item.name: _as_text(value) if item.metadata.get(_FORMERLY_TEXT) else identity_values(value)
            for item in fields(config)
            if not _as_before(config, item)
            for value in (getattr(config, item.name),)
        }
    if isinstance(config, dict):
        return {key: identity_values(value) for key, value in config.items()}
    return list(config) if isinstance(config, list) else config


def _as_text(value: list[Any] | None) -> str | None:
    return None if value is None else join_texts(value)


def _as_before(config: Any, item: Any) -> bool:
    """Whether a field joined later and says what was done before it existed."""
    if not item.metadata.get(_JOINED_LATER):
        return False
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return bool(getattr(config, item.name) == default)
