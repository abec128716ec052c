"""A contact sheet: many pictures on one page, with the boxes of their tags if wanted."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

from PIL import Image, ImageDraw

from e2fashion.data.sources.base import SourceRow
from e2fashion.types import E2FashionError

BOX_COLOURS = {
    "brand": (230, 0, 60),
    "season": (0, 90, 255),
    "sub_category": (120, 120, 120),
    "composition": (0, 160, 70),
}


def contact_sheet(rows: Iterable[SourceRow], columns: int = 8, zoom: int = 1, boxes: bool = False) -> Image.Image:
    """Pictures of ``rows`` (held as bytes) side by side, each ``zoom`` times as large; RGB.

    Boxes: red the brand, blue the season, grey the sub-category, green the composition.

    Raises:
        E2FashionError: there are no rows, or a picture is not held as bytes.
    """
    tiles: list[Image.Image] = []
    for row in rows:
        if not isinstance(row.image, bytes):
            raise E2FashionError(f"contact_sheet: {row.row} holds a {type(row.image).__name__}; read its bytes first")
        tile = Image.open(BytesIO(row.image)).convert("RGB")
        tile = tile.resize((tile.width * zoom, tile.height * zoom), Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(tile)
        for column, regions in (row.regions or {}).items() if boxes else ():
            for box in regions:
                edges = (box.left, box.top, box.right, box.bottom)
                left, top, right, bottom = (edge * tile.width for edge in edges)
                draw.rectangle((left, top, right - 1, bottom - 1), outline=BOX_COLOURS.get(column, (0, 0, 0)))
        tiles.append(tile)
    if not tiles:
        raise E2FashionError("contact_sheet: got 0 rows; pass at least one")
    width, height = max(t.width for t in tiles), max(t.height for t in tiles)
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), (255, 255, 255))
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % columns * width, place // columns * height))
    return sheet
