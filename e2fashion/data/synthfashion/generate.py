"""Generation: products of SynthFashion as rows of a source."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from e2fashion.data.sources.base import SourceRow
from e2fashion.data.synthfashion.painting import paint
from e2fashion.data.synthfashion.products import build_product
from e2fashion.data.synthfashion.render import photograph
from e2fashion.data.synthfashion.views import build_view

JPEG_QUALITY = 92


def _encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def generate(
    products: int, views: int = 2, image_size: int = 128, seed: int = 0, missing_tags: float = 0.1
) -> Iterator[SourceRow]:
    """Render ``views`` pictures each of ``products`` products, in order, as JPEG of ``image_size`` pixels square.

    A picture depends on (seed, product, view) alone, not on how many there are; bytes are equal on every call (and
    on every machine with the same NumPy and Pillow). A share of ``missing_tags`` of the tags is unknown: None, and
    without boxes, though what it names is drawn. Val and test hold pairs of sub-category and fabric that train lacks
    (:data:`e2fashion.data.synthfashion.products.UNSEEN`), and lines of four products (``group``) that trim, details and
    logo alone tell apart.
    """
    for index in range(products):
        product = build_product(index, seed, missing_tags)
        painted = paint(product.attributes, 2 * image_size)
        for view in range(views):
            picture = photograph(painted, product.attributes, build_view(index, view, seed), image_size)
            yield SourceRow(
                row=f"product {index} view {view}",
                product_id=product.product_id,
                image=_encoded(picture.image),
                description=product.description,
                tags=product.tags,
                view=view,
                split=product.split,
                group=product.line,
                regions={
                    column: boxes for column, boxes in picture.regions.items() if product.tags[column] is not None
                },
            )
