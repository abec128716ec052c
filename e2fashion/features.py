"""Image features of a split, global and by entity, extracted once and cached next to the results."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import normalize
from e2fashion.disk import DamagedError
from e2fashion.disk.tensors import load_tensors, save_tensors
from e2fashion.embedding import evaluating, one_vector, unit_features
from e2fashion.encoder import Encoder
from e2fashion.options import Inference
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

FORMAT = 1
KINDS = ("global", "region", "both")


@dataclass(frozen=True)
class SplitFeatures:
    """Every product's first view: ``image`` (N, C), ``regions`` (N, C) by entity; L2-normalized fp32 on the CPU."""

    product_ids: tuple[str, ...]
    image: Tensor
    regions: dict[str, Tensor]

    def of(self, kind: str, entity: str) -> Tensor:
        """The ``global`` features, the ``region`` features of ``entity``, or ``both`` concatenated (N, 2C)."""
        if kind == "global":
            return self.image
        region = self.regions[entity]
        return region if kind == "region" else torch.cat([self.image, region], dim=1)


def check_kinds(kinds: Sequence[str], entities: Sequence[str], encoder: Encoder) -> None:
    """Raise an E2FashionError for an unknown kind of features, or regions of an entity that the encoder lacks."""
    for kind in kinds:
        if kind not in KINDS:
            raise E2FashionError(f"features is '{kind}'; choose from {', '.join(KINDS)}.")
    known = [entity.name for entity in encoder.entities]
    for entity in entities:
        if entity not in known and set(kinds) - {"global"}:
            has = f"its entities are {', '.join(known)}" if known else "it was trained without entities"
            raise E2FashionError(
                f"'{encoder.name}' has no region features of '{entity}': {has}. Write features=global for it."
            )


def data_of(
    encoder: Encoder, catalogue: Catalogue, config: Inference, template: TextTemplate, columns: Sequence[str] = ()
) -> CatalogueDataModule:
    """A catalogue as an encoder reads it, with the tags of these columns."""
    return CatalogueDataModule(
        catalogue=catalogue,
        tokenizer=encoder.tokenizer,
        entity_columns=columns,
        template=template,
        transform=encoder.transform,
        context_length=encoder.context_length,
        overflow=encoder.text_overflow,
        evaluation_batch_size=config.batch_size,
        workers=config.workers,
    )


def extract_features(
    encoder: Encoder, catalogue: Catalogue, split: str, config: Inference | None = None, progress: bool = True
) -> SplitFeatures:
    """Run the image encoder over the first view of every product of a split, on the encoder's device."""
    config = config or Inference()
    data = data_of(encoder, catalogue, config, TextTemplate())  # of the description, which every catalogue has
    names = [entity.name for entity in encoder.entities]
    product_ids: list[str] = []
    images: list[Tensor] = []
    regions: list[Tensor] = []
    device = encoder.model.device
    label = f"features of {split} with {encoder.name}"
    with evaluating(encoder.model, config.precision):
        for batch in progress_bar(data.loader(split), desc=label, unit="batch", shown=progress):
            pixels = normalize(batch.pixel_values.to(device), encoder.transform.mean, encoder.transform.std)
            output = encoder.model.get_image_features(pixel_values=pixels)
            product_ids += batch.product_ids
            images.append(one_vector(unit_features(output)))
            if names:
                regions.append(unit_features(output.region_features))
    by_entity = torch.cat(regions).unbind(1) if regions else ()
    return SplitFeatures(
        tuple(product_ids),
        torch.cat(images),
        {name: region.contiguous() for name, region in zip(names, by_entity, strict=True)},
    )


def cached_features(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    folder: Path | None,
    config: Inference | None = None,
    progress: bool = True,
    fingerprint: str | None = None,
) -> SplitFeatures:
    """The features cached in ``folder``, or extracted and cached there (None: not cached).

    The file is named after the split, the precision, and the fingerprints of model (``fingerprint``, if the caller has
    it) and catalogue. A damaged file gives a warning, and the features are extracted again.

    Raises:
        E2FashionError: the file belongs to another model or catalogue.
    """
    config = config or Inference()
    if folder is None:
        return extract_features(encoder, catalogue, split, config, progress)
    precision = config.precision
    identity = [fingerprint or encoder.fingerprint, catalogue.fingerprint, split, precision]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    file = folder / f"{split}_{precision}_{digest}.safetensors"
    if file.is_file():
        try:
            return _read(file, identity)
        except DamagedError as damage:
            logger.warning("%s", damage)
    features = extract_features(encoder, catalogue, split, config, progress)
    tensors = {"image": features.image, **{f"region/{name}": region for name, region in features.regions.items()}}
    header = {"format": str(FORMAT), "identity": json.dumps(identity), "products": json.dumps(features.product_ids)}
    save_tensors(file, tensors, header)
    return features


def _read(file: Path, identity: list[str]) -> SplitFeatures:
    tensors, header = load_tensors(file, _REMEDY)
    try:
        if json.loads(header["identity"]) != identity or header["format"] != str(FORMAT):
            raise E2FashionError(f"Features {file} belong to another model or catalogue: delete the file.")
        products = tuple(json.loads(header["products"]))
        image = tensors.pop("image")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file} is damaged ({error!r}). {_REMEDY}") from error
    if any(len(tensor) != len(products) for tensor in (image, *tensors.values())):
        raise DamagedError(f"{file} is damaged: its tensors are not of {len(products)} products. {_REMEDY}")
    return SplitFeatures(products, image, {name.removeprefix("region/"): region for name, region in tensors.items()})


_REMEDY = "It is extracted again."
