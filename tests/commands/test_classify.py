"""The verbs that classify images, from the command line to the files that they write."""

from pathlib import Path

import pytest
from PIL import Image
from tiny_encoder import save_tiny_run

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.records import read_records


@pytest.fixture(scope="module")
def model(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_run(synth_catalogue, tmp_path_factory.mktemp("runs") / "mine")


def test_classify_leaves_records_a_page_and_figures(
    model: Path,
    synth_catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "brands.yaml"
    file.write_text('column: brand\ntemplates: ["a {}"]\nfeatures: global,region\nresamples: 20\n', encoding="utf-8")
    words = ["classify", str(model), str(file), f"data={synth_catalogue.path}", "--quiet"]
    assert main(words) == 0
    assert "A: `a {}` / B: of the region `{}`" in capsys.readouterr().out
    folder = tmp_path / "runs" / "classify" / "mine"
    assert len(read_records(folder / "results.jsonl")) == 6
    (page,) = (folder / "classify").glob("*_brand_test/report.md")
    assert {place.name for place in page.parent.iterdir()} == {
        "report.md",
        "predictions.csv",
        "confusion_global.png",
        "confusion_region.png",
    }
    assert main(words) == 0
    assert len(read_records(folder / "results.jsonl")) == 6


def test_tags_are_fitted_and_predicted(
    model: Path,
    synth_catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (30, 40), "navy").save("coat.png")
    assert main(["tags", "fit", str(model), f"data={synth_catalogue.path}", "resamples=20", "--quiet"]) == 0
    file = tmp_path / "runs" / "tags" / "mine" / "tags.json"
    assert file.is_file()
    capsys.readouterr()
    predict = ["tags", "predict", str(model), "coat.png", f"file={file}"]
    assert main(predict) == 0
    assert "brand: (not sure; nearest: " in capsys.readouterr().out
    assert main([*predict, "threshold=0", "output=tags.csv"]) == 0
    assert "not sure" not in capsys.readouterr().out
    assert Path("tags.csv").read_text(encoding="utf-8").splitlines()[1].startswith("coat.png,brand,")
    Path("photos/new").mkdir(parents=True)
    for name in ("photos/a.png", "photos/new/b.png"):
        Image.new("RGB", (30, 40), "navy").save(name)
    assert main(["tags", "predict", str(model), "photos", "coat.png", f"file={file}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert lines == ["photos/a.png", "photos/new/b.png", "coat.png"]
    Path("photos/broken.png").write_bytes(b"no image")
    predict = ["tags", "predict", str(model), "photos", f"file={file}", "batch_size=1", "output=tags.csv"]
    assert main(predict) == 1
    assert "photos/broken.png" in (said := capsys.readouterr().err)
    assert said.endswith("; or leave such images out with on_error=skip.\n")
    assert main([*predict, "on_error=skip"]) == 0
    *_, counted, reason = capsys.readouterr().out.splitlines()
    assert counted == "1 of 3 images were skipped:"
    assert "photos/broken.png" in reason
    rows = Path("tags.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"photos/a.png", "photos/new/b.png"}
    assert main(["tags", "predict", str(model), "photos/broken.png", f"file={file}", "on_error=skip"]) == 1
    assert "none of the 1 images can be read" in capsys.readouterr().err
    Path("empty").mkdir()
    assert main(["tags", "predict", str(model), "empty", f"file={file}"]) == 1
    assert "the folder 'empty' holds no image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "column=brand"], "Give the model (Run folder"),
        (["classify", "MODEL", "column=brand", "templates=['photo']"], "the template 'photo' has no slot"),
        (["classify", "MODEL", "column=brand", "benchmark=F1 KAGL"], "belong together: give both, or neither"),
        (["classify", "MODEL", "column=brand", "benchmark=F1", "published=experiments/published.yaml"], "F1 FMNIST"),
        (["tags", "predict", "MODEL"], "Give the images (Images whose tags are predicted"),
        (["tags", "predict", "MODEL", "nowhere.jpg"], "tags.json: thresholds are chosen on val"),
        (["tags", "fit", "MODEL", "split=val"], "on which the thresholds are chosen"),
    ],
)
def test_mistakes_are_explained(
    model: Path, synth_catalogue: Catalogue, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(model) if word == "MODEL" else word for word in words]
    data = [] if words[:2] == ["tags", "predict"] else [f"data={synth_catalogue.path}"]
    assert main([*given, *data, "--quiet"]) == 1
    assert message in capsys.readouterr().err
