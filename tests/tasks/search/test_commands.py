"""The verbs of indexes and search, from arguments to printed tables, records and figures."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_encoder import build_tiny_encoder, save_tiny_run

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.records import read_records
from e2fashion.tables import to_markdown
from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import IndexEvaluateConfig, SearchConfig
from e2fashion.tasks.search.index import ProductIndex, open_index, search
from e2fashion.tasks.search.measure import measure_search, search_tables
from e2fashion.types import E2FashionError


@pytest.fixture(scope="module")
def workspace(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in ``mine/model`` and an index ``index`` of val, as commands make them."""
    folder = tmp_path_factory.mktemp("search")
    save_tiny_run(synth_catalogue, folder / "mine")
    args = [f"model={folder / 'mine'}", f"output={folder / 'index'}", "split=val", "accelerator=cpu", "--quiet"]
    assert main(["index", "build", str(synth_catalogue.path), *args]) == 0
    return folder


@pytest.fixture
def index(workspace: Path) -> ProductIndex:
    return open_index(workspace / "index", load_encoder(str(workspace / "mine")))


def run(capsys: pytest.CaptureFixture[str], *args: str, fails: bool = False) -> str:
    assert main([*args]) == int(fails)
    said = capsys.readouterr()
    return said.err if fails else said.out


def test_search_prints_a_table_and_draws_a_sheet(
    workspace: Path, index: ProductIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    brand = next(value for value in index.snapshot().column("brand") if value)
    sheet = workspace / "sheet.png"
    said = run(capsys, "search", str(index.path), "text=a coat", f"where.brand={brand}", "top=3", f"figure={sheet}")
    lines = said.splitlines()
    assert lines[0] == f"'a coat' where brand {brand} among {len(index)} products of {index.path} (exact)"
    assert lines[2].split() == ["score", "product", "description", "tags"]
    expected = index.search("a coat", where={"brand": brand}, top=3)
    result = search(SearchConfig(index=str(index.path), text="a coat", where={"brand": brand}, top=3))
    assert (result.hits, result.products, result.method) == (expected, len(index), "exact")
    image = expected[0].image()
    same = search(SearchConfig(top=1), index, image)
    assert same.hits == search(SearchConfig(top=1), index, np.array(image)).hits
    assert same.hits[0].product_id == expected[0].product_id
    found = lines[3 : 3 + len(expected)]
    assert [line.split()[2] for line in found] == [hit.product_id for hit in expected]
    assert all(brand in line for line in found)
    with Image.open(sheet) as drawn:
        assert drawn.width > 180
    nobody = ["search", str(index.path), "text=a coat", "where.brand=Nobody"]
    assert "no product has brand 'Nobody'" not in run(capsys, *nobody)
    assert "no product has brand 'Nobody'" in run(capsys, *nobody, "strict=true", fails=True)
    said = run(capsys, "search", str(index.path), "text=a coat", f"where_not.brand={brand}", "filter=brand IS NOT NULL")
    assert said.startswith(f"'a coat' where brand not {brand}, brand IS NOT NULL among")


def test_an_index_finds_its_model_from_anywhere_and_never_on_the_hub(
    synth_catalogue: Catalogue,
    workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(workspace / "mine", shop / "runs" / "mine")
    monkeypatch.chdir(shop)
    args = ["model=runs/mine", "output=index", "split=val", "accelerator=cpu", "--quiet"]
    run(capsys, "index", "build", str(synth_catalogue.path), *args)
    monkeypatch.chdir(tmp_path)
    assert "'a coat' among" in run(capsys, "search", "shop/index", "text=a coat")
    shop.rename(tmp_path / "moved")
    assert "'a coat' among" in run(capsys, "search", "moved/index", "text=a coat")
    (tmp_path / "moved" / "runs").rename(tmp_path / "gone")
    said = run(capsys, "search", "moved/index", "text=a coat", fails=True)
    assert f"tried {shop}/runs/mine and {tmp_path}/moved/runs/mine. Give model=<folder or hub name>." in said


def test_recommend_prints_grades(workspace: Path, index: ProductIndex, capsys: pytest.CaptureFixture[str]) -> None:
    product = index.product_ids[0]
    sheet = workspace / "path.png"
    args = [f"product={product}", "text=a red coat", "steps=3", "support=3", f"figure={sheet}"]
    said = run(capsys, "recommend", str(index.path), *args)
    assert said.startswith(f"from product {product} towards 'a red coat'")
    assert sheet.is_file()


def test_an_index_changes_by_commands(
    synth_catalogue: Catalogue, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, changed = str(workspace / "mine"), str(workspace / "changed")
    args = [f"model={model}", f"output={changed}", "split=test", "commit_rows=5", "--quiet"]
    assert "split" not in run(capsys, "index", "build", str(synth_catalogue.path), *args)
    size = len(open_index(changed))
    said = run(capsys, "index", "add", changed, str(synth_catalogue.path), "split=val", "--quiet")
    assert f"{size + synth_catalogue.manifest.splits['val']['products']} products" in said
    run(capsys, "index", "sync", changed, str(synth_catalogue.path), "split=val", "--quiet")
    first, second, third = open_index(changed).product_ids[:3]
    (workspace / "ids.txt").write_text(f"{third}\n", encoding="utf-8")
    said = run(capsys, "index", "remove", changed, f"ids={first},{second}", f"file={workspace / 'ids.txt'}")
    assert ", changed since" in said
    assert run(capsys, "index", "describe", changed) == said
    run(capsys, "index", "compact", changed)
    assert run(capsys, "index", "upgrade", changed).splitlines()[1:] == said.splitlines()[1:]
    assert "tags: " in said
    assert run(capsys, "index", "remove", changed, "ids=x1")
    assert "does not exist: give a text file" in run(capsys, "index", "remove", changed, "file=nowhere", fails=True)
    assert "Give the source (A catalogue, a folder of images" in run(capsys, "index", "add", changed, fails=True)


def test_a_model_elsewhere_is_the_same_one(
    workspace: Path, tmp_path: Path, synth_catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its fingerprint is of what it computes, not of where it lies."""
    save_tiny_run(synth_catalogue, tmp_path / "moved")
    run(capsys, "search", str(workspace / "index"), "text=a coat", f"model={tmp_path / 'moved'}")
    other = build_tiny_encoder(synth_catalogue)
    with torch.no_grad():
        other.model.visual_projection.weight.mul_(2)
    with pytest.raises(E2FashionError, match=r"was built with 'mine' .* not with 'tiny'"):
        open_index(workspace / "index", other)


def test_search_is_measured(workspace: Path, index: ProductIndex, capsys: pytest.CaptureFixture[str]) -> None:
    output = workspace / "results.jsonl"
    args = ["columns=sub_category", "min_products=2", "resamples=20", f"output={output}"]
    said = run(capsys, "index", "evaluate", str(index.path), *args)
    records = read_records(output)
    assert {record.task for record in records} == {"search"}
    assert len(records) == 8 + 7
    assert "| mine | " in said
    assert "right is any product of the value" in said
    by_hand = [hits[0] for hits in index.retrieval(_values(index), top=1)]
    snapshot = index.snapshot()
    categories = snapshot.column("sub_category")
    right = [categories[snapshot.product(name)] for name in by_hand]
    expected = 100 * sum(a == b for a, b in zip(right, _values(index), strict=True)) / len(right)
    found = next(record for record in records if record.metric == "P@1")
    assert found.value == pytest.approx(expected)
    assert found.queries == len(right)
    assert next(table for table in search_tables(records) if "P@1" in table.header).rows
    run(capsys, "report", str(output))


@pytest.mark.parametrize("views", ["best", "mean", "first"])
def test_what_is_measured_is_what_a_search_with_these_views_finds(index: ProductIndex, views: Any) -> None:
    config = IndexEvaluateConfig(columns=["sub_category"], min_products=2, views=views, resamples=2)
    records = measure_search(index, config)
    assert {record.extra.get("views", "first") for record in records} == {views}
    snapshot = index.snapshot()
    assert len(snapshot.row_ids) == 2 * len(index)
    brands, categories = snapshot.column("brand"), snapshot.column("sub_category")
    template = index.checked_encoder().template
    texts = [
        template.render({"brand": brand}, description)
        for brand, description in zip(brands, snapshot.column("description"), strict=True)
    ]

    def measured(texts: list[str], right_of: list[set[str]]) -> dict[str, float]:
        ranks = []
        for text, right in zip(texts, right_of, strict=True):
            hits = index.search(text, views=views, top=len(index))
            best = max(hit.score for hit in hits if hit.product_id in right)
            ranks.append(1 + sum(hit.score >= best and hit.product_id not in right for hit in hits))
        shares = {f"hits@{k}": 100 * np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)}
        return shares | {"MRR": np.mean([1 / rank for rank in ranks])}

    named = {
        value: {id for id, other in zip(index.product_ids, categories, strict=True) if other == value}
        for value in _values(index)
    }
    by_kind = {
        "product": measured(texts, [{product} for product in index.product_ids]),
        "sub_category": measured(list(named), list(named.values())),
    }
    for kind, expected in by_kind.items():
        found = {one.metric: one.value for one in records if one.positives == kind and not one.metric.startswith("P@")}
        assert found == pytest.approx(expected)
    tables = search_tables([*records, *measure_search(index, IndexEvaluateConfig(resamples=2, views="mean"))])
    assert len(tables) == (5 if views != "mean" else 3), "views share no cell"


def _values(index: ProductIndex) -> list[str]:
    values = [value for value in index.snapshot().column("sub_category") if value]
    return sorted(value for value in set(values) if values.count(value) >= 2)


def test_what_cannot_be_measured(index: ProductIndex, workspace: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(workspace / "mine"))
    with pytest.raises(E2FashionError, match="has no tag 'colours': "):
        measure_search(index, IndexEvaluateConfig(columns=["colours"]))
    with pytest.raises(E2FashionError, match="no value of 'brand' has 999 products"):
        measure_search(index, IndexEvaluateConfig(columns=["brand"], min_products=999, resamples=2))
    with pytest.raises(E2FashionError, match="the template 'a photo' has no slot"):
        measure_search(index, IndexEvaluateConfig(template="a photo"))
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    files = build_index(encoder, tmp_path, tmp_path / "index", progress=False)
    assert measure_search(files, IndexEvaluateConfig(resamples=2)) == []
    assert to_markdown(search_tables(measure_search(index, IndexEvaluateConfig(resamples=2)))[0])
