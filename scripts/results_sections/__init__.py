"""The sections of ``docs/results.md`` in the order of the page: one file per topic, each with ``SECTIONS``."""

from scripts.results_sections import (
    captioning,
    classification,
    composed,
    kagl_pretrained,
    kagl_small,
    search,
    selection,
)
from scripts.results_sections.section import Section

TOPICS = (kagl_small, kagl_pretrained, classification, captioning, composed, search, selection)

SECTIONS: tuple[Section, ...] = tuple(section for topic in TOPICS for section in topic.SECTIONS)
