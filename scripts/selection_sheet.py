"""Draw what selection tokens pick: ``python -m scripts.selection_sheet runs/e2 catalogues/kagl sheet.png``.

Bright: where an entity's tokens look in a fusion block; yellow frames: the patches they read; blue dashes: the
true region, where the catalogue has it. ``--compare`` adds the attention of any CLIP.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from e2fashion import load_encoder
from e2fashion.data.catalogue import Catalogue
from e2fashion.figures import draw_selection
from e2fashion.report import selection_rows
from e2fashion.types import E2FashionError


def main(arguments: list[str] | None = None) -> None:
    """Write one PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run or model folder with selection tokens")
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("output", type=Path, help="the PNG to write")
    parser.add_argument(
        "--compare", "--beside", help="a run, model folder or hub name of a CLIP whose attention is shown"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--block", type=int, default=-1, help="a fusion block, 0 for the first; default: the last")
    parser.add_argument("--products", type=int, default=48, help="random ones, the same every time")
    parser.add_argument("--across", type=int, default=2, help="products in a line")
    options = parser.parse_args(arguments)
    try:
        encoder = load_encoder(options.model)
        if not (encoder.entities and encoder.fusion_layers):
            raise E2FashionError(f"'{options.model}' has no selection tokens: give an E2, and a CLIP with --compare.")
        other = load_encoder(options.compare) if options.compare else None
        catalogue = Catalogue.load(options.catalogue)
        rows = selection_rows(encoder, catalogue, options.split, options.products, other, options.block)
        title = f"{encoder.name}: patches selected per entity, products of {catalogue.path.name}/{options.split}"
        heading = f"attention of\n{other.name}" if other else ""
        draw_selection(rows, encoder.entities, options.output, title, heading, options.across, cell=1.35)
    except E2FashionError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
