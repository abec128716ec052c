"""Lists and JSON files that others wrote: every Unicode encoding, and one error of ours for everything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2fashion import text_files
from e2fashion.escape import is_blank, trimmed
from e2fashion.text_files import read_json, read_list
from e2fashion.types import E2FashionError

WHAT = "a list of images"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_in_every_unicode_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(end.join(["1.jpg", "", " sub/été 2.jpg ", "a=b.jpg", ""]).encode(encoding))
    assert read_list(file, WHAT) == ["1.jpg", "sub/été 2.jpg", "a=b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1.jpg\n\xff\xe9", r"list.txt' line 2 is not valid utf-8: save a list of images as UTF-8"),
        ("1.jpg\n2.jpg".encode("utf-16-le"), r"list.txt' line 1 has the control character '.x00'"),
        (b"\x00" * 1000, r"control character"),
        (b"\xff\xd8\xff\xe0 JFIF", r"is not valid utf-8"),
        (b"\xff\xfea", r"is not valid utf-16"),
    ],
)
def test_files_that_are_no_lists(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(E2FashionError, match=message):
        read_list(tmp_path / "list.txt", WHAT)


def test_what_is_no_file_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(E2FashionError, match="does not exist: give a list of images"):
        read_list(tmp_path / "nowhere", WHAT)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(E2FashionError, match="is not a regular file"):
        read_list(tmp_path / "pipe", WHAT)
    (tmp_path / "list.txt").write_text("123456")
    monkeypatch.setattr(text_files, "LARGEST_TEXT_FILE", 5)
    with pytest.raises(E2FashionError, match="has 6 bytes, too many"):
        read_list(tmp_path / "list.txt", WHAT)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"[1,", b"", b"\xff", b"9" * 10_000, b'"\x00"']
)
def test_json_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(E2FashionError, match=r"a\.json"):
        read_json(tmp_path / "a.json", "the file of the release")


@settings(max_examples=200)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_list_or_an_error_of_ours(content: bytes) -> None:
    file = Path(os.environ.get("TMPDIR", "/tmp")) / f"list-{os.getpid()}.txt"
    try:
        file.write_bytes(content)
        assert all(line.strip() == line != "" for line in read_list(file, WHAT))
    except E2FashionError:
        pass
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "text", ["", " ", "\u200b", "\u200b\u200d \ufeff", "\u2060", "\u00ad", "\u3164", "\u2800\n", "\u200e"]
)
def test_texts_with_nothing_to_see(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "-", "\u200ba", "😀", "日", "\u0301a", "0"])
def test_texts_with_something_to_see(text: str) -> None:
    assert not is_blank(text)
    assert trimmed(f"\ufeff \u200b{text}\u200b\n") == trimmed(text)
