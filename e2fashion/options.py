"""Shared configuration keys and types, and keys that are added to a schema after runs were trained with it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from omegaconf import MISSING as REQUIRED
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from e2fashion.literals import join_texts
from e2fashion.types import E2FashionError

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
FeatureKind = Literal["global", "region", "both"]
"""Image features: of the whole image, of an entity's region, or both."""


@dataclass
class Computing:
    """Device and threads of a computation."""

    accelerator: Accelerator = "auto"
    """Device; ``auto`` uses a GPU if there is one."""
    threads: int | None = None
    """CPU threads; null: all."""


@dataclass
class Preprocessing:
    """Overrides of an encoder's saved image processor."""

    resize: Literal["squeeze", "crop", "pad"] | None = None
    """How images are made square; null: as in the saved processor."""
    size: int | None = None
    """Side of the square in pixels; null: as in the saved processor."""


@dataclass
class Inference(Computing):
    """How an encoder runs over a catalogue."""

    batch_size: int = 128
    """Products per step."""
    workers: int = 0
    """Processes that prepare batches; 0: the main process."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Precision of the encoder; computations on its features are fp32 in any case. ``auto``: bf16 where the device
    multiplies it natively, else fp32; the default gives the same numbers on every machine."""


@dataclass
class Measuring(Inference, Preprocessing):
    """Keys of every measurement of an encoder on a catalogue."""

    model: str = REQUIRED
    """Run folder, model folder, or hub name of a CLIP."""
    data: str = REQUIRED
    """A prepared catalogue."""
    name: str | None = None
    """Name of the model in tables; null: its folder's name."""
    output: str | None = None
    """Records file; null: ``results.jsonl`` of the run folder, else of ``runs/<verb>/<model>``."""


@dataclass
class FitConfig:
    """Precision, gradient clipping and checkpoints of any training."""

    gradient_clip: float | None = None
    """Maximum norm of the gradient; null: no clipping. Source: official code."""
    checkpoint_every_steps: int = 200
    """Steps between checkpoints to resume from."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Autocast precision; weights stay fp32. ``auto``: bf16 where the device multiplies it natively (CUDA 8.0,
    AVX512-BF16, AMX, Arm bf16), else fp32; the resolved value is part of a run's identity. ``fp16`` needs a GPU; the
    official code uses it."""


@dataclass
class LoggingConfig:
    """Loggers of a training."""

    to: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """``tensorboard``, ``wandb``, ``mlflow``; ``[]``: none."""
    online: bool = False
    """Whether W&B and MLflow may connect to the servers in their environment variables; false: all logs stay in the run
    folder."""


@dataclass
class RunLoggingConfig(LoggingConfig):
    """Loggers of a run, and its sample figures."""

    figures_every: int = 1
    """Epochs between sample figures of val; 0: none."""


#: In a field's metadata: the key was added to its schema after runs had been trained without it.
_JOINED_LATER = "joined_later"


def joined_later(default: Any = MISSING, *, default_factory: Any = MISSING) -> Any:
    """A field that is added to a schema after runs were trained with it; its default **must** be their behavior.

    The key is part of an identity only if it differs from its default, so that earlier runs keep theirs and their
    ``config.yaml`` files can be read. ``default_factory`` is for a list, a mapping or a section of keys.
    """
    if default is MISSING and default_factory is MISSING:
        raise TypeError("a key that joins later needs a default: the behavior of runs before it existed")
    return field(default=default, default_factory=default_factory, metadata={_JOINED_LATER: True})


#: In a field's metadata: the key was a comma-separated text when identities were first computed.
_FORMERLY_TEXT = "formerly_text"


def formerly_text(*default: Any) -> Any:
    """A list of these items whose key was a comma-separated text, as which it is hashed, so that identities stay."""
    return field(default_factory=lambda: list(default), metadata={_FORMERLY_TEXT: True})


#: In a field's metadata: the name that its key had before.
RENAMED = "renamed"


def renamed(before: str, *default: Any) -> Any:
    """A list whose key was a comma-separated text called ``before``, which files and command lines may still use."""
    return field(default_factory=lambda: list(default), metadata={_FORMERLY_TEXT: True, RENAMED: before})


def identity_values(config: Any) -> Any:
    """A configuration as plain values, for a hash.

    Keys, at any depth, that were added later and equal their default are left out; lists that were texts are texts, and
    keys that were renamed have their former name.
    """
    if is_dataclass(config) and not isinstance(config, type):
        return {
            item.metadata.get(RENAMED, item.name): join_texts(value)
            if item.metadata.get(_FORMERLY_TEXT) and value is not None
            else identity_values(value)
            for item in fields(config)
            if not _as_before(config, item)
            for value in (getattr(config, item.name),)
        }
    if isinstance(config, dict):
        return {key: identity_values(value) for key, value in config.items()}
    return list(config) if isinstance(config, list) else config


def _as_before(config: Any, item: Any) -> bool:
    """Whether a field was added later and has its default."""
    if not item.metadata.get(_JOINED_LATER):
        return False
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return bool(getattr(config, item.name) == default)


def check_schema(config: Any) -> None:
    """Check a configuration that was made in Python as strictly as one from a file.

    Raises:
        E2FashionError: a key without a default is missing, or a value has another type than its key.
    """
    what = type(config).__name__
    try:
        missing = sorted(map(str, OmegaConf.missing_keys(OmegaConf.structured(config))))
    except OmegaConfBaseException as error:
        value = getattr(config, str(error.full_key), None)
        remedy = f"give a list, as in [{value!r}]" if "ListConfig" in str(error) else str(error).splitlines()[0]
        raise E2FashionError(f"{what}: {error.full_key} is {value!r}: {remedy}.") from error
    if missing:
        raise E2FashionError(f"{what}: '{missing[0]}' is not given and has no default: {what}({missing[0]}=...).")
