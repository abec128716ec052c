"""Lines of JSON with checksums: every change is noticed, lines without a checksum are read."""

import json
from pathlib import Path

import pytest

from e2fashion.disk import DamagedError, read_lines, sealed_line, write_lines

ROWS = [{"text": "a ± coat", "rank": 1, "parts": ["x"]}, {"text": "", "rank": 25, "parts": []}]


def test_every_flipped_bit_of_a_line_is_noticed_or_changes_no_value(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "rows.jsonl"
    write_lines(file, ROWS)
    assert read_lines(file, "Again.") == ROWS
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            rows = read_lines(file, "Again.")
        except DamagedError:
            continue
        # The key of the checksum is damaged.
        assert all(given.items() <= row.items() for given, row in zip(ROWS, rows, strict=True))


def test_lines_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    assert read_lines(tmp_path / "rows", "") == ROWS


@pytest.mark.parametrize("content", [b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_a_line_of_something_else_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(sealed_line(ROWS[0]).encode() + content)
    with pytest.raises(DamagedError, match=r"rows line 2 is damaged.* Again\."):
        read_lines(tmp_path / "rows", "Again.")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"none cannot be read \(No such file or directory\)\. Again\."):
        read_lines(tmp_path / "none", "Again.")
