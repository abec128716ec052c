"""``tags.json``: the values, templates and thresholds of a tag predictor, kept beside the model that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from e2fashion.disk import read_json, seal, stored_as, write_json
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.tasks.classification.tag_predictor import TagPredictor, TagValues
from e2fashion.types import E2FashionError

NAME = "tags.json"
FORMAT = 1
REMEDY = "Fit it again."


def save_tag_predictor(predictor: TagPredictor, encoder: Encoder, file: Path, made_on: Mapping[str, Any]) -> None:
    """Write a predictor; ``made_on`` says on what its thresholds were chosen. The file never holds half of it."""
    content = {
        "format": FORMAT,
        "model": encoder.name,
        "model_fingerprint": encoder.fingerprint,
        "scale": predictor.scale,
        **made_on,
        "entities": [asdict(entity) for entity in predictor.entities],
    }
    write_json(file, seal(content))


def load_tag_predictor(
    model: str | Encoder, file: str | Path | None = None, threshold: float | None = None
) -> TagPredictor:
    """The predictor of a model (loaded already, or a run's folder) from its ``tags.json``.

    ``file`` None reads the one in the run's folder. ``threshold`` replaces every threshold; 0.0 always answers.

    Raises:
        E2FashionError: no such file, one that is broken or from another version, or one of another model.
    """
    place = Path(file) if file is not None else None
    if place is None:
        if not isinstance(model, str):
            raise E2FashionError(f"tags of the loaded model '{model.name}': name their file, as in file='{NAME}'.")
        place = Path(model) / NAME
    if not place.is_file():
        raise E2FashionError(
            f"There is no {place}: thresholds are chosen on val by `e2fashion tags fit <model> data=<catalogue>`."
        )
    encoder = load_encoder(model) if isinstance(model, str) else model
    content = _read(place)
    if content.model_fingerprint != encoder.fingerprint:
        raise E2FashionError(
            f"{place} belongs to the model '{content.model}', whose weights or way of making a square are not those "
            f"of '{encoder.name}'. Fit tags of this one: `e2fashion tags fit <model> data=<catalogue>`."
        )
    entities = content.entities
    if threshold is not None:
        entities = tuple(replace(entity, threshold=threshold) for entity in entities)
    return TagPredictor(encoder, entities, content.scale)


@dataclass(frozen=True)
class _Content:
    """What :func:`load_tag_predictor` reads of the file."""

    model: str
    model_fingerprint: str
    scale: float
    entities: tuple[TagValues, ...]


def _read(place: Path) -> _Content:
    content = read_json(place, REMEDY)
    if (found := content.get("format")) != FORMAT:
        raise E2FashionError(f"{place} has the format {found!r}, this version reads {FORMAT}. {REMEDY}")
    read = [item.name for item in fields(_Content)]
    return stored_as(_Content, {key: content[key] for key in read if key in content}, str(place), REMEDY)
