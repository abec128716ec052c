"""Any CLIP checkpoint is measured and probed by a command."""

import json
import shutil
from pathlib import Path

import pytest
from forked import Forked, e2fashion
from huggingface_hub import constants
from tiny import save_random_clip

from e2fashion.data.catalogue import Catalogue
from e2fashion.records import read_records
from e2fashion.run_folder import RunFolder
from tests.command_line import Capture, done, refused


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def clip_folder(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain CLIP with random weights, as anybody's checkpoint."""
    texts = synth_catalogue.split("train")["description"]
    return save_random_clip(tmp_path_factory.mktemp("clip") / "some-clip", list(texts))


def evaluate(capsys: Capture, catalogue: Catalogue, model: Path, *overrides: str) -> str:
    return done(capsys, "evaluate", str(model), f"data={catalogue.path}", *overrides)


def test_any_clip_checkpoint_is_measured_by_every_protocol(
    capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    printed = evaluate(
        capsys, synth_catalogue, clip_folder, "protocol=full,full_multiview,sample_100", "split=val,test"
    )
    file = Path("runs/evaluate/some-clip/results.jsonl")
    assert f"records appended to {file}" in printed
    records = read_records(file)
    assert {(r.protocol, r.split) for r in records} == {
        (protocol, split) for protocol in ("full", "full_multiview", "sample_100") for split in ("val", "test")
    }
    assert {(r.model, r.text, r.run, r.data_fingerprint) for r in records} == {
        ("some-clip", "{description}", "", synth_catalogue.fingerprint)
    }


def test_any_clip_checkpoint_is_probed(
    clip_folder: Path, synth_catalogue: Catalogue, tmp_path: Path, capsys: Capture
) -> None:
    inside = sorted(synth_catalogue.path.rglob("*"))
    settings = ["entity=season,brand", "min_examples=3", "shots=1", "draws=2", "strengths=[0.1,0.01]", "resamples=20"]
    arguments = ["probe", str(clip_folder), f"data={synth_catalogue.path}", *settings]
    printed = done(capsys, *arguments)
    place = tmp_path / "runs" / "probe" / "some-clip"
    assert "12 records appended to runs/probe/some-clip/results.jsonl" in printed
    assert "| season | some-clip | global |" in printed
    assert len(list((place / "features").glob("*.safetensors"))) == 3
    assert sorted(synth_catalogue.path.rglob("*")) == inside
    assert done(capsys, *arguments) == printed
    assert len(read_records(place / "results.jsonl")) == 12
    assert "1 a class" in done(capsys, "report", str(place / "results.jsonl"), "output=probes.md")
    assert (tmp_path / "figures" / "probes_probe_global.png").is_file()


def test_a_second_evaluation_reads_the_stored_candidates_and_appends(
    capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    command = ("protocol=sample_100", "seed=7", "output=r.jsonl")
    evaluate(capsys, synth_catalogue, clip_folder, *command)
    (lists,) = Path("candidates").glob("*seed7*.npz")
    assert not (synth_catalogue.path / "candidates").exists()  # a catalogue may be shared, or read-only
    written = lists.stat().st_mtime_ns
    evaluate(capsys, synth_catalogue, clip_folder, *command)
    assert lists.stat().st_mtime_ns == written
    lines = [json.loads(line) for line in Path("r.jsonl").read_text(encoding="utf-8").splitlines()]
    half = len(lines) // 2
    assert lines[:half] == lines[half:]
    assert len(read_records(Path("r.jsonl"))) == half


def test_the_candidates_are_kept_where_one_asks_and_a_catalogue_s_own_are_read(
    capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    shutil.copytree(synth_catalogue.path, "mine")
    mine, protocol = Catalogue.load(Path("mine")), "protocol=sample_100"
    evaluate(capsys, mine, clip_folder, protocol, "output=a.jsonl", "candidates=mine/candidates")
    assert len(list(Path("mine/candidates").iterdir())) == 1
    assert not Path("candidates").exists()
    evaluate(capsys, mine, clip_folder, protocol, "output=b.jsonl")
    assert not Path("candidates").exists()
    evaluate(capsys, synth_catalogue, clip_folder, protocol, "output=c.jsonl")
    assert len(list(Path("candidates").iterdir())) == 1
    assert read_records(Path("a.jsonl")) == read_records(Path("b.jsonl")) == read_records(Path("c.jsonl"))


def test_the_text_can_be_changed_and_lose_its_tags(
    capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    template = "text={brand} . {description}"
    evaluate(capsys, synth_catalogue, clip_folder, template, "output=r.jsonl", "name=with")
    evaluate(capsys, synth_catalogue, clip_folder, template, "with_tags=false", "output=r.jsonl", "name=without")
    evaluate(capsys, synth_catalogue, clip_folder, "output=r.jsonl", "name=plain")
    records = read_records(Path("r.jsonl"))
    values = {name: [r.value for r in records if r.model == name] for name in ("with", "without", "plain")}
    assert {r.text for r in records if r.model == "with"} == {"{brand} . {description}"}
    assert values["without"] == values["plain"] != values["with"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["split=vall"], "Invalid value 'vall', expected one of ['train', 'val', 'test']"),
        (["protocol=ful"], "did you mean 'full'?"),
        (["text={brnd}"], "Did you mean '{brand}'?"),
        (["size=33"], "size is 33; give a multiple of the patch size 8"),
        (["threads=0"], "threads is 0"),
        (["batch_size=0"], "batch_size"),
        (["accelerator=quantum"], "expected one of ['auto', 'cpu', 'gpu'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_in_an_evaluation(
    overrides: list[str], message: str, capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    command = ["evaluate", str(clip_folder), f"data={synth_catalogue.path}", *overrides, "--quiet"]
    assert message in refused(capsys, *command)


def test_a_run_without_its_record_is_refused(capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path) -> None:
    shutil.copytree(clip_folder, "run/model")
    Path("run/config.yaml").write_text("name: mine\n", encoding="utf-8")
    line = refused(capsys, "evaluate", "run", f"data={synth_catalogue.path}", "--quiet")
    assert "run/record.json is missing: results could not be attributed to the run. Restore the file" in line
    run = RunFolder(Path("run"))
    run.update_record(identity="abc")
    run.list_finished()
    with Path("run/model/config.json").open("a", encoding="utf-8") as stream:
        stream.write("\n")
    line = refused(capsys, "evaluate", "run", f"data={synth_catalogue.path}", "--quiet")
    assert "run/model/config.json is damaged" in line


def test_a_clip_is_measured_at_another_resolution(
    capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    evaluate(capsys, synth_catalogue, clip_folder, "size=48", "output=r.jsonl")
    assert {r.extra["image_size"] for r in read_records(Path("r.jsonl"))} == {48}


def offline(words: list[str]) -> int:
    """The program as with ``HF_HUB_OFFLINE``, which is read when the libraries are imported."""
    constants.HF_HUB_OFFLINE = True
    return e2fashion(words)


def test_a_hub_name_without_a_network_is_a_clear_error(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    words = ["evaluate", "nobody/no-such-clip", f"data={synth_catalogue.path}"]
    ended = Forked(offline, words, folder=tmp_path).wait()
    assert ended.code == 1
    assert ended.out == ""
    (line,) = ended.error.splitlines()
    assert line == (
        "error: 'nobody/no-such-clip' is not a folder, so it was taken for a hub name, and the hub does not answer "
        "(HF_HUB_OFFLINE is set). Give a folder that holds it (model.checkpoint=<folder>, or model=<folder> of a verb)"
    )
