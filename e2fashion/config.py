"""The schema of every configuration, and how a file plus ``key=value`` overrides becomes one.

A file may name ``base: [relative paths]``; bases are merged in order, then the file, then the overrides, each
strictly against the schema. Nothing here knows a model or a data set: :mod:`e2fashion.build` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from e2fashion.types import E2FashionError

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]


@dataclass
class EntityConfig:
    """A tag entity: the catalogue column it reads (null: the one of its own name) and its selection tokens.

    Two tokens an entity are the paper's choice.
    """

    column: str | None = None
    tokens: int = 2


@dataclass
class TowerConfig:
    """Shape of one transformer that is trained from scratch."""

    layers: int = 6
    width: int = 192
    heads: int = 3


@dataclass
class ScratchConfig:
    """A CLIP built from nothing; read only when ``model.checkpoint`` is null.

    ``vocabulary`` bounds the tokenizer that is trained on the training captions; ``tokenizer`` says whether a
    token is a piece of a word (byte-level BPE, as CLIP's) or a whole word.
    """

    vision: TowerConfig = field(default_factory=TowerConfig)
    text: TowerConfig = field(default_factory=lambda: TowerConfig(layers=4))
    patch_size: int = 16
    projection_dim: int = 192
    activation: str = "quick_gelu"
    tokenizer: Literal["bpe", "word"] = "bpe"
    vocabulary: int = 8192


@dataclass
class ModelConfig:
    """The encoder. ``entities: {}`` and ``fusion_layers: []`` are plain CLIP.

    ``checkpoint`` is a folder or a hub name of any CLIP; null builds the towers of ``scratch``.
    ``fusion_layers`` counts finished transformer layers: 8 puts a block behind the eighth layer (official: 8, 11).
    """

    checkpoint: str | None = None
    entities: dict[str, EntityConfig | None] = field(default_factory=dict)
    fusion_layers: list[int] = field(default_factory=list)
    selection: Literal["hard", "soft", "random"] = "hard"
    noise: Literal["gumbel", "none"] = "gumbel"
    temperature: float = 1.0
    patches_per_token: int = 1
    attention: Literal["sdpa", "eager"] = "sdpa"
    projection_init: Literal["clip", "random"] = "clip"
    scratch: ScratchConfig = field(default_factory=ScratchConfig)


@dataclass
class TextConfig:
    """The global text of a product: ``{description}`` and ``{<tag column>}`` joined by what stands between them.

    A missing tag goes with its separator. Longer texts are cut at ``context_length`` tokens, the end token kept.
    """

    template: str = "{description}"
    context_length: int = 77


@dataclass
class ImageConfig:
    """How a picture becomes a square of ``size`` pixels, and how training varies it.

    ``crop_scale`` is the smallest share of the picture's area that a random crop keeps; 1.0 crops nothing.
    """

    size: int = 224
    resize: Literal["squeeze", "crop", "pad"] = "crop"
    flip: bool = False
    crop_scale: float = 1.0


@dataclass
class LoaderConfig:
    """Batches and the processes that make them. ``cache_gb`` keeps resized pictures in memory up to that size."""

    batch_size: int = 64
    evaluation_batch_size: int = 128
    workers: int = 0
    cache_gb: float = 2.0


@dataclass
class LossConfig:
    """Weight of the regional terms (0.5 in the paper, 0.0 is CLIP-FT) and what counts as a positive there.

    ``diagonal`` (official code): only the product itself. ``same_value`` (ours): every product that shares the
    tag's value.
    """

    region_weight: float = 0.5
    region_targets: Literal["diagonal", "same_value"] = "diagonal"


@dataclass
class StageConfig:
    """One fit with a fresh optimiser. ``parameters: new`` trains only what a CLIP checkpoint does not bring."""

    epochs: int = MISSING
    learning_rate: float = MISSING
    parameters: Literal["all", "new"] = "all"
    freeze: list[str] = field(default_factory=list)


@dataclass
class TrainConfig:
    """Optimiser, schedule and stages (trained in the order in which they are written)."""

    optimizer: Literal["adam", "adamw"] = "adamw"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    gradient_clip: float | None = None
    checkpoint_every_steps: int = 200
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    stages: dict[str, StageConfig | None] = field(default_factory=dict)


@dataclass
class RunConfig:
    """Everything a training run depends on.

    ``data`` is a prepared catalogue, ``output`` the run folder, ``threads`` the processor threads (null: all).
    ``evaluate_splits`` are read once at the end by every protocol of ``protocols``, separated by commas.
    """

    name: str = "run"
    seed: int = 0
    data: str = MISSING
    output: str = "runs/${name}"
    threads: int | None = None
    accelerator: Accelerator = "auto"
    devices: int = 1
    model: ModelConfig = field(default_factory=ModelConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    protocols: str = "full"
    evaluate_splits: str = "val"


@dataclass
class EvaluateConfig:
    """One evaluation of one encoder: our run or model folder, or any CLIP checkpoint by folder or hub name.

    ``text`` overrides the template that the model was trained with (null: the model's own, else the description);
    ``with_tags: false`` drops the tags from it. ``split``, ``protocol`` may name several, separated by commas.
    ``resize`` and ``size`` override the processor's way of making a square. ``output`` is the records file
    (null: ``results.jsonl`` of the run folder, else of ``runs/evaluate/<model>``).
    """

    model: str = MISSING
    data: str = MISSING
    protocol: str = "full"
    split: str = "val"
    name: str | None = None
    text: str | None = None
    with_tags: bool = True
    resize: Literal["squeeze", "crop", "pad"] | None = None
    size: int | None = None
    queries: int | None = None
    draws: int = 1
    fill: Literal["report", "top_up"] = "report"
    seed: int = 0
    batch_size: int = 128
    workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    accelerator: Accelerator = "auto"
    threads: int | None = None
    output: str | None = None


@dataclass
class PrepareConfig:
    """How a source becomes a catalogue; the source's own options stand beside these keys.

    ``on_error: skip`` counts and lists what is unfit in ``skipped.csv``. The fractions make the splits where the
    source brings none.
    """

    source: str = MISSING
    output: str = MISSING
    on_error: Literal["stop", "skip"] = "stop"
    split_seed: int = 0
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    max_text_characters: int = 4000
    max_pixels: int = 50_000_000
    overwrite: bool = False


@dataclass
class CompareConfig:
    """Several runs trained on one catalogue, and the report that sets them side by side.

    ``overrides`` reach every run, as ``train.precision=bf16`` would.
    """

    data: str = MISSING
    output: str = "runs/compare"
    split: str = "test"
    gallery_products: int = 6


Schema = TypeVar("Schema")

#: Keys that say where or how fast a run happens, not what it computes.
NOT_IDENTITY = ("name", "data", "output", "threads", "accelerator", "devices", "protocols", "evaluate_splits")
NOT_IDENTITY_LOADER = ("workers", "cache_gb", "evaluation_batch_size")


def load_config(schema: type[Schema], file: str | Path | None = None, overrides: Sequence[str] = ()) -> Schema:
    """An instance of ``schema`` from a YAML ``file``, its bases and ``key=value`` overrides.

    Raises:
        E2FashionError: a missing file, a cycle of bases, a key the schema lacks, a value of the wrong type.
    """
    merged = OmegaConf.structured(schema)
    if file is not None:
        for origin, layer in _layers(Path(file), ()):
            merged = _merge(merged, layer, str(origin))
    for override in overrides:
        merged = _merge(merged, _parse_override(override, schema), f"the command line ({override})")
    return _to_object(merged, schema)


def load_prepare_config(file: str | Path | None, overrides: Sequence[str]) -> tuple[PrepareConfig, dict[str, Any]]:
    """Our keys as :class:`PrepareConfig`, and the other ones, which are the source's own options, unchecked."""
    layers = [(str(origin), layer) for origin, layer in _layers(Path(file), ())] if file is not None else []
    layers += [(f"the command line ({override})", _parse_override(override, PrepareConfig)) for override in overrides]
    ours, options = OmegaConf.structured(PrepareConfig), OmegaConf.create({})
    for origin, layer in layers:
        known = {key: layer._get_node(key) for key in layer if key in keys_of(PrepareConfig)}
        rest = {key: layer._get_node(key) for key in layer if key not in known}
        ours = _merge(ours, OmegaConf.create(known), origin)
        options = _merge(options, OmegaConf.create(rest), origin)
    return _to_object(ours, PrepareConfig), cast(dict[str, Any], OmegaConf.to_container(options))


def save_config(config: Any, file: str | Path) -> None:
    """Write a configuration, every value spelt out, as YAML."""
    Path(file).write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")


def run_identity(config: RunConfig, data_fingerprint: str) -> str:
    """Twelve hexadecimal digits that are equal exactly for runs that compute the same thing.

    Paths, names, threads and loader processes do not count; the fingerprint of the catalogue does, and so does the
    number of devices, which multiplies the batch.
    """
    content = json.dumps([_identity_values(config), data_fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def differences(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two runs that compute different things differ, with both values."""
    first, second = (_flat(_identity_values(config)) for config in (one, other))
    keys = dict.fromkeys([*first, *second])
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def _identity_values(config: RunConfig) -> dict[str, Any]:
    values = {key: value for key, value in asdict(config).items() if key not in NOT_IDENTITY}
    values["loader"] = {k: v for k, v in values["loader"].items() if k not in NOT_IDENTITY_LOADER}
    if config.devices != 1:
        values["devices"] = config.devices
    return values


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def keys_of(schema: type) -> set[str]:
    """The top-level keys of a schema."""
    return {item.name for item in fields(schema)}


def split_names(value: str) -> list[str]:
    """The parts of a comma-separated value, as in ``protocol=full,sample_100``."""
    return [part.strip() for part in value.split(",") if part.strip()]


def _layers(file: Path, open_files: tuple[Path, ...]) -> list[tuple[Path, DictConfig]]:
    """The file behind its bases, each as plain values, in the order in which they are merged."""
    resolved = file.resolve()
    if resolved in open_files:
        chain = " -> ".join(path.name for path in (*open_files, resolved))
        raise E2FashionError(f"{file}: its bases lead back to itself ({chain}). Remove one `base` entry.")
    if not file.is_file():
        raise E2FashionError(f"Configuration file '{file}' does not exist. Give the path of a YAML file.")
    try:
        content = OmegaConf.load(file)
    except Exception as error:
        raise E2FashionError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, DictConfig):
        raise E2FashionError(f"{file} holds a list or a bare value; a configuration is `key: value` lines.")
    bases = content.pop("base", [])
    layers: list[tuple[Path, DictConfig]] = []
    for base in [bases] if isinstance(bases, str) else bases:
        layers += _layers(file.parent / base, (*open_files, resolved))
    return [*layers, (file, content)]


def _to_object(config: DictConfig, schema: type[Schema]) -> Schema:
    try:
        return cast(Schema, OmegaConf.to_object(config))
    except MissingMandatoryValue as error:
        key = error.full_key
        raise E2FashionError(
            f"'{key}' is not given and has no default. Give it in the configuration file or as {key}=<value>."
        ) from error
    except OmegaConfBaseException as error:
        raise E2FashionError(_first_line(error)) from error


def _parse_override(override: str, schema: type) -> DictConfig:
    """One ``key=value`` as a configuration; what the schema holds as a string is taken as it is written."""
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise E2FashionError(f"'{override}' is no override: write key=value, as in train.precision=bf16.")
    literal = value not in ("", "null") and value[0] not in "'\"" and _holds_text(schema, key.split("."))
    try:
        if literal:
            content = OmegaConf.create()
            OmegaConf.update(content, key, value, force_add=True)
            return content
        return OmegaConf.from_dotlist([override])
    except Exception as error:
        raise E2FashionError(f"'{override}' cannot be read: {_first_line(error)}") from error


def _holds_text(schema: Any, path: Sequence[str]) -> bool:
    """Whether the field of ``schema`` at ``path`` is a string: a template's braces there are no YAML."""
    kinds = [kind for kind in get_args(schema) if kind is not type(None)] if isinstance(schema, UnionType) else [schema]
    if not path:
        return kinds == [str]
    kind = kinds[0]
    if get_origin(kind) is dict:
        return _holds_text(get_args(kind)[1], path[1:])
    if not is_dataclass(kind) or path[0] not in (hints := get_type_hints(kind)):
        return False
    return _holds_text(hints[path[0]], path[1:])


def _merge(base: DictConfig, layer: DictConfig, origin: str) -> DictConfig:
    try:
        return cast(DictConfig, OmegaConf.merge(base, layer))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        where = f"{origin}, key '{key}'" if key else origin
        raise E2FashionError(f"{where}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
