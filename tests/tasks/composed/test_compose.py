"""``e2fashion compose`` from the command line: another color of a line, FashionIQ, and errors of both."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from e2fashion.__main__ import main
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.features import extract_features
from e2fashion.options import identity_values
from e2fashion.records import read_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.captioning.captioner import load_captioner
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.tasks.composed.sources import pad_to_aspect
from e2fashion.tasks.retrieval.rankings import load_rankings
from e2fashion.types import E2FashionError, ResultRecord
from tests.data.fashion_iq_layout import MISSING, write_fashion_iq
from tests.tiny_encoder import SETTINGS, build_tiny_encoder, save_tiny_run

#: SynthFashion has no colors: its seasons are used instead.
LINES = [
    "line_columns=sub_category",
    "line_name=false",
    "colour_column=season",
    "instruction='for {}'",
    "resamples=20",
    "accelerator=cpu",
]


@pytest.fixture(scope="module")
def models(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A random encoder, and one of other weights."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_run(synth_catalogue, folder / "one")
    other = build_tiny_encoder(synth_catalogue)
    with torch.no_grad():
        other.model.visual_projection.weight.mul_(torch.randn(16, 1))
    other.save_pretrained(folder / "two" / "model")
    return [str(folder / name / "model") for name in ("one", "two")]


@pytest.fixture(scope="module")
def measured(models: list[str], synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("composed") / "run"
    words = [*models, f"data={synth_catalogue.path}", "name=one,two", f"output={folder}", *LINES]
    assert main(["compose", *words, "--quiet"]) == 0
    return RunFolder(folder)


def test_both_models_are_measured_and_compared(measured: RunFolder) -> None:
    records = read_records(measured.results)
    single = [record for record in records if record.task == "composed_retrieval"]
    assert len(single) == 2 * 5 * 4
    assert {record.extra["arm"] for record in single} == {"image", "text", "sum", "concat", "slots"}
    assert all(record.low is not None and record.low <= record.value <= (record.high or 0) for record in single)
    assert all(0 <= record.extra["weight"] <= 1 for record in single if record.extra["arm"] == "sum")
    differences = [record for record in records if record.task == "composed_retrieval_difference"]
    assert len(differences) == 5 * 4
    values = {(record.model, record.extra["arm"], record.metric): record.value for record in single}
    for record in differences:
        metric, mode = record.metric.partition(" - ")[0], record.extra["arm"]
        assert record.value == pytest.approx(values["two", mode, metric] - values["one", mode, metric])
    report = measured.report.read_text(encoding="utf-8")
    assert "CIReVL-style (rule composer)" in report
    assert "Difference to one" in report
    assert load_config(ComposeConfig, measured.config, []).name == ["one", "two"]


def test_every_query_has_a_trace_and_the_figure_is_drawn(measured: RunFolder) -> None:
    lines = (measured.path / "one" / "traces" / "other_colour-all-slots-test.jsonl").read_text().splitlines()
    records = read_records(measured.results)
    assert len(lines) == records[0].queries
    first = json.loads(lines[0])
    assert first["instructions"][0].startswith("for ")
    assert first["caption"]
    assert first["reference"] != first["found"][0] or not first["hits"][0]
    with Image.open(next(measured.figures.glob("*.png"))) as figure:
        assert figure.width > 600


def test_the_same_command_measures_nothing_again(
    measured: RunFolder, models: list[str], synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_records(measured.results)

    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("e2fashion.tasks.composed.compose.measure_composed", fail)
    words = [*models, f"data={synth_catalogue.path}", "name=one,two", f"output={measured.path}", *LINES]
    assert main(["compose", *words, "--quiet"]) == 0
    assert read_records(measured.results) == before


def test_damaged_ranks_and_traces_are_measured_again(
    measured: RunFolder, models: list[str], synth_catalogue: Catalogue
) -> None:
    before = read_records(measured.results)
    folder = measured.path / "one"
    traces = folder / "traces" / "other_colour-all-slots-test.jsonl"
    (ranks,) = (folder / "rankings").glob("*-image-*")
    whole, known = (traces.read_bytes(), ranks.read_bytes()), load_rankings(ranks)[0][0].ranks
    traces.write_bytes(whole[0].replace(b'"rank": 1', b'"rank": 2', 1))
    ranks.write_bytes(whole[1][:-3])
    words = [*models, f"data={synth_catalogue.path}", "name=one,two", f"output={measured.path}", *LINES]
    assert main(["compose", *words, "--quiet"]) == 0
    assert traces.read_bytes() == whole[0]
    assert torch.equal(load_rankings(ranks)[0][0].ranks, known)

    def values(records: list[ResultRecord]) -> set[tuple[str, str, str, float]]:
        return {(item.model, item.extra["arm"], item.metric, item.value) for item in records}

    assert values(read_records(measured.results)) == values(before)


#: As an earlier version wrote it, with lists as texts and the modes as arms.
EARLIER = """model: runs/one,runs/two
data: catalogues/mine
arms: image,sum
name: one,two
decoder: null
line_columns: brand,group
categories: dress
galleries: original,val
figure_arms: ''
"""


def test_a_configuration_of_an_earlier_version_is_read_and_identifies_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EARLIER)
    config = load_config(ComposeConfig, tmp_path / "config.yaml")
    assert (config.model, config.modes, config.name) == (["runs/one", "runs/two"], ["image", "sum"], ["one", "two"])
    assert (config.line_columns, config.categories, config.figure_modes) == (["brand", "group"], ["dress"], [])
    values = identity_values(config)
    written = {key: values[key] for key in ("arms", "line_columns", "categories", "galleries", "figure_arms")}
    assert list(written.values()) == ["image,sum", "brand,group", "dress", "original,val", ""]


@pytest.fixture(scope="module")
def fashion_iq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fashion_iq(tmp_path_factory.mktemp("iq") / "fashion-iq")


def test_fashion_iq_under_both_galleries(
    fashion_iq: Path, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = tmp_path / "captions.txt"
    memory.write_text("a red dress with stripes\na black shirt\n")
    file = Path("configs") / "compose" / "fashion_iq.yaml"
    words = [str(file), models[0], f"data={fashion_iq}", f"memory={memory}", f"output={tmp_path / 'run'}"]
    assert main(["compose", *words, "resamples=20", "accelerator=cpu", "--quiet"]) == 0
    records = read_records(tmp_path / "run" / "results.jsonl")
    assert {(record.protocol, record.direction) for record in records} == {
        (f"fashion_iq_{gallery}", category)
        for gallery in ("original", "val")
        for category in ("dress", "shirt", "toptee", "mean")
    }
    dress = next(r for r in records if (r.protocol, r.direction) == ("fashion_iq_original", "dress"))
    assert (dress.queries, dress.candidates) == (2, 5)
    assert (dress.extra["triplets"], dress.extra["triplets_left_out"]) == (6, 4)
    assert dress.extra["candidates_without_picture"] == len(MISSING)
    shirt = next(r for r in records if (r.protocol, r.direction) == ("fashion_iq_original", "shirt"))
    assert (shirt.queries, shirt.extra["empty_captions"]) == (6, 1)
    of_mode = {r.direction: r.value for r in records if r.extra["arm"] == "slots" and r.metric == "R@1"}
    assert of_mode["mean"] == pytest.approx((of_mode["dress"] + of_mode["shirt"] + of_mode["toptee"]) / 3)
    assert (tmp_path / "run" / "missing_images.txt").read_text().split() == list(MISSING)
    assert "3 images are missing" in capsys.readouterr().out


def test_answers_of_a_language_model_are_asked_for_in_a_file(
    fashion_iq: Path, models: list[str], tmp_path: Path
) -> None:
    (tmp_path / "captions.txt").write_text("a red dress\n")
    (tmp_path / "answers.json").write_text(json.dumps({"format": 1, "model": "by hand", "answers": {}}))
    words = [models[0], "task=fashion_iq", f"data={fashion_iq}", f"memory={tmp_path / 'captions.txt'}", "modes=llm"]
    words += [f"answers={tmp_path / 'answers.json'}", f"output={tmp_path / 'run'}", "categories=toptee", "weight=0.5"]
    assert main(["compose", *words, "resamples=20", "accelerator=cpu", "--quiet"]) == 0
    records = read_records(tmp_path / "run" / "results.jsonl")
    assert {record.extra["fallbacks"] for record in records} == {6}
    unanswered = json.loads((tmp_path / "run" / "unanswered.json").read_text())["answers"]
    assert {entry["answer"] for entry in unanswered.values()} == {""}
    assert all(entry["caption"] == "a red dress" for entry in unanswered.values())


def test_a_decoder_captions_the_references(models: list[str], synth_catalogue: Catalogue, tmp_path: Path) -> None:
    decoder, run = tmp_path / "decoder", tmp_path / "run"
    data = f"data={synth_catalogue.path}"
    small = ["model={layers: 1, heads: 2, width: 16}", "train={epochs: 1, batch_size: 16, learning_rate: 0.01}"]
    words = [data, f"encoder={models[0]}", f"output={decoder}", "length=8", "accelerator=cpu", *small]
    assert main(["caption", "train", "configs/caption/decap_small.yaml", *words, "--quiet"]) == 0
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"format": 1, "model": "by hand", "answers": {}}))
    words = [models[0], data, *LINES, f"decoder={decoder}", f"answers={answers}", f"output={run}", "figure_queries=0"]
    assert main(["compose", *words, "arms=slots,llm", "--quiet"]) == 0
    records = read_records(run / "results.jsonl")
    assert {record.extra["captioner"] for record in records} == {"project by the decoder decoder"}
    encoder = load_encoder(models[0])
    features = extract_features(encoder, synth_catalogue, "test", progress=False)
    generated = load_captioner(decoder, encoder, "project").caption(features.image)
    for mode in ("slots", "llm"):
        (file,) = run.glob(f"*/traces/other_colour-all-{mode}-test.jsonl")
        traces = [json.loads(line) for line in file.read_text().splitlines()]
        captions = dict(zip(features.product_ids, generated, strict=True))
        assert [trace["caption"] for trace in traces] == [captions[trace["reference"]] for trace in traces]
    unanswered = json.loads((run / "unanswered.json").read_text())["answers"]
    assert {entry["caption"] for entry in unanswered.values()} == {trace["caption"] for trace in traces}


def test_regions_join_the_score_of_every_mode(models: list[str], synth_catalogue: Catalogue, tmp_path: Path) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    encoder.model.config.region_score_weight = 3.0
    encoder.save_pretrained(tmp_path / "model")
    train = synth_catalogue.split("train").select_columns(["brand", "description"]).to_dict()
    named = next(filter(None, train["brand"]))
    words = [str(tmp_path / "model"), models[0], "name=regions,none", f"data={synth_catalogue.path}"]
    words += [word.replace("for {}", f"{named} for {{}}") for word in LINES]
    words += ["modes=image,text,slots", f"output={tmp_path / 'run'}"]
    assert main(["compose", *words, "figure_queries=0", "similarity=global+regions", "--quiet"]) == 0
    records = read_records(tmp_path / "run" / "results.jsonl")
    assert {(r.model, r.extra["region_score_weight"]) for r in records if r.task == "composed_retrieval"} == {
        ("regions", 3.0),
        ("none", 0.0),  # it has regions, but no stored weight
    }
    features = extract_features(encoder, synth_catalogue, "test", progress=False)
    rows = {name: row for row, name in enumerate(features.product_ids)}
    region = features.regions["brand"]

    def traces(mode: str) -> list[dict[str, Any]]:
        file = tmp_path / "run" / "regions" / "traces" / f"other_colour-all-{mode}-test.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def of_text(text: str, brand: str | None, images: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        scores = images @ encoder.embed_texts([text])[0]
        return scores + 3.0 * (regions @ encoder.embed_tags([brand])[0]) if brand else scores

    for trace in traces("text"):
        best = of_text(trace["searched"][0], named, features.image, region).argmax()
        assert trace["found"][0] == features.product_ids[best]
    for trace in traces("image"):
        row = rows[trace["reference"]]
        scores = features.image @ features.image[row] + 3.0 * (region @ region[row])
        assert trace["found"][0] == features.product_ids[scores.argmax()]
    train = synth_catalogue.split("train").select_columns(["brand", "description"]).to_dict()
    texts = [
        encoder.template.render({"brand": b}, d) for b, d in zip(train["brand"], train["description"], strict=True)
    ]
    for trace in traces("slots")[:3]:
        row = rows[trace["reference"]]
        scores = [
            float(of_text(text, brand, features.image[row][None], region[row][None]))
            for text, brand in zip(texts, train["brand"], strict=True)
        ]
        assert trace["caption"] == texts[max(range(len(texts)), key=scores.__getitem__)]


def test_what_cannot_be_done_is_one_clear_error(
    fashion_iq: Path,
    models: list[str],
    synth_catalogue: Catalogue,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = shutil.copytree(fashion_iq, tmp_path / "empty")
    for file in (empty / "images").iterdir():
        file.unlink()
    iq = ["task=fashion_iq", f"data={fashion_iq}"]
    lines = [f"data={synth_catalogue.path}", *LINES]
    for words, message in (
        ([*lines, "modes=image,both"], "key 'modes[1]': Invalid value 'both'"),
        ([*lines, "modes=,"], "modes is empty: name at least one"),
        ([*lines, "modes=llm"], "needs a language model: lm="),
        ([*lines, "modes=llm", f"lm={tmp_path}/nowhere"], "cannot be loaded"),
        ([f"data={synth_catalogue.path}"], "no column 'colour'"),
        ([*lines, "modes=sum", "weights=[2.0]"], "from 0 to 1"),
        ([*iq, "modes=slots"], "there are none: name texts to caption them from with memory="),
        ([*iq, "modes=image", "similarity=global+regions"], "texts of task=fashion_iq name no tags of a catalogue"),
        ([*iq, "categories=shoes"], "key 'categories[0]': Invalid value 'shoes'"),
        ([*iq, "galleries=all"], "key 'galleries[0]': Invalid value 'all'"),
        ([*iq, f"images={tmp_path}/nowhere"], "images are missing"),
        (["task=fashion_iq", f"data={empty}"], "none of 6 triplets has both of its images"),
        ([*lines, "modes=slots", f"decoder={tmp_path}/nowhere"], "nowhere"),
        ([*lines, "name=one,two"], "name has 2 parts for 1 models"),
    ):
        assert main(["compose", models[0], f"output={tmp_path / 'run'}", "--quiet", *words]) == 1, words
        assert message in capsys.readouterr().err, words
    assert main(["compose", "data=catalogues/mine"]) == 1
    assert "Give the model (Run folders" in capsys.readouterr().err


def test_an_encoder_of_tokens_is_refused(
    synth_catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    settings = [word for word in SETTINGS if "entities" not in word and "fusion" not in word]
    build_tiny_encoder(synth_catalogue, [*settings, "model.similarity=tokens"]).save_pretrained(tmp_path / "filip")
    words = [str(tmp_path / "filip"), f"data={synth_catalogue.path}", *LINES, f"output={tmp_path / 'run'}"]
    assert main(["compose", *words, "--quiet"]) == 1
    assert "compares tokens (FILIP)" in capsys.readouterr().err


def test_long_images_are_padded_and_others_are_not() -> None:
    assert pad_to_aspect(Image.new("RGB", (100, 200), "white"), 1.25).size == (160, 200)
    assert pad_to_aspect(Image.new("RGB", (200, 100), "white"), 1.25).size == (200, 160)
    square = Image.new("RGB", (100, 110), "white")
    assert pad_to_aspect(square, 1.25) is square
    padded = pad_to_aspect(Image.new("RGB", (100, 200), "white"), 1.25)
    assert padded.getpixel((0, 0)) == (0, 0, 0)
    assert padded.getpixel((80, 100)) == (255, 255, 255)
    with pytest.raises(E2FashionError, match=r"pad_aspect is 0\.5"):
        pad_to_aspect(square, 0.5)
