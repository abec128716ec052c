"""Draw a contact sheet of SynthFashion: ``python scripts/synthfashion_sheet.py sheet.png --boxes``."""

from __future__ import annotations

import argparse
from pathlib import Path

from e2fashion.data.sources.synthetic import contact_sheet, generate


def main() -> None:
    """Render products and write them into one PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the PNG to write")
    parser.add_argument("--products", type=int, default=48)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--size", type=int, default=128, help="pixels per image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--zoom", type=int, default=1)
    parser.add_argument("--detail-scale", type=float, default=1.0, help="size of logos and trims (default: 1)")
    parser.add_argument("--boxes", action="store_true", help="draw the true boxes of the tags")
    options = parser.parse_args()
    rows = generate(options.products, options.views, options.size, options.seed, detail_scale=options.detail_scale)
    contact_sheet(rows, options.columns, options.zoom, options.boxes).save(options.output)


if __name__ == "__main__":
    main()
