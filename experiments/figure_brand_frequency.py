"""Figure: how often brands occur, both axes logarithmic: the long tail of fashion data.

Claim: most brands have few products, so a model learns little about a brand from its name alone.
Runs: none. Reads the brands of each catalogue.

Command::

    python -m experiments.figure_brand_frequency --data fashiongen=<catalogue> --data amazon_fashion=<catalogue>
    python -m experiments.figure_brand_frequency --scale small --data kagl=<catalogue> --data synthfashion=<catalogue>

Cost: seconds.
Deviations: products are counted, not images, all splits together; products of unknown brand are left out.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from e2fashion.data.describe import share_of_rare, tag_counts
from e2fashion.plots import draw_frequencies
from experiments.common.command import main
from experiments.common.experiment import CATALOGUES_ALONE, DATA_SETS, Experiment, Material


def view(material: Material) -> list[Path]:
    """The figure of every catalogue that was given, and the counts behind it."""
    counts = {DATA_SETS[name].title: tag_counts(item, "brand") for name, item in material.catalogues.items()}
    name, folder = material.experiment.name, material.output
    figure = draw_frequencies(counts, folder / f"{name}.png", "brand")
    table = folder / f"{name}.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["data set", "rank", "products"])
        writer.writerows(
            [title, rank, count] for title, products in counts.items() for rank, count in enumerate(products, 1)
        )
    for title, products in counts.items():
        print(f"{title}: {len(products):,} brands, {share_of_rare(products):.0f} % of them with fewer than 10 products")
    return [figure, table]


EXPERIMENT = Experiment(name="figure_brand_frequency", title="Brand frequency", recipes=CATALOGUES_ALONE, view=view)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
