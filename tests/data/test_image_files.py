"""Which files of a folder are images, and how one is opened."""

import os
import socket
from pathlib import Path

import pytest
from PIL import Image
from raw_products import picture

from e2fashion.data.image_files import (
    ENDINGS,
    FORMATS,
    FoundImages,
    ImageError,
    find_images,
    is_heic,
    is_image,
    open_regular,
    without_ending,
)
from e2fashion.data.images import read_image
from e2fashion.types import E2FashionError

#: The start of an HEIC file; what follows does not matter to whoever cannot decode it.
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)


def names(found: FoundImages, folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in found.files]


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jpg"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "socket":
            bound.bind(str(file))
        with pytest.raises(ImageError, match=rf"x\.jpg' cannot be read as an image: no regular file, it is a {kind}"):
            read_image(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.jpg", "missing image, no such file. Remedy: add the file"),
        ("https://shop.example/1.jpg", "nothing is fetched"),
        ("a\0b", "its name is not valid"),
        ("x" * 5_000, r"x\.\.\.' cannot be read as an image: unreadable image"),
    ],
)
def test_a_name_that_opens_nothing(name: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(name)


def test_more_bytes_than_an_image_can_have_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(bytes(100))
    with open_regular(tmp_path / "x.jpg", 100) as stream:
        assert len(stream.read()) == 100
    with pytest.raises(ImageError, match="oversized image, 100 bytes, more than 99"):
        open_regular(tmp_path / "x.jpg", 99)


def test_endings_are_those_of_the_formats_that_are_read() -> None:
    Image.init()
    assert set(FORMATS) <= Image.OPEN.keys()
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in {*FORMATS, "MPO"}}
    scarce = {".pfm", ".bw", ".rgb", ".rgba", ".icb", ".vda", ".vst"}  # floating point, or shared with other files
    assert known - scarce == ENDINGS


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000"])
def test_an_image_is_known_by_its_content(kind: str, tmp_path: Path) -> None:
    (tmp_path / "no-ending").write_bytes(picture(kind=kind))
    (tmp_path / "wrong.dat").write_bytes(picture(kind=kind))
    assert names(find_images(tmp_path), tmp_path) == ["no-ending", "wrong.dat"]
    assert read_image(tmp_path / "no-ending").size == (24, 20)


@pytest.mark.parametrize("start", [b"BM begins this text, and no bitmap", b"", b"P5 is a text", b"II*", bytes(64)])
def test_other_content_is_no_image(start: bytes) -> None:
    assert not is_image(start)


def test_heic_is_told_from_avif() -> None:
    assert is_heic(HEIC)
    assert not is_heic(picture(kind="AVIF"))
    mixed = b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avifmiaf"
    assert (is_heic(mixed), is_image(mixed)) == (False, True)


def test_every_image_is_found_and_every_other_file_is_counted(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.JPE", "c.avif", "d.tif", "e.jp2", "f.bmp", "g.jpeg", "deep/er/h.png", ".hidden.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture())
    for name in ("notes.txt", "more.TXT", "README", "phone.heic", "._a.jfif"):
        (tmp_path / name).write_bytes(HEIC if name.endswith("heic") else b"hello")
    (tmp_path / "renamed.heic").write_bytes(picture())  # a JPEG all the same
    os.mkfifo(tmp_path / "pipe")
    result = find_images(tmp_path)
    assert names(result, tmp_path) == sorted(
        [
            "a.jfif",
            "b.JPE",
            "c.avif",
            "d.tif",
            "e.jp2",
            "f.bmp",
            "g.jpeg",
            "deep/er/h.png",
            ".hidden.png",
            "renamed.heic",
        ]
    )
    assert result.ignored == {".txt": 2, "without an ending": 2, ".heic": 1, "._* (macOS metadata)": 1}
    assert result.words() == (
        "6 ignored (2 .txt, 2 without an ending, 1 ._* (macOS metadata), 1 .heic); "
        "HEIC: convert it to JPEG (HEIC needs a decoder that Pillow does not bring)"
    )
    assert find_images(tmp_path / "deep").words() == ""


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for file in (root / "real" / "a.png", other / "inner" / "b.png"):
        file.parent.mkdir(parents=True)
        file.write_bytes(picture(kind="PNG"))
    (root / "again").symlink_to(root / "real")  # sorts before what it points to, which is read under its real name
    (root / "linked").symlink_to(other)
    (root / "linked_too").symlink_to(other)
    (root / "up").symlink_to(tmp_path)
    (root / "real" / "loop").symlink_to(root)
    (other / "inner" / "loop").symlink_to(other)
    (root / "knot").symlink_to(root / "knot")
    (root / "file.png").symlink_to(other / "inner" / "b.png")
    result = find_images(root)
    assert names(result, root) == ["file.png", "linked/inner/b.png", "real/a.png"]
    assert result.ignored == {
        "linked folder that leads back": 2,
        "linked folder that was read already": 3,
        "without an ending": 1,
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(E2FashionError, match=r"the folder '.*closed' cannot be read"):
        find_images(tmp_path)


def test_only_an_ending_of_images_is_no_part_of_a_name() -> None:
    assert [without_ending(Path(name)).name for name in ("a.JPG", "b.v2", "c.v2.png", "d", "e.heic")] == [
        *("a", "b.v2", "c.v2", "d", "e"),
    ]


def test_heic_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(HEIC)
    with pytest.raises(ImageError, match=r"x\.jpg' .* bytes of HEIC. Remedy: convert it to JPEG"):
        read_image(tmp_path / "x.jpg")


def test_an_error_goes_through_pickle() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(ImageError("reason", "value", "remedy", "file")))
    assert (str(error), error.file) == ("'file' cannot be read as an image: reason, value. Remedy: remedy.", "file")
