"""Embed products into an index, make it equal to its source, add and remove some; build its inverted lists.

Every change is a commit of the table: what is interrupted is as it was or as it will be, product by product, and the
repeated command goes on behind what was written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from e2fashion.arithmetic import set_threads
from e2fashion.disk import CHECKSUMS_FILE, clear_leftovers, naming
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.hub import StoredSource
from e2fashion.measuring import load_named, to_device
from e2fashion.tasks.search.changes import start_index, tidy, writing
from e2fashion.tasks.search.config import (
    ContentConfig,
    EmbedConfig,
    IndexAddConfig,
    IndexBuildConfig,
    IndexCompactConfig,
    IndexRemoveConfig,
    IndexSyncConfig,
)
from e2fashion.tasks.search.embed import choose_text_weight, tags_of, write_products
from e2fashion.tasks.search.facts import Approximation, IndexedEncoder, IndexFacts, Origin
from e2fashion.tasks.search.index import ProductIndex, check_same_encoder, load_index_encoder, open_index, read_facts
from e2fashion.tasks.search.places import (
    INDEX_FILE,
    TABLE_FOLDER,
    Place,
    building_at,
    found_at,
    place_of,
    require_lancedb,
)
from e2fashion.tasks.search.snapshot import APPROXIMATE_ROWS, Snapshot
from e2fashion.tasks.search.sources import BY_FOLDER, Products, ProductSource, open_products
from e2fashion.tasks.search.storage import (
    CONTENT_COLUMNS,
    DESCRIPTION,
    VECTOR,
    among,
    content_of,
    open_table,
    read_rows,
)
from e2fashion.tasks.search.tags import Conditions, decide_typing, suggest
from e2fashion.text_files import read_list
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)
IDS_AT_ONCE = 2000


def build(config: IndexBuildConfig, progress: bool = True) -> ProductIndex:
    """Load the model of a configuration and build the index; as :func:`build_index`."""
    set_threads(config.threads)
    encoder, _ = load_named(config)
    to_device(encoder, config.accelerator)
    return build_index(encoder, config.source, config.output, config, config.model, progress)


def sync(config: IndexSyncConfig, progress: bool = True) -> ProductIndex:
    """Load the model of an index and make it equal to its source; as :func:`sync_index`."""
    return sync_index(config.index, load_index_encoder(config), config.source, config, progress)


def add(config: IndexAddConfig, progress: bool = True) -> ProductIndex:
    """Load the model of an index and embed more products; as :func:`add_products`."""
    encoder = load_index_encoder(config)
    return add_products(config.index, encoder, config.source, config, config.replace, progress)


def remove(config: IndexRemoveConfig) -> ProductIndex:
    """Remove the products that a configuration lists; as :func:`remove_products`."""
    listed = read_list(Path(config.file), "a text file with one product id a line") if config.file is not None else []
    return remove_products(config.index, [*config.ids, *listed])


def compact(config: IndexCompactConfig) -> ProductIndex:
    """Merge the fragments of an index, and remove versions of it that no reader uses any more."""
    index = open_index(config.index, verify=False)
    tidy(index.path, always=True)
    if config.lists or len(index.snapshot().row_ids) > APPROXIMATE_ROWS:
        build_lists(index.path)
    index.reload()
    return index


def build_index(
    encoder: Encoder,
    source: ProductSource,
    output: str | Place,
    config: EmbedConfig | None = None,
    encoder_source: str = "",
    progress: bool = True,
) -> ProductIndex:
    """Embed the products of a catalogue, or images in files, into ``output``, a folder or ``s3://<bucket>/<index>``.

    Called again after an interrupt it goes on; called again when done it opens what is there. ``encoder_source`` is the
    folder or hub name that loads the encoder; the index remembers it.

    Raises:
        E2FashionError: ``output`` holds something else, a product occurs twice, an image cannot be read, or the encoder
            compares tokens.
    """
    require_single_vectors(encoder, "an index")
    config = config or EmbedConfig()
    place = place_of(output)
    products = _open(source, config)
    with building_at(place):
        facts = IndexFacts.find(place)
        if facts is not None:
            check_same_encoder(place, facts, encoder)
            if replace(facts.origin, content="") != products.origin:
                raise E2FashionError(
                    f"'{place}' holds an index of other products, or they have changed since: use 'e2fashion index "
                    "sync', or choose another output"
                )
            if isinstance(config, ContentConfig):
                _check_same_content(place, facts, config)
            if facts.complete:
                logger.info("%s holds these products already", place)
                return open_index(place, encoder)
        else:
            _start(place, encoder, encoder_source, products, config)
        write_products(place, encoder, products, config, progress)
        _finish(place, encoder, products)
    return open_index(place, encoder, verify=False)


def sync_index(
    path: str | Place, encoder: Encoder, source: ProductSource, config: EmbedConfig | None = None, progress: bool = True
) -> ProductIndex:
    """Make an index equal to ``source``: embed new and other images, update texts and tags, remove the rest.

    Where nothing has changed nothing is written. An index whose building was interrupted is completed.

    Raises:
        E2FashionError: as for :func:`build_index`.
    """
    place, config = place_of(path), config or EmbedConfig()
    facts = IndexFacts.load(place)
    check_same_encoder(place, facts, encoder)
    products = _open(source, config, facts.origin)
    write_products(place, encoder, products, config, progress)
    there = set(products.ids.to_pylist())
    _delete(place, [product for product in Snapshot(place).product_ids if product not in there])
    _finish(place, encoder, products)
    return open_index(place, encoder, verify=False)


def add_products(
    path: str | Place,
    encoder: Encoder,
    source: ProductSource,
    config: EmbedConfig | None = None,
    replace: bool = False,
    progress: bool = True,
) -> ProductIndex:
    """Embed the products of ``source`` and add them; those that the index holds as they are change nothing.

    Raises:
        E2FashionError: the index holds one that differs, unless ``replace``; or as for :func:`build_index`.
    """
    place, config = place_of(path), config or EmbedConfig()
    origin = read_facts(place, encoder).origin
    write_products(place, encoder, _open(source, config, origin), config, progress, may_replace=replace)
    tidy(place)
    return open_index(place, encoder, verify=False)


def remove_products(path: str | Place, product_ids: Sequence[str]) -> ProductIndex:
    """Remove products from an index; a warning names those that it does not hold.

    Raises:
        E2FashionError: there are no ids.
    """
    index, wanted = open_index(path), list(dict.fromkeys(product_ids))
    if not wanted:
        raise E2FashionError("there are no ids to remove: name one product or more")
    held = index.product_ids
    if unknown := sorted(set(wanted) - set(held)):
        hint = suggest(unknown[0], held)
        logger.warning(
            "%d of %d products are not in %s, the first is '%s': %s", len(unknown), len(wanted), path, unknown[0], hint
        )
    _delete(index.path, sorted(set(wanted) & set(held)))
    tidy(index.path)
    index.reload()
    return index


def _open(source: ProductSource, config: EmbedConfig, former: Origin | None = None) -> Products:
    by_folder = config.product == "folder" or (
        config.product is None and former is not None and former.kind == BY_FOLDER
    )
    return open_products(source, config.split, config.on_error == "stop", by_folder)


def _start(place: Place, encoder: Encoder, source: str, products: Products, config: EmbedConfig) -> None:
    """Create the table and the facts of an index without products yet."""
    from e2fashion import __version__

    folder = place if isinstance(place, Path) else None
    if folder is not None:
        clear_leftovers(folder / INDEX_FILE)  # of a build that was killed while it wrote its first facts
    if found_at(place) - {TABLE_FOLDER, CHECKSUMS_FILE}:
        raise E2FashionError(f"'{place}' is not an index and not empty: choose another place for the index")
    config = config if isinstance(config, ContentConfig) else ContentConfig()
    typing = decide_typing(tags_of(products), config.numbers, config.texts, config.lists)
    regions = [] if config.similarity == "global" else [entity.name for entity in encoder.entities]
    region_weight = 0.0 if config.similarity == "global" else _region_weight(encoder, config)
    if folder is not None:
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
    transform, location = encoder.transform, StoredSource.of(source, folder)
    identity = IndexedEncoder(
        encoder.name, encoder.fingerprint, encoder.dimension, transform.size, transform.resize, **asdict(location)
    )
    weight = 0.0
    if config.vector == "image_text":
        weight = choose_text_weight(encoder, products) if config.text_weight is None else config.text_weight
    facts = IndexFacts(identity, products.origin, typing=typing, text_weight=weight, regions=regions)
    start_index(place, replace(facts, region_weight=region_weight, created_by=f"e2fashion {__version__}"))


def _check_same_content(place: Place, facts: IndexFacts, config: ContentConfig) -> None:
    """Refuse to go on with an index whose vectors are made or compared in another way than ``config`` says."""
    if (facts.text_weight and config.vector == "image") or config.text_weight not in (None, facts.text_weight):
        raise E2FashionError(
            f"the index {place} was built with text_weight={facts.text_weight:g}: choose another output, or leave "
            "vector and text_weight as they were"
        )
    if (config.similarity != "global") != bool(facts.regions):
        raise E2FashionError(
            f"the index {place} was built with another similarity than {config.similarity}: choose another "
            "output, or leave similarity as it was"
        )
    if config.region_weight not in (None, facts.region_weight):
        raise E2FashionError(
            f"the index {place} was built with region_weight={facts.region_weight:g}, not {config.region_weight:g}: "
            "choose another output, or give region_weight to `e2fashion search`"
        )


def _region_weight(encoder: Encoder, config: ContentConfig) -> float:
    """The weight of the regional score, as configured or as it is stored with the model."""
    if not encoder.entities:
        raise E2FashionError(
            f"'{encoder.name}' has no regions: build the index with similarity=global, or give a model trained with "
            "model.entities"
        )
    weight = encoder.region_score_weight if config.region_weight is None else config.region_weight
    if weight is None:
        raise E2FashionError(
            f"'{encoder.name}' has no stored weight of the regional score: give region_weight=1.0, say"
        )
    return float(weight)


def _finish(place: Place, encoder: Encoder, products: Products) -> None:
    """Note what an index was made equal to."""
    tidy(place)
    with writing(place) as change:
        origin = replace(products.origin, content=content_of(read_rows(place, CONTENT_COLUMNS)))
        change.facts = replace(change.facts, origin=origin, complete=True)
    table = open_table(place)
    if table.count_rows() > APPROXIMATE_ROWS and not table.list_indices():
        build_lists(place, encoder)


def _delete(place: Place, product_ids: Sequence[str]) -> None:
    for start in range(0, len(product_ids), IDS_AT_ONCE):
        with writing(place) as change:
            change.table.delete(among(product_ids[start : start + IDS_AT_ONCE]))


QUERIES, RECALL_AT = 200, 10


def build_lists(place: Place, encoder: Encoder | None = None) -> None:
    """Build the inverted lists of an index, and note their recall.

    The queries are descriptions of random products, or without an encoder or descriptions vectors of random images,
    which are easier.
    """
    with writing(place) as change:
        logger.info("building inverted lists over %s images of %s", f"{change.table.count_rows():,}", place)
        config = require_lancedb().index.IvfFlat(distance_type="dot")
        change.table.create_index(VECTOR, config=config, replace=True)
    snapshot = Snapshot(place)
    queries, of = _queries(snapshot, encoder)
    exact = snapshot.nearest(queries, Conditions(), RECALL_AT, "best", "exact")[1]
    found = snapshot.nearest(queries, Conditions(), RECALL_AT, "best", "approximate")[1]
    recall = float((exact[:, :, None] == found[:, None, :]).any(-1).double().mean())
    with writing(place) as change:
        change.facts = replace(change.facts, approximation=Approximation(recall, len(queries), of))


def _queries(snapshot: Snapshot, encoder: Encoder | None) -> tuple[Tensor, str]:
    """Random queries (Q, C), and what they are."""
    generator = np.random.default_rng(0)
    if encoder is not None:
        texts = [text for text in snapshot.column(DESCRIPTION) if text and text.strip()]
        if texts:
            chosen = generator.choice(len(texts), min(QUERIES, len(texts)), replace=False)
            return encoder.embed_texts([texts[number] for number in chosen]), "descriptions of products"
    rows = generator.choice(len(snapshot.row_ids), min(QUERIES, len(snapshot.row_ids)), replace=False)
    return snapshot.vectors[torch.from_numpy(rows), : snapshot.dimension].float(), "vectors of images"
