"""The cells of a contact sheet of what a search found: an image with rank, score, id and tags."""

from __future__ import annotations

from PIL import Image

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.image_files import ImageError
from e2fashion.data.pictures import read_image, read_stored
from e2fashion.figures import Pane
from e2fashion.tasks.search.index import Hit
from e2fashion.types import E2FashionError

TAGS_SHOWN = 3


def hit_pane(hit: Hit, rank: int, note: str = "") -> Pane:
    """A hit as it stands on a sheet; ``note`` follows the score."""
    tags = list(hit.tags.values())[:TAGS_SHOWN]
    lines = [f"{rank}   {hit.score:.3f}{note}", hit.description or hit.product_id, *tags]
    return Pane(picture_of(hit), lines)


def picture_of(hit: Hit) -> Image.Image:
    """The picture of a hit, from its catalogue or file.

    Raises:
        E2FashionError: it is not there any more.
    """
    try:
        if hit.origin.kind == "catalogue":
            split, _, row = hit.place.rpartition("/")
            data = Catalogue.load(hit.origin.path).split(split)[int(row)]["image"]
            return read_stored(data)
        return read_image(hit.place)
    except (ImageError, IndexError, KeyError) as error:
        raise E2FashionError(
            f"the picture of product '{hit.product_id}' is not at {hit.origin.path} any more ({error}): search without "
            "a figure, or from the folder where the index was built"
        ) from error
