"""``explain``: where a model looks in one picture, as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from e2fashion.arithmetic import measuring_precision, set_threads
from e2fashion.config import split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image, read_pixels
from e2fashion.disk import file_name
from e2fashion.encoder import Encoder
from e2fashion.figures import as_array
from e2fashion.measuring import load_named, to_device
from e2fashion.tasks.localization.config import ExplainConfig
from e2fashion.tasks.localization.explain import ExplainSettings, check
from e2fashion.tasks.localization.explain import explain as explain_picture
from e2fashion.tasks.localization.figure import draw_explanations
from e2fashion.tasks.localization.measure import selects
from e2fashion.types import E2FashionError, Sample


@dataclass(frozen=True)
class _Subject:
    """A decoded picture uint8 (3, H, W), what it is called, and the texts that are known of it."""

    picture: Tensor
    name: str
    texts: tuple[str, ...] = ()


def explain(config: ExplainConfig) -> str:
    """Draw where a model looks in a picture, or in a product of a catalogue, for texts and for its entities."""
    set_threads(config.threads)
    if (config.image is None) == (config.data is None):
        raise E2FashionError(
            f"image={config.image}, data={config.data}: give one, a picture's file, or a catalogue and a product_id."
        )
    encoder, _ = load_named(config)
    subject = _of_file(config.image) if config.image is not None else _of_product(config, encoder)
    texts = tuple(text.strip() for text in config.text.split("|")) if config.text is not None else subject.texts
    settings = ExplainSettings(
        _methods(config, encoder, texts),
        texts,
        config.square,
        config.grid,
        config.batch_size,
        measuring_precision(config),
    )
    check(encoder, settings)
    to_device(encoder, config.accelerator)
    found = explain_picture(encoder, subject.picture, settings)
    shown = as_array(subject.picture)
    default = Path("runs") / "explain" / file_name(encoder.name) / f"{file_name(subject.name)}.png"
    file = Path(config.output) if config.output else default
    draw_explanations(shown, found, file, f"{encoder.name}: where it looks in {subject.name}")
    lines = [f"  {own.heading}{': ' if own.subject else ''}{own.subject}" for own in found]
    flat = [own.subject for own in found if not own.look.heat.any()]
    silent = f"\nNo band serves better than the whole picture: {'; '.join(flat)}." if flat else ""
    return f"{file}:\n" + "\n".join(lines) + silent


def _methods(config: ExplainConfig, encoder: Encoder, texts: tuple[str, ...]) -> list[str]:
    if config.methods is not None:
        return split_names(config.methods)
    by_text = ["occlusion"] if texts and not encoder.compares_tokens else []
    return by_text + (["tokens"] if selects(encoder) else []) or ["attention"]


def _of_file(image: str) -> _Subject:
    return _Subject(read_pixels(Path(image)), Path(image).stem)


def _of_product(config: ExplainConfig, encoder: Encoder) -> _Subject:
    if config.product_id is None:
        raise E2FashionError(f"data={config.data} without product_id: say which product to explain.")
    catalogue = Catalogue.load(cast(str, config.data))
    sample = _sample(catalogue, config.product_id)
    tags = [sample.tags.get(entity.column) for entity in encoder.entities]
    texts = [text for text in (sample.description, *tags) if text and text.strip()]
    return _Subject(decode_image(sample.image), f"product {config.product_id}", tuple(dict.fromkeys(texts)))


def _sample(catalogue: Catalogue, product_id: str) -> Sample:
    """The first view of a product, from whichever split holds it."""
    for split in catalogue.split_names:
        products = catalogue.split(split)["product_id"]
        places = [place for place, own in enumerate(products) if own == product_id]
        if places:
            row = catalogue.split(split)[places[0]]
            tags = {column: row[column] for column in catalogue.tag_columns}
            return Sample(product_id, row["image"], row["description"] or "", tags)
    raise E2FashionError(f"The catalogue {catalogue.path} has no product '{product_id}'.")
