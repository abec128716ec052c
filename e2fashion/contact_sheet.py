"""A contact sheet: images in rows, with a few lines of text below each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL, MARGIN, LINE = 180, 14, 16
ACROSS = 5
INK, QUIET, PAPER = "#1f2328", "#57606a", "#ffffff"


@dataclass(frozen=True)
class Pane:
    """A picture and the lines below it, the first in bold ink."""

    picture: Image.Image
    lines: Sequence[str]


def draw_sheet(panes: Sequence[Pane], file: Path, title: str, most_across: int = ACROSS) -> Path:
    """Write the panes in rows of ``most_across`` below a title, as PNG."""
    lines = max((len(pane.lines) for pane in panes), default=0)
    across = max(1, min(most_across, len(panes)))
    height = CELL + 8 + lines * LINE + MARGIN
    rows = -(-len(panes) // across)
    font, bold = ImageFont.load_default(12), ImageFont.load_default(14)
    width = max(MARGIN + across * (CELL + MARGIN), 2 * MARGIN + int(bold.getlength(title)))
    sheet = Image.new("RGB", (width, MARGIN + 26 + rows * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, fill=INK, font=bold)
    for number, pane in enumerate(panes):
        left = MARGIN + number % across * (CELL + MARGIN)
        top = MARGIN + 26 + number // across * height
        picture = ImageOps.contain(pane.picture, (CELL, CELL), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
        pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline="#d0d7de")
        for line, text in enumerate(pane.lines):
            ink = INK if line == 0 else QUIET
            pen.text((left, top + CELL + 6 + line * LINE), _cut(text, font, CELL), fill=ink, font=font)
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, "PNG")
    return file


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of a text as ``width`` pixels hold."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
