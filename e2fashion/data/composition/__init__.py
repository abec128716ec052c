"""What garments are made of: composition texts as parts, fibres and percentages."""

from e2fashion.data.composition.grammar import dominant_fibre, parse_composition
from e2fashion.data.composition.reading import KINDS, Composition, Kind, Part, Share

__all__ = ["KINDS", "Composition", "Kind", "Part", "Share", "dominant_fibre", "parse_composition"]
