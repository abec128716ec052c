"""Draw queries, what two models answer, and the patches that the second one picks: the figure of README.md.

``python -m scripts.query_figure runs/quickstart/clip_ft runs/quickstart/e2 catalogues/synthfashion docs/queries.png``

Queries are the texts of random products (seed 0) of a split. The second model is an E2; on each query's product its
patches for one entity are framed. An E2 is ranked by its regional score. Relevant images have a green frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from e2fashion import load_encoder
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.figures import Heatmap, draw_retrieved
from e2fashion.report import retrieved_rows, selection_rows
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.types import E2FashionError


def main(arguments: list[str] | None = None) -> None:
    """Write one PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", help="a run or model folder of any CLIP")
    parser.add_argument("model", help="a run or model folder of an E2")
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("output", type=Path, help="the PNG to write")
    parser.add_argument("--split", default="test")
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--entity", default="brand", help="whose patches are framed")
    parser.add_argument("--block", type=int, default=0, help="of this fusion block, 0 for the first")
    options = parser.parse_args(arguments)
    try:
        encoders = [load_encoder(options.baseline), load_encoder(options.model)]
        catalogue = Catalogue.load(options.catalogue)
        draw(encoders, catalogue, options)
    except E2FashionError as error:
        parser.exit(1, f"error: {error}\n")


def draw(encoders: Sequence[Encoder], catalogue: Catalogue, options: argparse.Namespace) -> None:
    """The figure, from the two models and the arguments."""
    model = encoders[1]
    if options.entity not in [entity.name for entity in model.selecting_entities]:
        raise E2FashionError(
            f"'{options.model}' has no tokens of '{options.entity}': give --entity and an E2 that has them."
        )
    embedded = [
        embed_catalogue(encoder, catalogue, options.split, regions=True).with_regions(
            encoder.region_score_weight or 0.0  # None: val was never ranked with regions
        )
        for encoder in encoders
    ]
    rows = retrieved_rows(encoders, catalogue, options.split, options.queries, embedded=embedded)
    picked = selection_rows(model, catalogue, options.split, options.queries, block=options.block)
    heatmaps = [Heatmap(row.image, row.maps[options.entity], row.selected[options.entity]) for row in picked]
    rows = [replace(row, selected=heatmap) for row, heatmap in zip(rows, heatmaps, strict=True)]
    title = (
        f"Text queries to {catalogue.path.name}/{options.split}. Yellow: patches that {model.name} picks for "
        f"'{options.entity}'. Green: the right product."
    )
    draw_retrieved(rows, options.output, title, dpi=80)
    with Image.open(options.output) as image:  # a third of the bytes, for a repository
        image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
