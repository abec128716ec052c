"""The words of ``docs/configuration.md`` about the keys of what trains several runs."""

from __future__ import annotations

from e2fashion.schema import (
    AblationConfig,
    CompareConfig,
)

SECTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "compare",
        CompareConfig,
        "`e2fashion compare <baseline.yaml> <config.yaml> ... key=value ...`; every other key goes to every run.",
    ),
    (
        "ablate",
        AblationConfig,
        """`e2fashion ablate <ablation.yaml> key=value ... [--dry-run] [--only ROW] [--jobs N]`.

Every other key goes to the base, and so to every row: `train.precision=fp32`.""",
    ),
)

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    CompareConfig: {
        "data": ("A prepared catalogue", "-"),
        "output": ("Folder of the report; each run gets a folder in it", "ours"),
        "split": ("Split that the report is about", "ours"),
        "gallery_products": ("Rows of each figure", "ours"),
    },
    AblationConfig: {
        "data": ("A prepared catalogue", "-"),
        "base": ("Run configuration that the rows change; relative to the file that names it", "-"),
        "rows": ("What each row changes: dotted keys of a run and their values; `{}` is the base itself", "-"),
        "seeds": ("Each row is trained once with each", "ours"),
        "baseline": ("Row that the others are compared with; null: no differences", "ours"),
        "optional": ("Rows that are left out, and listed, where the base lacks what they remove or change", "ours"),
        "split": ("Splits that every run is evaluated on, separated by commas", "ours"),
        "name": ("What the report is called; null: the file's name", "ours"),
        "output": ("Folder of the report and of the runs, `<row>/seed<k>`", "ours"),
        "reuse": ("Folders whose finished runs of the same identity are not trained again", "ours"),
    },
}
