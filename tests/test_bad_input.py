"""Input that is refused with one clear error by commands of several tasks.

Other refusals are tested with the commands of their task.
"""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.records import read_records
from e2fashion.tasks.classification.classify import column_truth
from tests.data.fashion_iq_layout import EMPTY, write_fashion_iq
from tests.tiny_encoder import build_tiny_encoder, save_tiny_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def place(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, ``mine`` and ``other``, an ``index`` of val by the first, and a picture."""
    folder = tmp_path_factory.mktemp("bad")
    save_tiny_run(synth_catalogue, folder / "mine")
    other = build_tiny_encoder(synth_catalogue)
    with torch.no_grad():
        other.model.visual_projection.weight.mul_(2)
    other.save_pretrained(folder / "other" / "model")
    Image.new("RGB", (30, 40), "navy").save(folder / "coat.png")
    assert main(["index", "build", *build(synth_catalogue, folder, "index")]) == 0
    return folder


def build(catalogue: Catalogue, place: Path, name: str) -> list[str]:
    words = [str(catalogue.path), f"model={place / 'mine'}", f"output={place / name}", "split=val"]
    return [*words, "accelerator=cpu", "batch_size=2", "--quiet"]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["search", "INDEX", "text=a coat", "model=OTHER"], ["was built with 'mine'", "not with 'other'"]),
        (["search", "INDEX", "text="], ["'text=' has no value. Give text or null"]),
        (["search", "INDEX", "text=' '"], ["the text of the query is empty: say what to look for"]),
        (["recommend", "INDEX", "image=COAT", "text=' '"], ["the text of the query is empty"]),
        (["explain", "MINE", "COAT", "text=' '", "output=OUT.png"], ["text is empty"]),
        (["explain", "MINE", "COAT", "text=coat||hat", "output=OUT.png"], ["text is empty"]),
    ],
    ids=lambda given: given[0] if given[0] in ("search", "recommend", "explain") else "",
)
def test_a_search_for_nothing_or_with_another_model(
    place: Path, words: list[str], messages: list[str], capsys: Capture
) -> None:
    places = {"INDEX": "index", "OTHER": "other", "MINE": "mine", "COAT": "coat.png", "OUT": "out"}
    for name, file in places.items():
        words = [word.replace(name, str(place / file)) for word in words]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error


def test_labels_that_are_equal_or_empty(place: Path, synth_catalogue: Catalogue, capsys: Capture) -> None:
    first, second = column_truth(synth_catalogue, "test", "brand").names[:2]
    for wording, message in (
        (f"{{{first}: same, {second}: same}}", "the label 'same' occurs more than once"),
        (f"{{{first}: ' '}}", "a label is empty: each class needs a name"),
    ):
        words = ["classify", str(place / "mine"), f"data={synth_catalogue.path}", "column=brand", "--quiet"]
        assert main([*words, f"wording={wording}", f"output={place / 'r.jsonl'}"]) == 1
        assert message in capsys.readouterr().err


def test_fashion_iq_s_empty_captions_are_counted_and_one_without_any_asks_for_the_same(
    place: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = write_fashion_iq(tmp_path / "iq")
    file = folder / "captions" / "cap.shirt.val.json"
    rows = json.loads(file.read_text())
    rows[1]["captions"] = ["", " "]
    file.write_text(json.dumps(rows))
    (tmp_path / "captions.txt").write_text("a red shirt\n")
    words = [str(place / "mine"), "task=fashion_iq", f"data={folder}", f"memory={tmp_path / 'captions.txt'}"]
    words += ["categories=shirt", "arms=text,slots", f"output={tmp_path / 'run'}", "resamples=2", "accelerator=cpu"]
    assert main(["compose", *words, "--quiet"]) == 0
    assert {record.extra["empty_captions"] for record in read_records(tmp_path / "run" / "results.jsonl")} == {3}
    assert "3 empty captions" in capsys.readouterr().out
    (trace,) = (tmp_path / "run").glob("*/traces/*original-shirt-slots-val.jsonl")
    asked = {row["reference"]: row for row in map(json.loads, trace.read_text().splitlines())}
    assert asked[EMPTY]["instructions"] == ["is blue and longer"]
    assert asked[rows[1]["candidate"]]["instructions"] == []
    assert asked[rows[1]["candidate"]]["searched"] == ["a red shirt"]
