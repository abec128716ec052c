"""``data check`` from the command line to its report and its exit code."""

import json
from pathlib import Path

import pytest
from PIL import Image

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import build_source
from e2fashion.data.prepare import prepare_catalogue


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three products a split; one of test has the image of one of train."""
    folder = tmp_path_factory.mktemp("shop")
    lines = ["product_id,image,description,split,brand"]
    for number in range(9):
        colour = (28 * number, 255 - 20 * number, 90)
        picture = Image.linear_gradient("L").rotate(40 * number).resize((40, 40)).convert("RGB")
        Image.blend(picture, Image.new("RGB", (40, 40), colour), 0.5).save(folder / f"{number}.png")
        shown = 0 if number == 8 else number
        lines.append(f"p{number},{shown}.png,garment number {number},{('train', 'val', 'test')[number // 3]},Acme")
    (folder / "products.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = build_source("folder", {"path": str(folder / "products.csv"), "tags": {"brand": "brand"}})
    return prepare_catalogue(source, folder / "leaking", progress=False).path


def test_the_report_and_the_exit_code(
    leaking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", str(leaking), "--quiet"]) == 3
    printed = capsys.readouterr().out
    assert "leak   equal_images_across: 2 products share 1 image across splits" in printed
    assert "worst finding: leak; report: runs/check/leaking/report.md" in printed
    folder = tmp_path / "runs" / "check" / "leaking"
    assert {place.name for place in folder.iterdir()} == {"report.md", "report.json", "rows", "figures"}
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert (content["worst"], content["fail_on"]) == ("leak", "leak")
    by_name = {finding["check"]: finding for finding in content["findings"]}
    assert by_name["equal_images_across"]["count"] == 1
    assert by_name["long_texts"] | {"summary": ""} == {
        "check": "long_texts",
        "severity": "fit",
        "count": 0,
        "unit": "texts",
        "summary": "",
        "remedy": None,
        "rows": None,
    }
    rows = (folder / by_name["equal_images_across"]["rows"]).read_text(encoding="utf-8").splitlines()
    assert rows == [
        "group,split,product_id,view,description",
        "1,test,p8,0,garment number 8",
        "1,train,p0,0,garment number 0",
    ]
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "| Identical images across splits | **leak** | 1 group |" in page
    assert "![Identical images across splits](figures/equal_images_across.png)" in page
    assert Image.open(folder / "figures" / "equal_images_across.png").width > 300


@pytest.mark.parametrize(("fail_on", "code"), [("look", 3), ("broken", 0), ("never", 0)])
def test_what_is_too_grave_is_the_user_s_to_say(fail_on: str, code: int, leaking: Path, tmp_path: Path) -> None:
    file = tmp_path / "check.yaml"
    file.write_text(f"fail_on: {fail_on}\nshown: 2\n", encoding="utf-8")
    words = [str(file), f"data={leaking}", f"output={tmp_path / 'report'}", "--quiet"]
    assert main(["data", "check", *words]) == code


def test_pairs_of_two_catalogues_stand_side_by_side(leaking: Path, tmp_path: Path) -> None:
    words = [str(leaking), f"against={leaking}", f"output={tmp_path / 'report'}", "--quiet"]
    assert main(["data", "check", *words]) == 3
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "Of val and test, 1 product with identical or near-identical images in train of leaking." in page
    assert (tmp_path / "report" / "figures" / "against_images.png").is_file()


def test_drawn_products_do_not_leak(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    words = [str(synth_catalogue.path), f"output={tmp_path / 'report'}", "context_length=9", "--quiet"]
    assert main(["data", "check", *words, "fail_on=broken"]) == 0
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "## Texts cut at the context length: look" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give the data (A prepared catalogue)"),
        (["gone"], "gone is not a catalogue"),
        (["one", "two"], "data check takes data and at most one configuration file; got one, two"),
        (["CATALOGUE", "fail_on=leek"], "leek"),
        (["CATALOGUE", "template={maker}"], "the field '{maker}', which the catalogue lacks"),
        (["CATALOGUE", "near_text=2"], "near_text is 2.0; give a number above 0"),
    ],
)
def test_mistakes_are_errors_and_not_findings(
    words: list[str], message: str, leaking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(leaking) if word == "CATALOGUE" else word for word in words]
    assert main(["data", "check", *given, "--quiet"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.real_data
def test_real_products_are_checked(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "fashion-product-images-1k-hires"
    source = build_source("kagl", {"path": str(folder)})
    catalogue = prepare_catalogue(source, tmp_path / "kagl", progress=False)
    assert main(["data", "check", str(catalogue.path), f"output={tmp_path / 'report'}", "--quiet"]) in (0, 3)
    content = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert {one["check"]: one["count"] for one in content["findings"]}["equal_texts_across"] == 0
