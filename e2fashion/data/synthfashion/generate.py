"""SynthFashion in any number of products, and a contact sheet of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO

from PIL import Image, ImageDraw

from e2fashion.data.images import encode_jpeg
from e2fashion.data.sources.base import SourceRow
from e2fashion.data.synthfashion.drawing import JPEG_QUALITY
from e2fashion.data.synthfashion.products import build_product
from e2fashion.data.synthfashion.render import build_view, paint, photograph
from e2fashion.types import E2FashionError

BOX_COLOURS = {
    "brand": (230, 0, 60),
    "season": (0, 90, 255),
    "sub_category": (120, 120, 120),
    "composition": (0, 160, 70),
}


def contact_sheet(rows: Iterable[SourceRow], columns: int = 8, zoom: int = 1, boxes: bool = False) -> Image.Image:
    """Images of ``rows`` (held as bytes) side by side, each ``zoom`` times as large; RGB.

    Boxes: red the brand, blue the season, grey the sub-category, green the composition.

    Raises:
        E2FashionError: there are no rows, or an image is not held as bytes.
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
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    return sheet


def generate(
    products: int, views: int = 2, image_size: int = 128, seed: int = 0, missing_tags: float = 0.1
) -> Iterator[SourceRow]:
    """Render ``views`` images each of ``products`` products, in order, as JPEG of ``image_size`` pixels square.

    An image depends on (seed, product, view) alone, not on how many there are; bytes are equal on every call (and
    on every machine with the same NumPy and Pillow). A share of ``missing_tags`` of the tags is unknown: None, and
    without boxes, though what it names is drawn. Val and test hold pairs of sub-category and fabric that train lacks
    (:data:`e2fashion.data.synthfashion.products.UNSEEN`), and lines of four products (``group``) that trim, details and
    logo alone tell apart.
    """
    for index in range(products):
        product = build_product(index, seed, missing_tags)
        painted = paint(product.attributes, 2 * image_size)
        for view in range(views):
            photo = photograph(painted, product.attributes, build_view(index, view, seed), image_size)
            yield SourceRow(
                row=f"product {index} view {view}",
                product_id=product.product_id,
                image=encode_jpeg(photo.image, JPEG_QUALITY),
                description=product.description,
                tags=product.tags,
                view=view,
                split=product.split,
                group=product.line,
                regions={column: boxes for column, boxes in photo.regions.items() if product.tags[column] is not None},
            )
