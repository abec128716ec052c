"""Table 6: what the data sets hold: image-text pairs, brands, products, mean length of a description.

Claim: none about a model; the paper's AmazonFashion and Fashion-Gen, and any other data set.
Runs: none. Reads every row of each catalogue once.

Command::

    python -m experiments.table6_data_statistics --data fashiongen=<catalogue> --data amazon_fashion=<catalogue>
    python -m experiments.table6_data_statistics --scale small --data kagl=<catalogue>

Cost: seconds for ten thousand products, minutes for Fashion-Gen.
Deviations: counts what was prepared: rows left out in preparation do not count, and a description's length is in words
between white space (how the paper counted could not be read).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from e2fashion.data.describe import statistics_records, statistics_table
from experiments.common.command import main
from experiments.common.experiment import CATALOGUES_ALONE, DATA_SETS, Experiment, Material
from experiments.common.tables import source_notes, write_tables


def view(material: Material) -> list[Path]:
    """The table of every catalogue that was given."""
    records = [
        record
        for name, catalogue in material.catalogues.items()
        for record in statistics_records(DATA_SETS[name].title, catalogue)
    ]
    table = statistics_table(records, material.published)
    return write_tables(replace(material, records=records), {"": table}, source_notes(material.published))


EXPERIMENT = Experiment(
    name="table6_data_statistics", title="Data statistics", table="table6", recipes=CATALOGUES_ALONE, view=view
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
