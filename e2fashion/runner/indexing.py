"""``index build``, ``add``, ``update``, ``remove``, ``describe`` and ``evaluate``: the index that is searched."""

from __future__ import annotations

from pathlib import Path

from e2fashion.arithmetic import set_threads
from e2fashion.config import split_names
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.measuring import identity_of, load_named, results_file, to_device
from e2fashion.options import Accelerator
from e2fashion.report import keep_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.search.build import EmbedSettings, build_index
from e2fashion.tasks.search.change import add_products, remove_products, update_products
from e2fashion.tasks.search.config import IndexBuildConfig, IndexChangeConfig, IndexEvaluateConfig, IndexRemoveConfig
from e2fashion.tasks.search.index import ProductIndex, open_index
from e2fashion.tasks.search.manifest import IndexManifest
from e2fashion.tasks.search.measure import SearchSettings, measure_search
from e2fashion.text_files import read_list
from e2fashion.types import E2FashionError


def index_build(config: IndexBuildConfig, progress: bool = True) -> str:
    """Embed a catalogue or pictures into a new index; repeated, go on with one, or find it done."""
    set_threads(config.threads)
    encoder, _ = load_named(config)
    _to_device(encoder, config.accelerator)
    settings = _settings(config, progress)
    index = build_index(encoder, config.source, config.output, config.split, settings, encoder_source=config.model)
    return describe(index)


def index_change(config: IndexChangeConfig, update: bool, progress: bool = True) -> str:
    """Add products to an index, or embed those of it anew."""
    set_threads(config.threads)
    encoder = _encoder_of(Path(config.index), config.model)
    _to_device(encoder, config.accelerator)
    change = update_products if update else add_products
    return describe(change(config.index, encoder, config.source, config.split, _settings(config, progress)))


def index_remove(config: IndexRemoveConfig) -> str:
    """Take products out of an index."""
    ids = split_names(config.ids)
    if config.file is not None:
        ids += read_list(Path(config.file), "a text file with one product id a line")
    return describe(remove_products(config.index, ids))


def index_describe(path: str) -> str:
    """What an index holds, with every checksum compared."""
    return describe(open_index(path))


def index_evaluate(config: IndexEvaluateConfig) -> str:
    """Measure how well an index is searched, append the records and show them as tables."""
    set_threads(config.threads)
    index, encoder = opened(config.index, config.model, config.accelerator)
    run = RunFolder(Path(config.model or _place_of_model(index.path, index.manifest)))
    results = results_file(config.output, run, "search", encoder)
    settings = SearchSettings(
        split_names(config.columns), config.template, config.min_products, config.resamples, config.seed
    )
    records = measure_search(index, encoder, settings, identity_of(run.read_record()))
    return keep_records(results, records, str(run.path))


def opened(path: str, model: str | None, accelerator: Accelerator, verify: bool = True) -> tuple[ProductIndex, Encoder]:
    """An index with the encoder that built it, from where ``model`` says or the index itself."""
    encoder = _encoder_of(Path(path), model)
    _to_device(encoder, accelerator)
    return open_index(path, encoder, verify), encoder


def describe(index: ProductIndex) -> str:
    """Products, shards, encoder, tags and origins of an index, to read."""
    manifest = index.manifest
    own = manifest.encoder
    removed = sum(len(shard.removed) for shard in manifest.shards)
    size = sum((index.path / name).stat().st_size for s in manifest.shards for name in (s.embeds_file, s.products_file))
    lines = [
        f"{index.path}: {len(index):,} products in {len(manifest.shards)} shards, {size / 1e6:.1f} MB"
        + (f", {removed:,} rows removed" if removed else ""),
        f"encoder: {own.name} ({own.fingerprint[:12]}), {own.dimension} wide, pictures {own.resize} at "
        f"{own.image_size} px" + (f", from {own.source}" if own.source else ""),
        f"tags: {', '.join(index.tag_columns) or 'none'}",
    ]
    for origin in {shard.origin.fingerprint: shard.origin for shard in manifest.shards}.values():
        splits = f" ({', '.join(origin.splits)})" if origin.splits else ""
        lines.append(f"from {origin.kind} {origin.path}{splits}, {origin.fingerprint[:12]}")
    if manifest.skipped:
        lines.append(f"{len(manifest.skipped)} products skipped, listed in {index.path / 'index.json'}")
    if (pending := manifest.pending) is not None:
        lines.append(f"an {pending.verb} was interrupted at {pending.done:,} of {pending.total:,}: repeat its command")
    return "\n".join(lines)


def _encoder_of(path: Path, model: str | None) -> Encoder:
    """The encoder of an index; how it makes pictures square is the index's to say."""
    if model is not None:
        return load_encoder(model)
    manifest = IndexManifest.load(path)
    own = manifest.encoder
    return load_encoder(_place_of_model(path, manifest), own.name, resize=own.resize, size=own.image_size)


def _place_of_model(path: Path, manifest: IndexManifest) -> str:
    own = manifest.encoder
    if not own.source:
        raise E2FashionError(f"{path} does not say where its model '{own.name}' lies: give model=<folder>.")
    return own.place.find(path, f"the model '{own.name}' of the index {path}", "Give model=<folder or hub name>.")


def _settings(config: IndexBuildConfig | IndexChangeConfig, progress: bool) -> EmbedSettings:
    return EmbedSettings(config.shard_rows, config.batch_size, config.workers, config.on_error, progress)


def _to_device(encoder: Encoder, accelerator: Accelerator) -> None:
    to_device(encoder, accelerator)
