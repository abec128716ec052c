"""Descriptions: a product's attributes in one of several phrasings, 8 to 30 words long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from e2fashion.data.synthfashion.fabrics import FABRICS
from e2fashion.data.synthfashion.garments import SILHOUETTES
from e2fashion.data.synthfashion.seasons import SEASONS

if TYPE_CHECKING:
    from e2fashion.data.synthfashion.products import Attributes

TEMPLATES: tuple[str, ...] = (
    "{fabric} {noun} in {colour}. {first}, {second}. {trim}.",
    "{colour} {fabric} {noun} with {first} and {second}. {trim}. {logo}.",
    "{noun} cut from {fabric} in {colour}. {first}. {trim} and {second}.",
    "A {mood} {brand} {noun} in {colour} {fabric}, {first}, {second}.",
    "A {mood} {noun} in {fabric}, coloured {colour}. {second}. {first}. {logo}.",
    "{colour} {noun} by {brand}: {fabric}, {first}, {trim}.",
    "{first} {noun} in {colour} {fabric}. {trim}. Finished with {second}.",
    "{mood} {fabric} {noun}, {second}, {first}. {trim} on {colour}.",
    "In {colour}: {fabric} {noun}. {second}. {first}. {trim}. {logo}.",
    "{noun}, {fabric}, {colour}. {trim}, {first} and {second} for a {mood} look.",
    "This {colour} {noun} is made of {fabric} and has {first}, {second} and {trim}.",
    "{fabric} {noun} with {trim}. {logo}. Comes in {colour} with {first}.",
)

LOGO_WORDS = (("Logo patch placed high", "Small badge set high"), ("Logo patch placed low", "Small badge set low"))
"""By whether the logo sits in the lower half of its free places."""

MOODS: tuple[str, ...] = ("casual", "classic", "modern", "relaxed", "sporty", "refined")


def _sentence_case(text: str) -> str:
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


def describe(attributes: Attributes, random: np.random.Generator) -> str:
    """Write the description of a product: what is drawn, never more than the reader of the picture could check."""

    def one(choices: Sequence[str]) -> str:
        return choices[int(random.integers(len(choices)))]

    silhouette = SILHOUETTES[attributes.sub_category]
    season = SEASONS[attributes.season]
    phrases = [one(dict(options)[value]) for options, value in zip(silhouette.details, attributes.details, strict=True)]
    text = one(TEMPLATES).format(
        fabric=one(FABRICS[attributes.fabric].words),
        noun=one(silhouette.nouns),
        colour=attributes.colour,
        first=phrases[0],
        second=phrases[1],
        trim=one(season.words).format(zone=silhouette.zones[season.zone]),
        logo=one(LOGO_WORDS[attributes.logo_low]),
        brand=attributes.brand,
        mood=one(MOODS),
    )
    return _sentence_case(text)
