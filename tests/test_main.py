"""The command line: the help of every verb, what a mistake says and returns, and how a command is stopped."""

import re
import signal
from pathlib import Path

import pytest

from e2fashion.__main__ import main
from e2fashion.commands import COMMANDS
from e2fashion.commands.evaluate import ReportConfig
from e2fashion.commands.registry import Arguments, Command
from e2fashion.data.sources import SOURCES
from e2fashion.lifetime import Terminated
from e2fashion.settings import settings_of
from e2fashion.training.callbacks import RunInterruptedError
from tests.command_line import Capture, refused


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself(verb: str, capsys: Capture) -> None:
    assert main([*verb.split(), "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith(f"usage: e2fashion {verb} ")
    for item in settings_of(COMMANDS[verb].config):
        meaning = " ".join(item.meaning.replace("`", "").split())
        assert re.search(rf" {re.escape(item.path)}(=|\.\*)", printed), item.path
        assert meaning in printed, item.path


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["nothing", "help"])
def test_without_a_verb_all_are_listed(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert all(f"e2fashion {verb} " in printed for verb in COMMANDS)


@pytest.mark.parametrize("first", ["data", "index", "caption", "tags"])
def test_help_on_a_group_of_verbs_lists_them_alone(first: str, capsys: Capture) -> None:
    assert main([first, "--help"]) == 0
    printed = capsys.readouterr().out
    listed = {verb for verb in COMMANDS if re.search(rf"^  e2fashion {verb} ", printed, re.MULTILINE)}
    assert listed == {verb for verb in COMMANDS if verb.split()[0] == first}


def test_help_on_preparing_explains_the_options_of_every_source(capsys: Capture) -> None:
    assert main(["data", "prepare", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, source in SOURCES.items():
        assert f"further keys with source={name}:" in printed
        for item in settings_of(source):
            assert item.meaning.replace("`", "") in printed, f"{name}: {item.path}"


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
        (["evaluate", "m", f"data={__file__}"], "test_main.py is not a catalogue: it is a file, not a folder"),
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
    (printed,) = capsys.readouterr().err.splitlines()
    assert printed.endswith(line)
