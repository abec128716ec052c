"""The one way in which a model comes from files: nothing is filled in by chance, and every failure is one line of ours.

Transformers draws random values for tensors that a file lacks, passes over those that it does not know, and raises
whatever a damaged file causes. Here the tensors of the files are compared with the architecture that the configuration
describes, before the model takes any memory and once more after it is loaded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors import safe_open
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.auto_factory import _get_model_class
from transformers.utils import logging as transformers_logging

from e2fashion.disk import CHECKSUMS_FILE, check_checksums
from e2fashion.hub import checked_hub_name, source_options
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
#: What a tokenizer's tokens are read from.
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
#: Tensors that older versions of Transformers wrote and that every model makes for itself.
KNOWN_BUFFERS = (".position_ids",)
REMEDY = "Fetch or save the model again, or give another one."
_FLOATS = ("F64", "F32", "F16", "BF16")
_SHOWN = 5
_TOWERS = ("text_config", "vision_config")
_EPSILONS = ("layer_norm_eps", "layer_norm_epsilon")
_DROPOUTS = ("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop")
#: A model may have this many values beyond those in its files and those that are meant to be new, before it is taken
#: for what damage to its configuration makes: enough for the masks and positions that a model makes for itself.
_ALLOWANCE = 4_000_000


def checked_source(name_or_folder: str | Path, what: str = "CLIP checkpoint") -> str:
    """A folder that exists, or a name for the hub; a path that does not exist never reaches the network.

    Raises:
        E2FashionError: neither, or a folder without a configuration.
    """
    text = str(name_or_folder)
    path = Path(text).expanduser()
    if text and path.is_dir():
        if not (path / CONFIG_FILE).is_file():
            raise E2FashionError(
                f"folder {text!r} holds no {CONFIG_FILE}; give the folder of a Hugging Face CLIP model"
            )
        return str(path)
    return checked_hub_name(name_or_folder, what)


@contextmanager
def only_our_errors(what: str, remedy: str = REMEDY) -> Iterator[None]:
    """Turn whatever libraries raise over damaged files into one line of ours, and keep their reports from the terminal.

    For the calls of libraries alone: an error of ours within the block would be hidden by it.
    """
    try:
        with _quiet_transformers():
            yield
    except (E2FashionError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic within tokenizers is no Exception
        raise E2FashionError(f"{what} cannot be loaded: {reason_of(error)}. {remedy}") from error


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No table of what was loaded, no tips, no bar of a moment; downloads keep theirs."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    no_downloads = are_progress_bars_disabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    if bars:
        transformers_logging.disable_progress_bar()  # those of the hub too
        if not no_downloads:
            enable_progress_bars()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
            if no_downloads:
                disable_progress_bars()


def reason_of(error: BaseException) -> str:
    """What an error says, in one line without a full stop, and its kind where it says little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A configuration's check of its types puts the reason last, behind the field's name.
    said = " ".join(lines[:2]) if lines and lines[0].endswith(":") else next(iter(lines), "")
    if isinstance(error, OSError | ValueError) and said:
        return said.rstrip(".")
    return f"{type(error).__name__} {said}".strip().rstrip(".")


def read_config(source: str | Path, types: Sequence[str], what: str, own_code: bool = False) -> dict[str, Any]:
    """The ``config.json`` of a folder or a hub name, as plain values, of one of the model ``types`` (none: of any).

    Raises:
        E2FashionError: it cannot be read, is of another type, or names code of its own (``auto_map``), unless
            ``own_code`` says that the class that Transformers has for the type will do.
    """
    options = source_options(source, what=what)
    with only_our_errors(what):
        values, _ = PreTrainedConfig.get_config_dict(str(source), trust_remote_code=False, **options)
    if not isinstance(values, dict):
        raise E2FashionError(f"{what} cannot be loaded: its {CONFIG_FILE} holds no mapping. {REMEDY}")
    found = values.get("model_type")
    if types and found not in types:
        raise E2FashionError(
            f"{what} is a model of type {found!r}; types that can be read: {', '.join(types)}. Give a model of these."
        )
    if values.get("auto_map") and not own_code:
        raise E2FashionError(
            f"{what} brings code of its own (auto_map in {CONFIG_FILE}), which is never run, and without which its "
            "features may be other ones. Where you know it to be a plain model of its type, delete auto_map from a "
            "copy on disk and give that folder."
        )
    return values


def load_config(config_class: Any, source: str | Path, what: str) -> Any:
    """A configuration by ``config_class``, or by an Auto class.

    Raises:
        E2FashionError: it cannot be read, or a value in it cannot be.
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
        new: beginnings of the names of parameters that the files need not have; the model draws them.
        unused: beginnings of names that the files may have beyond the model's; None: any, logged.
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
    """Compare the weights and the tokenizer in a model folder with its list of checksums, if it has one.

    What people edit is not compared: configuration, card, settings of the processor. A hub name passes.

    Raises:
        DamagedError: a file is missing, or is not what was written.
    """
    remedy = f"Save or copy the model again; if the change is meant, delete {CHECKSUMS_FILE} in its folder."
    check_checksums(Path(source), remedy, lambda name: name.endswith((".safetensors", *TOKENIZER_FILES)))


def check_report(
    model: nn.Module, report: Mapping[str, Any], what: str, new: Sequence[str] = (), unused: Sequence[str] | None = ()
) -> None:
    """Refuse a model whose values are not those of its files; ``report`` is Transformers' (``output_loading_info``).

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


def refuse_tensors(what: str, wrong: Mapping[str, Sequence[str]], remedy: str = "") -> None:
    """One error about tensors that do not belong to an architecture, by what is wrong with them.

    Raises:
        E2FashionError: there are any.
    """
    problems = [f"{label} ({len(keys)}): {', '.join(keys[:_SHOWN])}" for label, keys in wrong.items() if keys]
    if problems:
        remedy = remedy or "Nothing is filled in by chance: give the weights that belong to its configuration."
        raise E2FashionError(
            f"{what} has weights that are not those of its architecture: {'; '.join(problems)}. {remedy}"
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors with a value that is NaN or infinite."""
    return [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value).all())
    ]


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Fill a module that no library loads, every tensor compared first.

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
                f"{key} {tuple(found.shape)} instead of {tuple(value.shape)}"
                for key, (value, found) in shared.items()
                if found.shape != value.shape
            ],
            "unknown": sorted(tensors.keys() - expected.keys()),
            "no floating point numbers": [
                key for key, (value, found) in shared.items() if value.is_floating_point() > found.is_floating_point()
            ],
            "not finite": not_finite(tensors),
        },
    )


def stored_tensors(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor in a model folder, from the headers of its safetensors files alone.

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
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for name in names:
        with safe_open(folder / name, framework="pt") as content:
            for key in content.keys():  # noqa: SIM118 - no mapping
                part = content.get_slice(key)
                found[key] = tuple(part.get_shape()), str(part.get_dtype())
    return found


def _check_numbers(config: Any, what: str) -> None:
    """Refuse numbers that no weight depends on and that spoil every feature: Transformers lets None and NaN pass."""
    for tower in (config, *(getattr(config, name, None) for name in _TOWERS)):
        for names, least, most in ((_EPSILONS, 0.0, 0.1), (_DROPOUTS, -1e-9, 1.0)):
            for name in names:
                value = getattr(tower, name, 0.05)
                if isinstance(value, bool) or not isinstance(value, int | float) or not least < value < most:
                    raise E2FashionError(
                        f"{what} cannot be loaded: {name} is {value!r} in its {CONFIG_FILE}, and should be a number "
                        f"between {max(least, 0.0):g} and {most:g}. {REMEDY}"
                    )


def _check_size(model_class: Any, folder: Path, config: Any, what: str, new: Sequence[str]) -> None:
    """Refuse an architecture that is far larger than the files, before it is built in memory."""
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
    wanted, there = sum(value.numel() for value in kept.values()), sum(_count(shape) for shape, _ in stored.values())
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
    """The class that an Auto class takes for a configuration; any other class itself."""
    mapping = getattr(model_class, "_model_mapping", None)
    return model_class if mapping is None else _get_model_class(config, mapping)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
