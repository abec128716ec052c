"""Runs side by side in one report."""

from pathlib import Path

import pytest
from tiny import TINY

from e2fashion.ablation.config import load_comparison
from e2fashion.ablation.run import compare
from e2fashion.data.catalogue import Catalogue
from e2fashion.types import E2FashionError


def test_runs_are_compared_in_one_report(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    overrides = [f"data={synth_catalogue.path}", f"output={tmp_path / 'compare'}", "gallery_products=2"]
    lines = [f"  {line}" for line in ("epochs: 1", "learning_rate: 0.01")]
    base = "\n".join(["train:", " stages:", "  main:", *[f"  {line}" for line in lines]])
    files = []
    for name, entities in (("baseline", "{}"), ("regional", "{brand: {}}")):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(f"name: {name}\nmodel: {{entities: {entities}}}\n{base}\n", encoding="utf-8")
    tiny = [word for word in TINY if not word.startswith(("model.entities", "train.stages"))]
    records = compare(*load_comparison(files, [*overrides, *tiny]), progress=False)
    report = (tmp_path / "compare/report.md").read_text(encoding="utf-8")
    assert "# baseline against regional" in report
    assert "| run | parameters | added by E2 |" in report
    assert "| 0.00 M, + 0.0 % |" in report.partition("| baseline |")[2].splitlines()[0]
    assert {path.name for path in (tmp_path / "compare/figures").iterdir()} == {
        "retrieved.png",
        "selected_regional.png",
    }
    before = (tmp_path / "compare/regional/results.jsonl").read_bytes()
    assert compare(*load_comparison(files, [*overrides, *tiny]), progress=False) == records
    assert (tmp_path / "compare/report.md").read_text(encoding="utf-8") == report
    assert (tmp_path / "compare/regional/results.jsonl").read_bytes() == before


def test_two_runs_of_one_name_are_not_compared(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\n", encoding="utf-8")
    with pytest.raises(E2FashionError, match="Two configurations are named 'a'"):
        load_comparison([file, file], [f"data={synth_catalogue.path}", *TINY])


def test_every_file_is_read_before_the_first_run_is_trained(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\n", encoding="utf-8")
    with pytest.raises(E2FashionError, match=r"gone\.yaml' does not exist"):
        load_comparison(
            [file, tmp_path / "gone.yaml"], [f"data={synth_catalogue.path}", f"output={tmp_path / 'o'}", *TINY]
        )
    assert not (tmp_path / "o").exists()
