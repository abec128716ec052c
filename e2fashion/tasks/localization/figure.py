"""The figure of an explanation: the picture, then a map per method and subject."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from e2fashion.figures import ImageArray, draw_heatmaps
from e2fashion.tasks.localization.explain import Explanation

ACROSS = 5  #: panels in a line
LETTERS = 26  #: of a subject in a line of its own


def draw_explanations(picture: ImageArray, found: Sequence[Explanation], file: Path, title: str) -> Path:
    """Write the picture (H, W, 3) as it is and beside it every map: bright where it looks, frames are picks."""
    captions = [_below(explanation) for explanation in found]
    headings = [explanation.heading for explanation in found]
    draw_heatmaps(picture, [explanation.look for explanation in found], headings, captions, file, title, ACROSS)
    return file


def _below(explanation: Explanation) -> str:
    if not explanation.look.heat.any():
        return f"{explanation.subject}\n(no heat)".strip()
    return "\n".join(textwrap.wrap(explanation.subject, LETTERS, max_lines=2, placeholder=" ..."))
