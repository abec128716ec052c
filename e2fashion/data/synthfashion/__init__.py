"""SynthFashion: rendered garments whose every tag has a known place in the picture."""

from e2fashion.data.synthfashion.ceiling import TextCeiling, text_ceiling
from e2fashion.data.synthfashion.generate import generate
from e2fashion.data.synthfashion.products import TAG_COLUMNS
from e2fashion.data.synthfashion.sheet import contact_sheet

__all__ = ["TAG_COLUMNS", "TextCeiling", "contact_sheet", "generate", "text_ceiling"]
