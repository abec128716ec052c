"""Figure: the patches that E2's selection tokens read, and the attention of CLIP and of CLIP-FT.

Claim: tokens of an entity look where its tag shows (the logo, the fabric); CLS's attention is one map for everything.
Runs: CLIP (no training), CLIP-FT and E2 of table 1, the first seed.
Protocol: eight random products of test; the last fusion block; CLIP's last layer that sees patches, mean over heads.

Command::

    python -m experiments.figure_selected_patches --data fashiongen=<catalogue>
    python -m experiments.figure_selected_patches --scale small --data kagl=<catalogue>

Cost: that of table 1, whose runs it shares; drawing takes seconds.
Deviations: the paper's images are chosen, these are random. ``--scale small`` trains from scratch: its CLIP without
training attends at random. How often tokens hit the true region is measured by ``e2fashion evaluate`` on SynthFashion.
"""

from __future__ import annotations

import sys
from pathlib import Path

from e2fashion.encoder import load_encoder
from e2fashion.figures import draw_selection
from e2fashion.report import selection_rows
from experiments.common.command import main
from experiments.common.experiment import Experiment, Material

PRODUCTS = 8
ATTENTION = {"CLIP": "clip", "CLIP-FT": "clip_ft"}
"""Models whose attention is shown next to E2's patches, one figure each."""


def view(material: Material) -> list[Path]:
    """A line per product: the image, every entity's patches, and the attention of CLS in a CLIP."""
    catalogue = next(iter(material.catalogues.values()))
    encoders = {title: load_encoder(str(folders[0].model), name=title) for title, folders in material.folders.items()}
    ours, files = encoders["E2"], []
    for name, suffix in ATTENTION.items():
        rows = selection_rows(ours, catalogue, "test", PRODUCTS, encoders[name])
        file = material.output / f"{material.experiment.name}_{suffix}.png"
        draw_selection(rows, ours.entities, file, "Patches that E2's tokens read", f"attention of {name}")
        files.append(file)
    return files


EXPERIMENT = Experiment(
    name="figure_selected_patches",
    title="Selected patches and CLIP's attention",
    rows={"CLIP": "clip", "CLIP-FT": "clip_ft", "E2": "e2"},
    view=view,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
