"""Lists of files notice what is missing or changed; sealed JSON notices every change."""

import json
import os
from pathlib import Path

import pytest

from e2fashion.disk import (
    CHECKSUMS_FILE,
    check_checksums,
    check_files,
    check_replaceable,
    checked_name,
    file_name,
    list_files,
    read_checksums,
    read_json,
    seal,
    update_checksums,
    write_checksums,
    write_json,
)
from e2fashion.disk.listing import file_checksum
from e2fashion.types import E2FashionError

REMEDY = "Make it again."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "one").write_bytes(b"one")
    (folder / "deep" / "two").write_bytes(b"two" * 1000)
    for name in ("one", "deep/two"):
        os.utime(folder / name, (1, 1))
    return folder


def test_every_change_of_a_listed_file_is_noticed(folder: Path) -> None:
    files = list_files(folder)
    check_files(folder, files, REMEDY)
    two = folder / "deep" / "two"
    whole = two.read_bytes()
    for damaged in (whole[:-1], whole + b"x", b"", whole[:5] + b"X" + whole[6:]):
        two.write_bytes(damaged)
        with pytest.raises(E2FashionError, match=r"deep/two is damaged: .* Make it again\."):
            check_files(folder, files, REMEDY)
    two.unlink()
    with pytest.raises(E2FashionError, match=r"deep/two is missing .* Make it again\."):
        check_files(folder, files, REMEDY)
    two.write_bytes(whole)
    check_files(folder, files, REMEDY)


def test_a_folder_can_hold_the_list_of_its_files(folder: Path) -> None:
    check_checksums(folder, REMEDY)  # without a list
    write_checksums(folder)
    write_checksums(folder)
    check_checksums(folder, REMEDY)
    listed = (folder / CHECKSUMS_FILE).read_text()
    (folder / "one").write_bytes(b"ONE")
    check_checksums(folder, REMEDY, lambda name: name.startswith("deep"))
    with pytest.raises(E2FashionError, match=r"one is damaged: .* Make it again\."):
        check_checksums(folder, REMEDY)
    (folder / CHECKSUMS_FILE).write_text(listed.replace("3", "4"))
    with pytest.raises(E2FashionError, match=rf"{CHECKSUMS_FILE} is damaged or was edited: .* Make it again\."):
        check_checksums(folder, REMEDY)


def test_a_list_grows_and_shrinks_with_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def counts(name: str) -> bool:
        return name != CHECKSUMS_FILE

    update_checksums(folder, read_checksums(folder, REMEDY), counts)
    listed = read_checksums(folder, REMEDY)
    assert listed == list_files(folder, counts)
    (folder / "three").write_bytes(b"three")
    (folder / "one").unlink()
    check_files(folder, listed, REMEDY, removable=True)
    read: list[str] = []
    monkeypatch.setattr("e2fashion.disk.listing.file_checksum", lambda file: read.append(file.name) or "0")
    update_checksums(folder, read_checksums(folder, REMEDY), counts)
    assert (list(read_checksums(folder, REMEDY)), read) == (["three", "deep/two"], ["three"])
    check_files(folder, {"three": {"bytes": 5, "xxh3": "0"}}, REMEDY, removable=True)
    with pytest.raises(E2FashionError, match="three is damaged"):
        check_files(folder, {"three": {"bytes": 4, "xxh3": "0"}}, REMEDY, removable=True)


@pytest.mark.parametrize("content", ["{}", '{"files": ["one"]}', '{"files": {"one": "f97c5d29941bfb1b"}}'])
def test_another_program_s_list_is_not_compared(content: str, folder: Path) -> None:
    (folder / CHECKSUMS_FILE).write_text(content)
    check_checksums(folder, REMEDY)


def test_an_unchanged_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = list_files(folder)
    read: list[str] = []

    def counted(file: Path) -> str:
        read.append(file.name)
        return file_checksum(file)

    monkeypatch.setattr("e2fashion.disk.listing.file_checksum", counted)
    check_files(folder, files, REMEDY)
    check_files(folder, files, REMEDY)
    assert sorted(read) == ["one", "two"]
    check_files(folder, files, REMEDY, again=True)
    assert sorted(read) == ["one", "one", "two", "two"]
    os.utime(folder / "one")  # just now: a second change might bear the same time
    for _ in range(2):
        check_files(folder, files, REMEDY)
    assert read[4:] == ["one", "one"]


def test_a_cache_that_cannot_be_written_or_read_costs_nothing_but_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = list_files(folder)
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    check_files(folder, files, REMEDY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check_files(folder, files, REMEDY)
    (cached,) = (tmp_path / "cache" / "e2fashion" / "verified").iterdir()
    for content in (b"\xff", b"[" * 100_000, b"[]", b"{"):
        cached.write_bytes(content)
        check_files(folder, files, REMEDY)


def test_what_is_not_ours_is_not_replaced(folder: Path) -> None:
    files = list_files(folder)
    check_replaceable(folder, files, REMEDY)
    (folder / "deep" / "notes.txt").touch()
    with pytest.raises(E2FashionError, match=r"folder' also holds 'deep/notes.txt', which .* Make it again\."):
        check_replaceable(folder, files, REMEDY)
    (folder / "deep" / "notes.txt").unlink()
    (folder / "link").symlink_to(folder / "deep")
    with pytest.raises(E2FashionError, match="also holds 'link'"):
        check_replaceable(folder, files, REMEDY)


def test_sealed_json_is_read_back_and_every_change_of_it_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    content = {"a": [1, 2.5, None], "b": {"c": "é"}, "d": (1, 2)}
    write_json(file, seal(content))
    assert read_json(file, REMEDY) == json.loads(json.dumps(content))
    whole, noticed = file.read_bytes(), 0
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        file.write_bytes(damaged)
        try:
            result = read_json(file, REMEDY)
        except E2FashionError:
            noticed += 1
        else:
            assert result == json.loads(json.dumps(content)) or b'"checksum"' not in damaged
    assert noticed > 0.9 * len(whole)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"3", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' * 100_000, b'{"checksum": 1}']
)
def test_damaged_json_is_one_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_bytes(content)
    with pytest.raises(E2FashionError, match=r"facts\.json is damaged.* Make it again\."):
        read_json(tmp_path / "facts.json", REMEDY)


def test_json_without_a_seal_is_read(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text('{"a": 1}', encoding="utf-8")
    assert read_json(tmp_path / "facts.json", REMEDY) == {"a": 1}
    with pytest.raises(E2FashionError, match=r"none\.json cannot be read"):
        read_json(tmp_path / "none.json", REMEDY)


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../x", "a/b", "/a", "a\\b", "a\nb", "a\0b", "\x1b[2J", "x" * 201]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(E2FashionError, match=r"^name is "):
        checked_name("name", name)
    made = file_name(name)
    assert checked_name("name", made) == made


@pytest.mark.parametrize("name", ["e2", "CLIP-FT", "ViT-B/32".replace("/", "-"), "größe 40", "a..b", "日本"])
def test_a_name_that_stays_is_kept(name: str) -> None:
    assert checked_name("name", name) == name
