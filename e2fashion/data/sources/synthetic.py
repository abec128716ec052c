"""SynthFashion as a source: rendered garments in which the region of every tag is known, and a sheet of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

from PIL import Image, ImageDraw

from e2fashion.data.images import encode_jpeg
from e2fashion.data.sources.base import SourceProblem, SourceRow, added_option
from e2fashion.data.synthfashion.drawing import JPEG_QUALITY
from e2fashion.data.synthfashion.products import TAG_COLUMNS, build_product
from e2fashion.data.synthfashion.render import build_view, paint, photograph
from e2fashion.types import E2FashionError

SMALLEST_IMAGE = 32
DETAIL_SCALES = (0.25, 2.0)


@dataclass
class SyntheticSource:
    """SynthFashion, rendered products; the same options give the same bytes.

    Raises:
        E2FashionError: an option is out of its range.
    """

    name: ClassVar[str] = "synthetic"

    products: int = 2000
    """Number of products."""
    image_size: int = 128
    """Pixels along the square."""
    views: int = 2
    """Images of a product."""
    seed: int = 0
    """Seed of products and images."""
    missing_tags: float = 0.1
    """Share of brands, seasons and compositions that are unknown."""
    detail_scale: float = added_option(1.0)
    """Size of logos and trims, the details that carry brand and season, relative to the usual one; 0.25 to 2."""

    def __post_init__(self) -> None:
        bounds = {"products": 1, "image_size": SMALLEST_IMAGE, "views": 1, "seed": 0}
        for option, least in bounds.items():
            value = getattr(self, option)
            if value < least:
                raise E2FashionError(f"synthetic: {option}={value} is too small; set it to {least} or more")
        if not 0 <= self.missing_tags < 1:
            raise E2FashionError(
                f"synthetic: missing_tags={self.missing_tags} is not a share; set it to at least 0 and less than 1"
            )
        smallest, largest = DETAIL_SCALES
        if not smallest <= self.detail_scale <= largest:
            raise E2FashionError(
                f"synthetic: detail_scale={self.detail_scale} draws no fit logo; set it to {smallest} to {largest}"
            )

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """Names of the tag columns that every row's ``tags`` holds."""
        return TAG_COLUMNS

    def __len__(self) -> int:
        """Number of images."""
        return self.products * self.views

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """The images, product by product."""
        options = (self.products, self.views, self.image_size, self.seed, self.missing_tags, self.detail_scale)
        return iter(generate(*options))


BOX_COLORS = {
    **{"brand": (230, 0, 60), "season": (0, 90, 255)},
    **{"sub_category": (120, 120, 120), "composition": (0, 160, 70)},
}


def contact_sheet(rows: Iterable[SourceRow], columns: int = 8, zoom: int = 1, boxes: bool = False) -> Image.Image:
    """Images of ``rows`` (held as bytes) side by side, each ``zoom`` times as large; RGB.

    Boxes: red the brand, blue the season, gray the sub-category, green the composition.

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
                draw.rectangle((left, top, right - 1, bottom - 1), outline=BOX_COLORS.get(column, (0, 0, 0)))
        tiles.append(tile)
    if not tiles:
        raise E2FashionError("contact_sheet: got 0 rows; pass at least one")
    width, height = max(t.width for t in tiles), max(t.height for t in tiles)
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), (255, 255, 255))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    return sheet


def generate(
    products: int,
    views: int = 2,
    image_size: int = 128,
    seed: int = 0,
    missing_tags: float = 0.1,
    detail_scale: float = 1.0,
) -> Iterator[SourceRow]:
    """Render ``views`` images each of ``products`` products, in order, as JPEG of ``image_size`` pixels square.

    An image depends on (seed, product, view) alone, not on how many there are; bytes are equal on every call (and
    on every machine with the same NumPy and Pillow). A share of ``missing_tags`` of the tags is unknown: None, and
    without boxes, though what it names is drawn. Val and test hold pairs of sub-category and fabric that train lacks
    (:data:`e2fashion.data.synthfashion.products.UNSEEN`), and lines of four products (``group``) that trim, details and
    logo alone distinguish. Only logo, trim and their boxes depend on ``detail_scale``.
    """
    for index in range(products):
        product = build_product(index, seed, missing_tags, detail_scale)
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
