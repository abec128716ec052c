"""Commands in this process, with what they print."""

import pytest

from e2fashion.__main__ import main

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *arguments: str) -> str:
    """The one line that a refused command writes to stderr."""
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line


def done(capsys: Capture, *arguments: str) -> str:
    """What a command that succeeds writes to stdout."""
    code = main([*arguments, "--quiet"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out
