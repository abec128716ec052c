"""What comes from data acts neither on the terminal nor in a report: results, errors, log lines, sheets."""

import logging
from pathlib import Path

import numpy as np
import pytest

from e2fashion.cli import VERBS, main
from e2fashion.cli.words import Verb, Words, show
from e2fashion.tasks.captioning.sheet import SheetRow, write_sheet
from e2fashion.terminal import prepare_terminal
from e2fashion.types import E2FashionError

EVIL = "\x1b[31mred\u202e\x9b2J\r<img src=x>|"
SHOWN = r"\x1b[31mred\u202e\x9b2J\r<img src=x>|"
Capture = pytest.CaptureFixture[str]


def test_a_verb_prints_lines_whose_control_characters_are_escaped(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: Words) -> int:
        show(f"first\n{EVIL}")
        return 0

    monkeypatch.setitem(VERBS, "report", Verb("report", "r", run))
    assert main(["report"]) == 0
    assert capsys.readouterr().out == f"first\n{SHOWN}\n"


@pytest.mark.parametrize("kind", [E2FashionError, OSError])
def test_an_error_is_one_line_whose_control_characters_are_escaped(
    kind: type[Exception], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: Words) -> int:
        raise kind(f"first\n{EVIL}")

    monkeypatch.setitem(VERBS, "report", Verb("report", "r", run))
    assert main(["report"]) == 1
    assert capsys.readouterr().err == f"error: first\\n{SHOWN}\n"


def test_a_log_line_has_no_control_characters(capsys: Capture) -> None:
    prepare_terminal()
    logging.getLogger("e2fashion.test").warning("row %s", EVIL)
    assert f"warning: row {SHOWN}" in capsys.readouterr().err


def test_a_sheet_of_captions_has_no_markup_of_the_texts(tmp_path: Path) -> None:
    rows = [SheetRow(EVIL, np.zeros((8, 8, 3), dtype=np.uint8), {"truth": f"a\nb {EVIL}", "model": "**c**"})]
    file, _ = write_sheet(rows, tmp_path / "sheet.md", "Captions")
    (row,) = [line for line in file.read_text(encoding="utf-8").splitlines() if "red" in line]
    assert row.replace(r"\|", "").count("|") == 4
    assert r"\<img src=x\>" in row
    assert r"\*\*c\*\*" in row
    assert "\x1b" not in row
