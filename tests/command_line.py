"""Commands in this process, with what they print."""

import pytest

from e2fashion.__main__ import main

Capture = pytest.CaptureFixture[str]


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
