"""What comes from data acts neither on the terminal nor in a report: results, errors, log lines, sheets."""

import logging
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from e2fashion import records
from e2fashion.__main__ import main
from e2fashion.ablation.plan import Ablation
from e2fashion.ablation.report import RowResult, write_report
from e2fashion.commands import COMMANDS
from e2fashion.commands.evaluate import ReportConfig
from e2fashion.commands.registry import Arguments, Command
from e2fashion.report import interval_lines, long_text_lines
from e2fashion.tables import Cell, Table, to_markdown
from e2fashion.tasks.captioning.tables import SheetRow, write_sheet
from e2fashion.terminal import draws_bars, prepare_terminal, progress_bar
from e2fashion.types import E2FashionError, ResultRecord

EVIL = "\x1b[31mred\u202e\x9b2J\r<img src=x>|"
SHOWN = r"\x1b[31mred\u202e\x9b2J\r<img src=x>|"
Capture = pytest.CaptureFixture[str]


def test_a_verb_prints_lines_whose_control_characters_are_escaped(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: ReportConfig, arguments: Arguments) -> str:
        return f"first\n{EVIL}"

    monkeypatch.setitem(COMMANDS, "report", Command("report", "", "r", ReportConfig, run))
    assert main(["report"]) == 0
    assert capsys.readouterr().out == f"first\n{SHOWN}\n"


@pytest.mark.parametrize("kind", [E2FashionError, OSError])
def test_an_error_is_one_line_whose_control_characters_are_escaped(
    kind: type[Exception], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: ReportConfig, arguments: Arguments) -> str:
        raise kind(f"first\n{EVIL}")

    monkeypatch.setitem(COMMANDS, "report", Command("report", "", "r", ReportConfig, run))
    assert main(["report"]) == 1
    assert capsys.readouterr().err == f"error: first\\n{SHOWN}\n"


def test_a_log_line_has_no_control_characters(capsys: Capture) -> None:
    prepare_terminal()
    logging.getLogger("e2fashion.test").warning("row %s", EVIL)
    assert f"warning: row {SHOWN}" in capsys.readouterr().err


def test_a_warning_of_ours_is_one_line_without_the_place_in_the_code(capsys: Capture) -> None:
    prepare_terminal()
    for file in (records.__file__, np.__file__):
        warnings.warn_explicit("line 2 is damaged", UserWarning, file, 1)
    ours, theirs = capsys.readouterr().err.splitlines()[:2]
    assert ours == "warning: line 2 is damaged"
    assert theirs.endswith(":1: UserWarning: line 2 is damaged")


def test_a_sheet_of_captions_has_no_markup_of_the_texts(tmp_path: Path) -> None:
    rows = [SheetRow(EVIL, np.zeros((8, 8, 3), dtype=np.uint8), {"truth": f"a\nb {EVIL}", "model": "**c**"})]
    file, _ = write_sheet(rows, tmp_path / "sheet.md", "Captions")
    (row,) = [line for line in file.read_text(encoding="utf-8").splitlines() if "red" in line]
    assert row.replace(r"\|", "").count("|") == 4
    assert r"\<img src=x\>" in row
    assert r"\*\*c\*\*" in row
    assert "\x1b" not in row


def test_lines_of_a_report_have_no_markup_of_names_and_templates() -> None:
    record = ResultRecord(
        run="r",
        model=f"a\nb {EVIL}",
        task="retrieval",
        protocol="full",
        split="test",
        metric="SumR",
        direction="both",
        positives="text",
        value=1.0,
        low=0.5,
        high=1.5,
        text=f"`{EVIL}",
        extra={"texts": {"context_length": 77}},
    )
    lines = (interval_lines([record]) + long_text_lines([record])).split("\n")
    items = [line for line in lines if line.startswith("- ")]
    assert len(items) == 3  # SumR once, long texts twice
    assert all(line.startswith(r"- a\\nb \\x1b") and r"\<img src=x\>" in line for line in items)
    assert not {"\x1b", "\r", "\u202e"} & set("".join(lines))


def test_the_report_of_an_ablation_has_no_markup_of_its_rows_and_errors(tmp_path: Path) -> None:
    ablation = SimpleNamespace(
        name=EVIL,
        base="a`b",
        seeds=(0,),
        runs=[],
        overrides={EVIL: EVIL},
        left_out={EVIL: EVIL},
        baseline=EVIL,
        folder=tmp_path,
    )
    write_report(cast(Ablation, ablation), [RowResult(EVIL, {}, errors={0: EVIL})], "")
    report = (tmp_path / "report.md").read_bytes().decode()
    rows = [line for line in report.split("\n") if line.startswith("|")]
    assert len(rows) == 4
    assert all(row.replace(r"\|", "").count("|") == 3 for row in rows)
    (failure,) = [line for line in report.split("\n") if line.startswith("- ")]
    assert r"\<img" in failure
    assert not {"\x1b", "\r", "\u202e"} & set(report)
    assert "``a`b``" in report


def test_the_caption_of_a_table_is_shown_and_not_obeyed() -> None:
    shown = to_markdown(Table(("model",), ((Cell("E2"),),), f"Text `{EVIL}`.\nMore."))
    assert shown.endswith(f"\nText `{SHOWN}`.\nMore.\n")


@pytest.mark.parametrize(("terminal", "shown"), [(True, True), (True, False), (False, True)])
def test_a_bar_is_drawn_on_a_terminal_alone(
    terminal: bool, shown: bool, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert draws_bars() is terminal
    with progress_bar(total=1000, desc="embed", shown=shown) as bar:
        for _ in range(1000):
            bar.update(1)
    assert list(progress_bar("ab", shown=shown)) == ["a", "b"]
    assert ("embed" in capsys.readouterr().err) is (terminal and shown)
