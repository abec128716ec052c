"""Readers of what people bring: tables, lists, data sets in the layouts of their releases, images."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from scripts.torture.fuzz import Reader, WrongResultError
from scripts.torture.scene import Scene

TAGS = {"brand": "brand", "season": "season"}
ROWS = 8
#: Formats in which images come, by their ending, and whether this Pillow writes them.
FORMATS = {
    ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF",
    ".avif": "AVIF", ".jp2": "JPEG2000", ".ppm": "PPM", ".tga": "TGA", ".ico": "ICO",
}  # fmt: skip


def source_readers(scene: Scene) -> list[Reader]:
    """All of them, with their intact input below the scene."""
    made = scene.path / "readers"
    table = _table_folder(scene, made / "table")
    return [
        Reader("CSV table", table, ("products.csv",), _source("folder", table="products.csv", tags=TAGS), 3.0),
        Reader("TSV table", table, ("products.tsv",), _source("folder", table="products.tsv", tags=TAGS)),
        Reader(
            "JSON Lines table", table, ("products.jsonl",), _source("folder", table="products.jsonl", tags=TAGS), 1.5
        ),
        Reader("Parquet table", table, ("products.parquet",), _source("folder", table="products.parquet", tags=TAGS)),
        Reader("styles.csv", _styles(made / "styles"), ("styles.csv",), _source("kagl")),
        Reader("Fashion-Gen HDF5", _fashiongen(made / "fashiongen"), ("*.h5",), _source("fashiongen")),
        Reader("AmazonFashion JSON", _amazon(made / "amazon"), ("*.json",), _source("amazon_fashion")),
        Reader("FashionIQ JSON", _fashion_iq(made / "fashion_iq"), ("*/*.json",), _source("fashion_iq")),
        Reader("idx files", _idx(made / "idx"), ("*.gz",), _source("labelled")),
        Reader("saved data set", _saved(made / "saved"), ("**/*",), _source("hub", tags={"brand": "brand"})),
        Reader("image list", table, ("list.txt",), _read_list),
        Reader("compositions", _compositions(made / "compositions"), ("compositions.txt",), _read_compositions),
        Reader("images", _images(made / "images"), ("*.*",), _read_images, 3.0),
    ]


def _source(name: str, **options: Any) -> Callable[[Path, Path], object]:
    """Every row of a source, each checked as ``data prepare on_error=skip`` does."""

    def read(workdir: Path, _: Path) -> object:
        from e2fashion.data.config import build_source
        from e2fashion.data.rows import ProductError, check_row
        from e2fashion.data.sources.base import SourceProblem, rows_of

        source = build_source(name, {"path": str(workdir), **options})
        kept = skipped = 0
        for row in rows_of(source):
            try:
                if isinstance(row, SourceProblem):
                    raise ProductError(row)
                check_row(row, 4000, 1_000_000)
                kept += 1
            except ProductError:
                skipped += 1
        file = workdir / str(options.get("table", ""))
        if file.suffix in (".csv", ".tsv") and not skipped and kept < _physical_rows(file):
            raise WrongResultError(f"{kept} rows of {_physical_rows(file)} lines, and none is listed as skipped")
        return kept

    return read


def _physical_rows(file: Path) -> int:
    """Rows of a table: as it says where every row has the header's cells, else its lines with at least one cell."""
    text = file.read_bytes().replace(b"\r\n", b"\n")
    for delimiter in "\t,;":  # a damaged table may have another one than its name says
        with contextlib.suppress(csv.Error, UnicodeError):
            read = csv.reader(io.StringIO(text.decode(), newline=""), delimiter=delimiter, strict=True)
            rows = [row for row in read if row]
            if rows and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows):
                return len(rows) - 1
    return len([line for line in text.split(b"\n") if line.strip(b"\r\n,;\t \x00")]) - 1


def _read_list(workdir: Path, _: Path) -> object:
    from e2fashion.data.transforms import ImageTransform
    from e2fashion.tasks.search.sources import open_products

    products = open_products(str(workdir / "list.txt"))
    transform = ImageTransform(16, "squeeze")
    return [products.square(position, transform).shape for position in range(min(len(products.ids), 20))]


def _read_compositions(workdir: Path, _: Path) -> object:
    """Every line as a composition: what is understood is written so that it is read the same again."""
    from e2fashion.data.composition import parse_composition
    from e2fashion.text_files import read_text

    lines = read_text(workdir / "compositions.txt", "a list of compositions").splitlines()
    for parsed in map(parse_composition, lines):
        again = parse_composition(str(parsed))
        if parsed.kind == "percentages" and (again.kind, str(again)) != (parsed.kind, str(parsed)):
            raise WrongResultError(f"{str(parsed)[:60]!r} is read again as {str(again)[:60]!r}")
    return len(lines)


def _read_images(workdir: Path, damaged: Path) -> object:
    """An image on both ways on which images are decoded: into a catalogue, and to be embedded at once."""
    from e2fashion.data.decode import decode_image, read_pixels
    from e2fashion.data.rows import ProductError, check_row
    from e2fashion.data.sources.base import SourceRow

    refused: ProductError | None = None
    try:
        decode_image(check_row(SourceRow("row 1", "p", workdir / damaged, "a text", {}), 100, 1_000_000).image)
    except ProductError as error:
        refused = error
    read_pixels(workdir / damaged)
    if refused is not None:
        raise refused
    return None


def _rows() -> list[dict[str, str]]:
    return [
        {
            "product_id": f"p{number}",
            "image": f"images/{number}.png",
            "description": f"a garment with {number} buttons",
            "brand": "Amber" if number % 2 else "Birch",
            "season": "Summer" if number % 3 else "",
        }
        for number in range(ROWS)
    ]


def _table_folder(scene: Scene, folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    (folder / "images").mkdir(parents=True)
    for number in range(ROWS):
        shutil.copy(scene.raw / "images" / f"{number}.png", folder / "images")
    rows = _rows()
    for name, delimiter in (("products.csv", ","), ("products.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    lines = [json.dumps(row) for row in rows]
    (folder / "products.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    parquet.write_table(pa.Table.from_pylist(rows), folder / "products.parquet")
    (folder / "list.txt").write_text("".join(f"{row['image']}\n" for row in rows), encoding="utf-8")
    return folder


def _styles(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    head = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
    lines = [f"{1000 + n},Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Amber Men Shirt {n}" for n in range(ROWS)]
    (folder / "styles.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    for number in range(ROWS):
        _picture(number).save(folder / "images" / f"{1000 + number}.jpg")
    return folder


def _fashiongen(folder: Path) -> Path:
    import h5py

    folder.mkdir(parents=True)
    names = ("brand", "season", "subcategory", "composition", "category", "gender", "department", "description")
    for file, start in (("fashiongen_256_256_train.h5", 0), ("fashiongen_256_256_validation.h5", 4)):
        with h5py.File(folder / file, "w") as opened:
            opened["input_image"] = np.stack([np.asarray(_picture(start + number)) for number in range(4)])
            opened["input_productID"] = np.array([[start + number] for number in range(4)])
            for name in (*names, "concat_description", "name"):
                opened[f"input_{name}"] = np.array([[f"{name} {number % 2}".encode()] for number in range(4)])
    return folder


def _amazon(folder: Path) -> Path:
    from e2fashion.data.sources import amazon_fashion as layout

    folder.mkdir(parents=True)
    products = {f"B{n}": {"title": f"garment {n}", "brand": "Amber", layout._FIELD: ["0.jpg"]} for n in range(ROWS)}
    splits = {"train": list(products)[:6], "test": list(products)[6:]}
    (folder / layout._PRODUCTS).write_text(json.dumps(products), encoding="utf-8")
    (folder / layout._SPLITS).write_text(json.dumps(splits), encoding="utf-8")
    for number, product in enumerate(products):
        (folder / layout._IMAGES / product).mkdir(parents=True)
        _picture(number).save(folder / layout._IMAGES / product / "0.jpg")
    return folder


def _fashion_iq(folder: Path) -> Path:
    for name in ("captions", "image_splits", "images"):
        (folder / name).mkdir(parents=True)
    for category in ("dress", "shirt", "toptee"):
        for split in ("train", "val"):
            ids = [f"{category}{split}{number}" for number in range(4)]
            rows = [{"candidate": a, "target": b, "captions": ["is red", ""]} for a, b in itertools.pairwise(ids)]
            _write_json(folder / "captions" / f"cap.{category}.{split}.json", rows)
            _write_json(folder / "image_splits" / f"split.{category}.{split}.json", ids)
            for number, name in enumerate(ids):
                _picture(number).save(folder / "images" / f"{name}.png")
    return folder


def _idx(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for part, count in (("train", 12), ("t10k", 4)):
        images = struct.pack(">IIII", 0x803, count, 8, 8) + np.random.default_rng(0).bytes(count * 64)
        labels = struct.pack(">II", 0x801, count) + bytes(number % 4 for number in range(count))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, mtime=0))
    return folder


def _saved(folder: Path) -> Path:
    import datasets

    columns: dict[str, list[Any]] = {
        "product_id": [f"p{number}" for number in range(ROWS)],
        "image": [_encoded(number, "PNG") for number in range(ROWS)],
        "description": [f"garment {number}" for number in range(ROWS)],
        "brand": ["Amber", None] * (ROWS // 2),
    }
    split = datasets.Dataset.from_dict(columns)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(str(folder))
    return folder


def _compositions(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = (
        "100% cotton.", "Body: 87% virgin wool, 13% nylon. Lining: 100% cupro.", "50% LINEN 50% COTTON", "leather",
        "shell: 33% wool, 33% silk, 33% cashmere", "Upper: calfskin; Sole: rubber. Dry clean only.", "75 % viscose",
    )  # fmt: skip
    (folder / "compositions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _images(folder: Path) -> Path:
    """One image per format; those that this Pillow cannot write are left out."""
    folder.mkdir(parents=True)
    modes: Mapping[str, str] = {
        "gray.png": "L",
        "palette.png": "P",
        "alpha.png": "RGBA",
        "deep.png": "I;16",
        "cmyk.jpg": "CMYK",
    }
    for ending, form in FORMATS.items():
        if form == "AVIF" and not features.check("avif"):
            continue
        (folder / f"plain{ending}").write_bytes(_encoded(1, form))
    for name, mode in modes.items():
        _picture(2).convert("L" if mode == "I;16" else mode).convert(mode).save(folder / name)
    return folder


def _picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (18, 14, 3), dtype=np.uint8))


def _encoded(number: int, form: str) -> bytes:
    stream = io.BytesIO()
    _picture(number).save(stream, form)
    return stream.getvalue()


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")
