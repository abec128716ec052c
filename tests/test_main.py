"""The command line: every verb, what a mistake says and returns, and the path from a table to a report."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, save_random_clip
from tiny_encoder import save_tiny_run

from e2fashion.__main__ import main
from e2fashion.commands import COMMANDS
from e2fashion.commands.evaluate import ReportConfig
from e2fashion.commands.registry import Arguments, Command
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.sources import SOURCES
from e2fashion.data.text import TextTemplate
from e2fashion.lifetime import Terminated
from e2fashion.models.tokenizer import load_tokenizer
from e2fashion.records import read_records
from e2fashion.settings import settings_of
from e2fashion.training.callbacks import RunInterruptedError

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: Capture, *arguments: str) -> str:
    """The one line that a refused command writes to stderr."""
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line


def done(capsys: Capture, *arguments: str) -> str:
    """What a command that succeeds writes to stdout."""
    code = main([*arguments, "--quiet"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


@pytest.fixture(scope="module")
def clip_folder(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain CLIP with random weights, as anybody's checkpoint."""
    texts = synth_catalogue.split("train")["description"]
    return save_random_clip(tmp_path_factory.mktemp("clip") / "some-clip", list(texts))


def test_describing_counts_the_tokens_of_a_named_tokenizer(
    synth_catalogue: Catalogue, clip_folder: Path, capsys: Capture
) -> None:
    words = [f"tokenizer={clip_folder}", "template={brand} . {description}", "context_length=20"]
    said = done(capsys, "data", "describe", str(synth_catalogue.path), *words)
    tokenizer, template = load_tokenizer(clip_folder), TextTemplate("{brand} . {description}")
    expected = []
    for split in synth_catalogue.split_names:
        texts = {s.product_id: template.render(s.tags, s.description) for s in synth_catalogue.samples(split)}
        expected.append(sum(len(tokenizer(text)["input_ids"]) > 20 for text in texts.values()))
    assert [int(count) for count in said.partition("texts over 20 tokens")[2].split()[:3]] == expected
    assert expected[0] > 0
    assert f"tokens of {clip_folder}, of '{{brand}} . {{description}}'" in said


def test_the_context_length_is_that_of_the_tokenizer(
    synth_catalogue: Catalogue, tmp_path: Path, capsys: Capture
) -> None:
    save_tiny_run(synth_catalogue, tmp_path / "mine")
    assert "texts over 12 tokens" in done(capsys, "data", "describe", str(synth_catalogue.path), "tokenizer=mine")
    assert "'gone/tokenizer/x' is not a folder" in refused(
        capsys, "data", "describe", str(synth_catalogue.path), "tokenizer=gone/tokenizer/x"
    )


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself(verb: str, capsys: Capture) -> None:
    assert main([*verb.split(), "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"usage: e2fashion {verb} ")
    for item in settings_of(COMMANDS[verb].config):
        meaning = " ".join(item.meaning.replace("`", "").split())
        assert re.search(rf" {re.escape(item.path)}(=|\.\*)", said), item.path
        assert meaning in said, item.path


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["nothing", "help"])
def test_without_a_verb_all_are_listed(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert all(f"e2fashion {verb} " in said for verb in COMMANDS)


@pytest.mark.parametrize("first", ["data", "index", "caption", "tags"])
def test_help_on_a_group_of_verbs_lists_them_alone(first: str, capsys: Capture) -> None:
    assert main([first, "--help"]) == 0
    said = capsys.readouterr().out
    listed = {verb for verb in COMMANDS if re.search(rf"^  e2fashion {verb} ", said, re.MULTILINE)}
    assert listed == {verb for verb in COMMANDS if verb.split()[0] == first}


def test_help_on_preparing_explains_the_options_of_every_source(capsys: Capture) -> None:
    assert main(["data", "prepare", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, source in SOURCES.items():
        assert f"further keys with source={name}:" in said
        for item in settings_of(source):
            assert item.meaning.replace("`", "") in said, f"{name}: {item.path}"


@pytest.mark.parametrize("columns", [72, 200])
def test_help_is_wrapped_to_the_terminal(columns: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["train", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, (line for line in lines if len(line.split()) > 2))) <= min(columns, 110)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "There is no verb 'fly'. Verbs: data prepare"),
        (["data", "fly"], "Choose one of data prepare, data describe, data check; got 'fly'"),
        (["train"], "Give one configuration file"),
        (["train", "a.yaml", "b.yaml"], "got a.yaml, b.yaml"),
        (["train", "run.yaml", "data=c"], "'run.yaml' does not exist"),
        (["train", "run.yaml", "--fast"], "Unknown flag '--fast'"),
        (["evaluate"], "Give the model (Run folder, model folder, or hub name of a CLIP). Usage: e2fashion evaluate"),
        (["evaluate", "m"], "'data' is not given"),
        (["evaluate", "m", "data=c", "protocl=full"], "Did you mean: 'protocol'?"),
        (["evaluate", "m", "data=c"], "c is not a catalogue: it does not exist"),
        (["probe"], "Give the model ("),
        (["probe", "m", "data=c"], "'entity' is not given"),
        (["probe", "m", "data=c", "entity=brand"], "c is not a catalogue"),
        (["report"], "report takes run folders"),
        (["report", "gone"], "gone does not exist"),
        (["compare"], "Give the configuration files"),
        (["compare", "a.yaml"], "'data' is not given"),
        (["data", "describe", "gone"], "gone is not a catalogue"),
        (["data", "describe"], "Give the catalogue (A prepared catalogue). Usage: e2fashion data describe"),
        (["data", "prepare"], "Give one source"),
        (["data", "prepare", "kagl", "path=gone", "output=o"], "gone"),
        (["data", "prepare", "magic", "output=o"], "There is no source 'magic'"),
        (["data", "prepare", "synthetic", "output=o", "prodcts=3"], "Did you mean: 'products'?"),
        (["data", "prepare", "synthetic", "output=o", "products=many"], "'many'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_on_stderr(arguments: list[str], message: str, capsys: Capture) -> None:
    assert message in refused(capsys, *arguments)


def test_a_misspelled_key_in_a_file_names_file_and_right_key(capsys: Capture) -> None:
    Path("run.yaml").write_text("trian: {precision: bf16}\n", encoding="utf-8")
    line = refused(capsys, "train", "run.yaml", "data=c")
    assert "run.yaml, key 'trian'" in line
    assert "Did you mean: 'train'?" in line


def test_a_file_that_is_no_yaml(capsys: Capture) -> None:
    Path("run.yaml").write_text("name: [", encoding="utf-8")
    assert "run.yaml is not valid YAML" in refused(capsys, "train", "run.yaml", "data=c")


def test_the_version_is_told(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("e2fashion ")


def test_sigterm_stops_a_command_as_ctrl_c_does(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: ReportConfig, arguments: Arguments) -> str:
        signal.raise_signal(signal.SIGTERM)
        return ""

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(COMMANDS, "report", Command("report", "", "r", ReportConfig, run, ("sources...",)))
    assert main(["report", "a b"]) == 143
    assert capsys.readouterr().err == ("stopped. Existing files are unchanged; repeat with: e2fashion report 'a b'\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunInterruptedError("interrupted. Resume with: e2fashion train r"), 130, "Resume with: e2fashion train r"),
        (RunInterruptedError("interrupted.", signal.SIGTERM), 143, "interrupted."),
        (KeyboardInterrupt(), 130, "stopped. Existing files are unchanged; repeat with: e2fashion report"),
        (Terminated(), 143, "stopped. Existing files are unchanged; repeat with: e2fashion report"),
        (
            PermissionError(13, "Permission denied", "runs"),
            1,
            "error: 'runs': permission denied: choose an output that you may write",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "error: the disk is full: free space, or choose an output on another disk",
        ),
    ],
    ids=["interrupted", "terminated_run", "ctrl_c", "terminated", "operating_system", "full_disk"],
)
def test_what_stops_a_command_is_said_without_a_traceback(
    error: BaseException, code: int, line: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: ReportConfig, arguments: Arguments) -> str:
        raise error

    monkeypatch.setitem(COMMANDS, "report", Command("report", "", "r", ReportConfig, run, ("sources...",)))
    assert main(["report"]) == code
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith(line)


def test_from_a_table_of_images_to_a_report(capsys: Capture) -> None:
    write_shop(Path("shop"))
    prepared = done(capsys, "data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "val_fraction=0.2")
    assert "train 14, val 4, test 2" in prepared
    assert "brand" in done(capsys, "data", "describe", "mine")
    run = ["train", "run.yaml", "data=mine", "train.stages.main.epochs=1", "loader.batch_size=8"]
    Path("run.yaml").write_text("name: first\n", encoding="utf-8")
    tiny = [word for word in TINY if not word.startswith("loader.batch_size")]
    assert "first: best model in" in done(capsys, *run, *tiny, "model.entities.season=null")
    assert "22 records appended to runs/first/results.jsonl" in done(
        capsys, "evaluate", "runs/first", "data=mine", "split=test"
    )
    table = done(capsys, "report", "runs/first", "output=table.md")
    assert Path("table.md").read_text(encoding="utf-8").strip() == table.strip()
    assert "Protocol `full` on test" in table
    assert "Protocol `full` on val" in table


def write_shop(folder: Path) -> None:
    """Twenty images and a table with foreign column names: among them a CMYK JPEG and a 16-bit PNG."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = ["sku,photo,title,label"]
    for number in range(20):
        pixels = generator.integers(0, 256, (40, 32, 3), dtype=np.uint8)
        name, picture = f"{number}.jpg", Image.fromarray(pixels)
        if number == 3:
            picture = picture.convert("CMYK")
        if number == 4:
            name, picture = "4.png", Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        picture.save(folder / name)
        lines.append(f"s{number},{name},A garment of number {number},{'Acme' if number % 2 else ''}")
    (folder / "products.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("shop.yaml").write_text(
        "source: folder\ncolumns: {product_id: sku, image: photo, description: title}\ntags: {brand: label}\n",
        encoding="utf-8",
    )


def test_an_over_long_text_stops_or_is_skipped(capsys: Capture) -> None:
    write_shop(Path("shop"))
    with Path("shop/products.csv").open("a", encoding="utf-8") as table:
        table.write(f"long,0.jpg,{'word ' * 2000},\n")
    command = ["data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "--quiet"]
    line = refused(capsys, *command)
    assert "line 22 (product long): over-long text in field 'description': 9,999 characters" in line
    assert not Path("mine").exists()
    assert "1 rows skipped, listed in mine/skipped.csv" in done(capsys, *command, "on_error=skip")


def test_an_empty_table(capsys: Capture) -> None:
    write_shop(Path("shop"))
    Path("shop/products.csv").write_text("sku,photo,title,label\n", encoding="utf-8")
    command = ["data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "--quiet"]
    assert "has no rows" in refused(capsys, *command)


def test_a_catalogue_without_val_cannot_train(capsys: Capture) -> None:
    write_shop(Path("shop"))
    prepare = ["data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "val_fraction=0"]
    done(capsys, *prepare, "test_fraction=0")
    Path("run.yaml").write_text("name: first\n", encoding="utf-8")
    line = refused(capsys, "train", "run.yaml", "data=mine", *TINY, "model.entities.season=null")
    assert "has no split 'val'; it has: train" in line
    assert not Path("runs").exists()


def evaluate(capsys: Capture, catalogue: Catalogue, model: Path, *overrides: str) -> str:
    return done(capsys, "evaluate", str(model), f"data={catalogue.path}", *overrides)


def test_any_clip_checkpoint_is_measured_by_every_protocol(
    capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    said = evaluate(capsys, synth_catalogue, clip_folder, "protocol=full,full_multiview,sample_100", "split=val,test")
    file = Path("runs/evaluate/some-clip/results.jsonl")
    assert f"records appended to {file}" in said
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
    said = done(capsys, *arguments)
    place = tmp_path / "runs" / "probe" / "some-clip"
    assert "12 records appended to runs/probe/some-clip/results.jsonl" in said
    assert "| season | some-clip | global |" in said
    assert len(list((place / "features").glob("*.safetensors"))) == 3
    assert sorted(synth_catalogue.path.rglob("*")) == inside
    assert done(capsys, *arguments) == said
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


def test_a_clip_is_measured_at_another_resolution(
    capsys: Capture, synth_catalogue: Catalogue, clip_folder: Path
) -> None:
    evaluate(capsys, synth_catalogue, clip_folder, "size=48", "output=r.jsonl")
    assert {r.extra["image_size"] for r in read_records(Path("r.jsonl"))} == {48}


@pytest.mark.slow
def test_a_hub_name_without_a_network_is_a_clear_error(synth_catalogue: Catalogue) -> None:
    command = [sys.executable, "-m", "e2fashion", "evaluate", "nobody/no-such-clip", f"data={synth_catalogue.path}"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line == (
        "error: 'nobody/no-such-clip' is no folder, so it was taken for a hub name, and the hub does not answer "
        "(HF_HUB_OFFLINE is set). Give a folder that holds it (model.checkpoint=<folder>, or model=<folder> of a verb)"
    )
