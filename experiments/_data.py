"""The data sets that experiments run on: where each comes from, and the command that prepares it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class DataSet:
    """``title`` for tables, ``origin`` and ``prepare`` in words for whoever does not have it yet."""

    title: str
    origin: str
    prepare: str


DATA_SETS: dict[str, DataSet] = {
    "fashiongen": DataSet(
        "Fashion-Gen",
        "fashiongen_256_256_train.h5 and fashiongen_256_256_validation.h5, given by Fashion-Gen's authors on request "
        "through the page of their challenge",
        "e2fashion data prepare configs/data/fashiongen.yaml path=<folder of the two files> output=<catalogue>",
    ),
    "amazon_fashion": DataSet(
        "AmazonFashion",
        "meta-fashion.json, split.json and the pictures below Fashion/, linked from the page of E2's authors' code",
        "e2fashion data prepare configs/data/amazon_fashion.yaml path=<folder> output=<catalogue>",
    ),
    "kagl": DataSet(
        "Fashion Product Images",
        "styles.csv (or metadata.csv) and images/, from Kaggle: Fashion Product Images, by Param Aggarwal",
        "e2fashion data prepare configs/data/kagl.yaml path=<folder> output=<catalogue>",
    ),
    "fashioniq": DataSet(
        "FashionIQ",
        "captions/ and image_splits/ from its authors' repository, and the pictures that they list, as images/<id>.png "
        "or .jpg",
        "nothing: it is read as it is, --data fashioniq=<folder>",
    ),
    "synthfashion": DataSet(
        "SynthFashion (drawn)",
        "nothing to fetch: it is drawn on the spot",
        "e2fashion data prepare configs/data/synthfashion.yaml output=<catalogue>",
    ),
}


def parse_data(words: Iterable[str]) -> dict[str, Path]:
    """``name=catalogue`` words as a mapping.

    Raises E2FashionError for a word without a name, an unknown data set, or one that is named twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, sign, place = word.partition("=")
        if not sign or not place:
            raise E2FashionError(
                f"--data is '{word}'; write --data <name>=<catalogue>, as in --data kagl=catalogues/kagl."
            )
        if name not in DATA_SETS:
            raise E2FashionError(f"--data names the data set '{name}'; there are: {', '.join(DATA_SETS)}.")
        if name in found:
            raise E2FashionError(f"--data names '{name}' twice: {found[name]} and {place}. Give one catalogue of it.")
        found[name] = Path(place)
    return found


def load_catalogue(name: str, place: Path) -> Catalogue:
    """The catalogue of a data set; an error says where its data comes from."""
    try:
        return Catalogue.load(place)
    except E2FashionError as error:
        raise E2FashionError(f"{error}\n{how_to_get(name)}") from error


def choose_data(experiment: str, wanted: Sequence[str], given: Mapping[str, Path], scale: str) -> str:
    """The one data set of ``wanted`` that was given.

    Raises E2FashionError when none or several were, or one that this scale has no recipe for.
    """
    if other := [name for name in given if name not in wanted]:
        raise E2FashionError(
            f"{experiment} has no recipe for '{other[0]}' at scale '{scale}'. Data sets of this scale: "
            f"{', '.join(wanted)}."
        )
    if len(given) > 1:
        raise E2FashionError(f"{experiment} runs on one data set at a time; got {', '.join(given)}.")
    if not given:
        raise E2FashionError(missing_data(experiment, wanted, scale))
    return next(iter(given))


def missing_data(experiment: str, wanted: Sequence[str], scale: str) -> str:
    """What to fetch and to type when an experiment was given no data."""
    several = "one of: " if len(wanted) > 1 else ""
    lines = [f"{experiment} at scale '{scale}' needs {several}{', '.join(f'--data {n}=<catalogue>' for n in wanted)}."]
    return "\n".join([*lines, *(how_to_get(name) for name in wanted)])


def how_to_get(name: str) -> str:
    """Where a data set comes from and how it is prepared."""
    data = DATA_SETS[name]
    return f"{data.title}: {data.origin}. Prepare it with: {data.prepare}"
