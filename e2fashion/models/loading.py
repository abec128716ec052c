"""Load models from files: no random values for missing tensors, and every failure is a one-line error.

Transformers initializes missing tensors randomly, ignores unknown ones, and raises many errors for damaged files. Here
the tensors of the files are compared with the configured architecture before any memory is allocated and after loading.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.auto_factory import _get_model_class
from transformers.utils import logging as transformers_logging

from e2fashion.disk import CHECKSUMS_FILE, check_checksums
from e2fashion.hub import checked_hub_name, source_options
from e2fashion.terminal import without_bars
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
#: Files with a tokenizer's vocabulary.
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model")
#: Buffers that older versions of Transformers stored.
KNOWN_BUFFERS = (".position_ids",)
#: What to give instead of a model of a type that is close to one that is supported.
INSTEAD = {
    "siglip2": "its images have varying numbers of patches (NaFlex), which is not supported: give a SigLIP 2 of a "
    "fixed resolution, which is of type 'siglip', such as google/siglip2-base-patch16-224."
}
REMEDY = "Fetch or save the model again, or give another one."
_FLOATS = ("F64", "F32", "F16", "BF16")
_SHOWN = 5
_TOWERS = ("text_config", "vision_config")
_EPSILONS = ("layer_norm_eps", "layer_norm_epsilon")
_DROPOUTS = ("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop")
#: Values that a model may have beyond those in its files and the new ones before its configuration counts as damaged:
#: enough for masks and position buffers.
_ALLOWANCE = 4_000_000


def checked_source(name_or_folder: str | Path) -> str:
    """An existing folder, or a hub name; paths that do not exist are never looked up on the hub.

    Raises:
        E2FashionError: neither, or a folder without a configuration.
    """
    text = str(name_or_folder)
    path = Path(text).expanduser()
    if text and path.is_dir():
        if not (path / CONFIG_FILE).is_file():
            raise E2FashionError(
                f"folder {text!r} holds no {CONFIG_FILE}; give the folder of a Hugging Face CLIP or SigLIP"
            )
        return str(path)
    return checked_hub_name(name_or_folder, "checkpoint")


@contextmanager
def only_our_errors(what: str, remedy: str = REMEDY) -> Iterator[None]:
    """Turn any error of libraries into one line that names ``what``, and suppress their terminal output.

    Only for calls of libraries: bugs of our code within the block would be hidden.
    """
    try:
        with _quiet_transformers():
            yield
    except (E2FashionError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic in tokenizers is not an Exception
        raise E2FashionError(f"{what} cannot be loaded: {reason_of(error)}. {remedy}") from error


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Suppress load reports, tips and short progress bars, but not those of downloads."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        with without_bars():
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def reason_of(error: BaseException) -> str:
    """An error's message in one line without a full stop, with its type unless it is an OSError or ValueError."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Type errors of configurations have the reason in the second line, after the field's name.
    text = " ".join(lines[:2]) if lines and lines[0].endswith(":") else next(iter(lines), "")
    if isinstance(error, OSError | ValueError) and text:
        return text.rstrip(".")
    return f"{type(error).__name__} {text}".strip().rstrip(".")


def read_config(source: str | Path, types: Sequence[str], what: str, own_code: bool = False) -> dict[str, Any]:
    """The ``config.json`` of a folder or a hub name as plain values, for one of the model ``types`` (none: any).

    Raises:
        E2FashionError: it cannot be read, is of another type, or refers to custom code (``auto_map``), unless
            ``own_code`` allows to use Transformers' class of the type instead.
    """
    options = source_options(source, what=what)
    with only_our_errors(what):
        values, _ = PreTrainedConfig.get_config_dict(str(source), trust_remote_code=False, **options)
    if not isinstance(values, dict):
        raise E2FashionError(f"{what} cannot be loaded: its {CONFIG_FILE} holds no mapping. {REMEDY}")
    model_type = values.get("model_type")
    if types and model_type not in types:
        remedy = INSTEAD.get(str(model_type), f"give a model of one of these types: {', '.join(types)}.")
        raise E2FashionError(f"{what} is a model of type {model_type!r}; {remedy}")
    if values.get("auto_map") and not own_code:
        raise E2FashionError(
            f"{what} has custom code (auto_map in {CONFIG_FILE}), which is never run, and without which its features "
            "may differ. If it is a plain model of its type, delete auto_map from a copy on disk and give that folder."
        )
    return values


def load_config(config_class: Any, source: str | Path, what: str) -> Any:
    """A configuration by ``config_class``, or by an Auto class.

    Raises:
        E2FashionError: it cannot be read, or has an invalid value.
    """
    options = source_options(source, what=what)
    with only_our_errors(what, f"Correct its {CONFIG_FILE}, or give another model."):
        return config_class.from_pretrained(str(source), trust_remote_code=False, **options)


def load_weights(
    model_class: Any,
    source: str | Path,
    config: Any,
    what: str,
    new: Sequence[str] = (),
    unused: Sequence[str] | None = (),
    **options: Any,
) -> Any:
    """A model of ``config`` with the weights of a folder or a hub name, in evaluation mode.

    Args:
        model_class: of Transformers or ours, or an Auto class.
        source: a folder, or a hub name.
        config: the architecture.
        what: the model's name in errors.
        new: name prefixes of parameters that the files may lack, to be initialized randomly.
        unused: name prefixes that the files may have in addition; None: any, logged.
        options: of ``from_pretrained``.

    Raises:
        E2FashionError: files that cannot be read; tensors that are missing, of another shape, unknown, or not finite.
    """
    folder = Path(source)
    _check_numbers(config, what)
    if folder.is_dir():
        _check_size(model_class, folder, config, what, new)
    with only_our_errors(what):
        model, report = model_class.from_pretrained(
            str(source),
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report lists them, and they are refused below
            **source_options(source, what=what),
            **options,
        )
    check_report(model, report, what, new, unused)
    check_model_files(source)
    return model


def check_model_files(source: str | Path) -> None:
    """Verify the weights and the tokenizer of a model folder by its list of checksums, if it has one.

    Files that are meant to be edited are not compared: configuration, card, processor settings. Hub names pass.

    Raises:
        DamagedError: a file is missing or changed.
    """
    remedy = f"Save or copy the model again; if the change is meant, delete {CHECKSUMS_FILE} in its folder."
    check_checksums(Path(source), remedy, lambda name: name.endswith((".safetensors", *TOKENIZER_FILES)))


def check_report(
    model: nn.Module, report: Mapping[str, Any], what: str, new: Sequence[str] = (), unused: Sequence[str] | None = ()
) -> None:
    """Refuse a model whose tensors do not match its files; ``report`` is Transformers' (``output_loading_info``).

    Raises:
        E2FashionError: tensors that are missing, of another shape, unknown, or not finite, with counts and names.
    """
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(tuple(new)))
    unknown = sorted(key for key in report["unexpected_keys"] if not key.endswith(KNOWN_BUFFERS))
    if unused is None and unknown:
        logger.warning("%s: %d tensors of its files are not read: %s", what, len(unknown), ", ".join(unknown[:_SHOWN]))
    unknown = [] if unused is None else [key for key in unknown if not key.startswith(tuple(unused))]
    misshapen = [
        f"{key} {tuple(stored)} instead of {tuple(expected)}"
        for key, stored, expected in sorted(report["mismatched_keys"])
    ]
    refuse_tensors(
        what,
        {
            "missing": missing,
            "of another shape": misshapen,
            "unknown": unknown,
            "not finite": [] if missing or misshapen or unknown else not_finite(model.state_dict()),
        },
    )


def refuse_tensors(what: str, wrong: Mapping[str, Sequence[str]]) -> None:
    """Raise one E2FashionError for all tensors that do not match an architecture, grouped by the problem."""
    problems = [f"{label} ({len(keys)}): {', '.join(keys[:_SHOWN])}" for label, keys in wrong.items() if keys]
    if problems:
        raise E2FashionError(
            f"{what} has weights that are not those of its architecture: {'; '.join(problems)}. Give the weights that "
            "belong to its configuration."
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors with a value that is NaN or infinite."""
    return [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value).all())
    ]


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load tensors into a module after comparing all of them.

    Raises:
        E2FashionError: as :func:`refuse_other_tensors`.
    """
    refuse_other_tensors(module, tensors, what)
    module.load_state_dict(dict(tensors))


def refuse_other_tensors(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Compare tensors with those of a module, which may be on the meta device.

    Raises:
        E2FashionError: tensors that are missing, of another shape or type, unknown, or not finite.
    """
    expected = module.state_dict()
    shared = {key: (value, tensors[key]) for key, value in expected.items() if key in tensors}
    refuse_tensors(
        what,
        {
            "missing": sorted(expected.keys() - tensors.keys()),
            "of another shape": [
                f"{key} {tuple(given.shape)} instead of {tuple(value.shape)}"
                for key, (value, given) in shared.items()
                if given.shape != value.shape
            ],
            "unknown": sorted(tensors.keys() - expected.keys()),
            "no floating point numbers": [
                key for key, (value, given) in shared.items() if value.is_floating_point() > given.is_floating_point()
            ],
            "not finite": not_finite(tensors),
        },
    )


def stored_tensors(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor in a model folder, from the headers of its safetensors files.

    Raises:
        E2FashionError: there are no such files.
    """
    names, index = [WEIGHTS_FILE], folder / f"{WEIGHTS_FILE}.index.json"
    if not (folder / WEIGHTS_FILE).is_file():
        if not index.is_file():
            raise E2FashionError(
                f"'{folder}' holds no weights: {WEIGHTS_FILE} is missing. Give a folder whose weights are safetensors "
                "(`e2fashion convert` reads a .pt file without running what is in it)."
            )
        names = sorted({str(Path(str(name)).name) for name in json.loads(index.read_bytes())["weight_map"].values()})
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    for name in names:
        with safe_open(folder / name, framework="pt") as content:
            for key in content.keys():  # noqa: SIM118 - no mapping
                part = content.get_slice(key)
                tensors[key] = tuple(part.get_shape()), str(part.get_dtype())
    return tensors


def _check_numbers(config: Any, what: str) -> None:
    """Check numbers that affect all features but no weight; Transformers accepts None and NaN."""
    for tower in (config, *(getattr(config, name, None) for name in _TOWERS)):
        heads = getattr(tower, "num_attention_heads", 1)
        if type(heads) is not int or heads < 1:
            raise E2FashionError(
                f"{what} cannot be loaded: num_attention_heads is {heads!r} in its {CONFIG_FILE}, and should be a "
                f"number from 1. {REMEDY}"
            )
        for names, least, most in ((_EPSILONS, 0.0, 0.1), (_DROPOUTS, -1e-9, 1.0)):
            for name in names:
                value = getattr(tower, name, 0.05)
                if isinstance(value, bool) or not isinstance(value, int | float) or not least < value < most:
                    raise E2FashionError(
                        f"{what} cannot be loaded: {name} is {value!r} in its {CONFIG_FILE}, and should be a number "
                        f"between {max(least, 0.0):g} and {most:g}. {REMEDY}"
                    )


def _check_size(model_class: Any, folder: Path, config: Any, what: str, new: Sequence[str]) -> None:
    """Refuse an architecture that is far larger than the files before allocating it."""
    with only_our_errors(what):
        stored = stored_tensors(folder)
        quantized = getattr(config, "quantization_config", None) is not None
        towers = [config, *(getattr(config, name, None) for name in _TOWERS)]
        layers = max(int(getattr(tower, "num_hidden_layers", 0) or 0) for tower in towers)
        if layers > len(stored):
            raise E2FashionError(
                f"{what} has a configuration of {layers:,} layers, and its files hold {len(stored)} tensors. {REMEDY}"
            )
        build: Callable[..., nn.Module] = _class_of(model_class, config)._from_config
        with torch.device("meta"):
            expected = build(config).state_dict()
    if quantized:
        return
    kept = {key: value for key, value in expected.items() if not key.startswith(tuple(new))}
    wanted, there = sum(value.numel() for value in kept.values()), sum(math.prod(shape) for shape, _ in stored.values())
    if wanted > 2 * there + _ALLOWANCE:
        shapes = [key for key, value in kept.items() if key in stored and tuple(value.shape) != stored[key][0]]
        raise E2FashionError(
            f"{what} has a configuration of {wanted:,} values, and its files hold {there:,}"
            + (f"; of another shape: {', '.join(shapes[:_SHOWN])}" if shapes else "")
            + f". {REMEDY}"
        )
    integers = [
        key
        for key, value in kept.items()
        if value.is_floating_point() and stored.get(key, ((), "F32"))[1] not in _FLOATS
    ]
    refuse_tensors(what, {"no floating point numbers": integers})


def _class_of(model_class: Any, config: Any) -> Any:
    """The class that an Auto class selects for a configuration; any other class unchanged."""
    mapping = getattr(model_class, "_model_mapping", None)
    return model_class if mapping is None else _get_model_class(config, mapping)
