"""FashionIQ in its true layout, small: three categories, two splits, images of which some are missing."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = ("dress", "shirt", "toptee")
#: By category and split: how many products; every other file ending is .jpg.
PRODUCTS = 8
COLOURS = ((200, 30, 30), (30, 30, 200), (30, 160, 30), (230, 230, 230), (20, 20, 20), (220, 200, 40))
#: Of val: a candidate, a target, and one that no caption names.
MISSING = ("Bdressval2", "Bdressval5", "Bdressval7")
EMPTY = "Bshirtval0"


def write_fashion_iq(folder: Path, missing: tuple[str, ...] = MISSING) -> Path:
    """Captions, splits and images; the pair of reference i is i + 1, and the last two ids are in no caption."""
    for name in ("captions", "image_splits", "images"):
        (folder / name).mkdir(parents=True)
    for category in CATEGORIES:
        for split in ("train", "val"):
            ids = [f"B{category}{split}{number}" for number in range(PRODUCTS)]
            pairs = []
            for number in range(PRODUCTS - 2):
                captions = ["is blue and longer", f"has {'no stripes' if number % 2 else 'short sleeves'}"]
                if ids[number] == EMPTY:
                    captions[1] = ""
                pairs.append({"candidate": ids[number], "target": ids[number + 1], "captions": captions})
            (folder / "captions" / f"cap.{category}.{split}.json").write_text(json.dumps(pairs))
            (folder / "image_splits" / f"split.{category}.{split}.json").write_text(json.dumps(ids))
            for number, name in enumerate(ids):
                if name not in missing:
                    pixels = np.full((40, 20 + number, 3), COLOURS[number % len(COLOURS)], np.uint8)
                    ending = "jpg" if number % 2 else "png"
                    Image.fromarray(pixels).save(folder / "images" / f"{name}.{ending}")
    return folder
