"""Every notebook runs from its first cell to its last, and is kept without outputs."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from forked import Forked

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_kept_without_outputs(file: Path) -> None:
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count is not None]


#: What a reader waits for and a test need not.
SHORTER = {
    "01_reproduce_and_ablate": {
        "seeds: [0, 1]": "seeds: [0]",
        "main.epochs=2": "main.epochs=1",
        '"products": 160,': '"products": 80,',
    },
    "02_catalogue_to_search": {"main.epochs=12": "main.epochs=1", "products=240,": "products=80,"},
    "03_selection_maps": {"main.epochs=2": "main.epochs=1", '"products": 120,': '"products": 60,'},
}


def shortened(file: Path) -> list[str]:
    """The code of a notebook that trains less."""
    cells = [cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    for before, after in SHORTER.get(file.stem, {}).items():
        (position,) = [number for number, cell in enumerate(cells) if before in cell]
        cells[position] = cells[position].replace(before, after)
    return cells


def run_cells(cells: Sequence[str], folder: Path) -> int:
    """Run cells in the folder of their notebook as Jupyter does, and print the kinds of their outputs."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    os.chdir(folder)
    shell = InteractiveShell.instance()
    shown = set()
    for cell in cells:
        with capture_output() as captured:
            result = shell.run_cell(cell)
        result.raise_error()
        shown |= {kind for output in captured.outputs for kind in output.data}
        if result.result is not None:
            shown |= set(shell.display_formatter.format(result.result)[0])
    print(json.dumps(sorted(shown)))
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file: Path, tmp_path: Path) -> None:
    places = {"TMPDIR": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython")}
    ended = Forked(run_cells, shortened(file), file.parent, folder=tmp_path, environment=places).wait()
    assert ended.code == 0, ended.out + ended.error
    assert "image/png" in json.loads(ended.out.splitlines()[-1])
