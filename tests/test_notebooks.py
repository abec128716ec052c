"""Every notebook runs from its first cell to its last, and is kept without outputs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def test_there_is_a_notebook() -> None:
    assert [file.name for file in NOTEBOOKS if file.name.startswith("01_")]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_kept_without_outputs(file: Path) -> None:
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count is not None]


#: What a reader waits for and a test need not.
SHORTER = {
    "01_quickstart": ("main.epochs=12", "main.epochs=2"),
    "02_ablations": ("seeds=[0,1]", "seeds=[0]"),
}


def shortened(file: Path) -> Any:
    """A notebook that trains less."""
    notebook = nbformat.read(file, as_version=4)
    if file.stem in SHORTER:
        before, after = SHORTER[file.stem]
        (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and before in cell.source]
        cell.source = cell.source.replace(before, after)
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = shortened(file)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(file.parent)}}).execute()
    shown = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert "image/png" in shown
