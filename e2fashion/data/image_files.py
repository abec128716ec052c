"""Files that may be images: which of a folder's are, and how one is opened without waiting or reading too much."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from e2fashion.disk import real_path
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: Formats of Pillow that are read. EPS and WMF would start other programs, FITS unpacks without a bound, and icons hold
#: several images of sizes that their header does not give.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "PPM"),  # first: Pillow imports the plugins of the others when it comes to them
    *("WEBP", "AVIF", "TIFF", "JPEG2000", "DIB", "PCX", "PSD", "QOI", "SGI", "TGA"),
)
#: Endings that make a file an image before it is opened; other files are looked into.
ENDINGS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif", ".avifs"),
        *(".tif", ".tiff", ".bmp", ".dib", ".jp2", ".j2c", ".j2k", ".jpc", ".jpf", ".jpx"),
        *(".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".tga"),
    }
)
#: What is most often meant; error messages name these.
COMMON_FORMATS = "JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, JPEG 2000"
HEIC_ENDINGS = frozenset({".heic", ".heif", ".hif"})
HEIC_REMEDY = "convert it to JPEG (HEIC needs a decoder that Pillow does not bring)"

_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
    *(b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"8BPS", b"qoif"),
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # lengths of a BMP's second header, in its bytes 14 to 17
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
SIGNATURE_BYTES = 64
SHOWN_CHARACTERS = 300


class ImageError(E2FashionError):
    """An image that cannot be used: ``reason`` (kind of damage), ``value`` (what it holds), ``remedy``, ``file``.

    The message never holds content of the file: a path may name a file that its reader should not see.
    """

    def __init__(self, reason: str, value: str, remedy: str, file: str | None = None) -> None:
        shown = file if file is None or len(file) <= SHOWN_CHARACTERS else f"{file[:SHOWN_CHARACTERS]}..."
        subject = "An image cannot be read" if shown is None else f"'{shown}' cannot be read as an image"
        super().__init__(f"{subject}: {reason}, {value}. Remedy: {remedy}.")
        self.reason, self.value, self.remedy, self.file = reason, value, remedy, file

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, str, str | None]]:
        return type(self), (self.reason, self.value, self.remedy, self.file)  # worker processes send it

    def of(self, file: str) -> ImageError:
        """The same error of a file."""
        return ImageError(self.reason, self.value, self.remedy, file)


def open_regular(file: Path | str, most_bytes: int) -> BinaryIO:
    """A regular file, opened to read: pipes, devices, sockets and folders are refused, never waited for.

    Raises:
        ImageError: there is no such file, it is not a regular one, cannot be opened, or has more than ``most_bytes``.
    """
    name = str(file)
    try:
        _require_regular(Path(file).stat().st_mode, name)  # before opening, which alone may wake a device
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        stream = os.fdopen(descriptor, "rb")
        status = os.fstat(descriptor)
    except (FileNotFoundError, NotADirectoryError) as error:
        remedy = "download it: nothing is fetched" if "://" in name else "add the file, or correct its name"
        raise ImageError("missing image", "no such file", remedy, name) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        what = getattr(error, "strerror", None) or "its name is not valid"
        raise ImageError("unreadable image", what, "make it a readable file", name) from error
    try:
        _require_regular(status.st_mode, name)
        if status.st_size > most_bytes:
            value = f"{status.st_size:,} bytes, more than {most_bytes:,}"
            raise ImageError(
                "oversized image", value, "shrink the image, or raise max_pixels where it is an option", name
            )
    except ImageError:
        stream.close()
        raise
    return stream


def _require_regular(mode: int, name: str) -> None:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    if not stat.S_ISREG(mode):
        kind = next((word for is_kind, word in kinds.items() if is_kind(mode)), "a device")
        raise ImageError("no regular file", f"it is {kind}", "give the file of an image", name)


@dataclass(frozen=True)
class FoundImages:
    """The images of a folder, sorted, and how many other files it holds by ending (or by what they are)."""

    files: list[Path]
    ignored: Mapping[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """What is ignored, most frequent first, in one line; empty where nothing is."""
        if not self.ignored:
            return ""
        ranked = sorted(self.ignored.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count:,} {ending}" for ending, count in ranked)
        heic = f"; HEIC: {HEIC_REMEDY}" if HEIC_ENDINGS & self.ignored.keys() else ""
        return f"{sum(self.ignored.values()):,} ignored ({listed}){heic}"


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, and of a folder all images below it; a warning says what else it holds.

    Raises:
        E2FashionError: a folder without images, or that cannot be read.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = find_images(path)
        if inside.ignored:
            logger.warning("%s: %s", path, inside.words())
        if not inside.files:
            raise E2FashionError(f"the folder '{path}' holds no image ({COMMON_FORMATS})")
        files += inside.files
    return files


def find_images(folder: Path) -> FoundImages:
    """Every image below a folder, by its ending or its first bytes; all else is counted.

    Linked folders are read once, after the real ones; links that lead back to a folder around them are counted.

    Raises:
        E2FashionError: a folder cannot be read.
    """
    root = real_path(folder)
    seen: set[tuple[int, int]] = set()
    files: list[Path] = []
    ignored: Counter[str] = Counter()
    links = [folder]
    while links:
        link = links.pop(0)
        if link != folder and root.is_relative_to(real_path(link)):
            ignored["linked folder that leads back"] += 1
            continue
        waiting = [link]
        while waiting:
            current = waiting.pop()
            status = current.stat()
            if (identity := (status.st_dev, status.st_ino)) in seen:
                ignored["linked folder that was read already"] += 1
                continue
            seen.add(identity)
            for entry in _entries(current):
                path = current / entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif path.is_dir():
                    links.append(path)
                elif is_image_file(path):
                    files.append(path)
                else:
                    ignored[ending_of(path)] += 1
    return FoundImages(sorted(files), dict(ignored))


def is_image_file(file: Path) -> bool:
    """Whether a file's ending says that it is an image, or its first bytes do."""
    if file.name.startswith("._"):  # what macOS writes next to a file, with that file's ending
        return False
    if file.suffix.lower() in ENDINGS:
        return True
    with suppress(OSError):
        if file.is_file():
            with file.open("rb") as stream:
                return is_image(stream.read(SIGNATURE_BYTES))
    return False


def is_image(start: bytes) -> bool:
    """Whether a file that begins so is an image that can be decoded."""
    if start.startswith(_SIGNATURES) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return True
    if start.startswith(b"BM"):
        return int.from_bytes(start[14:18], "little") in _BMP_HEADERS
    if start[4:8] != b"ftyp":
        return False
    return start[8:12] in (b"avif", b"avis") or (start[8:12] in (b"mif1", b"msf1") and b"avif" in start[16:])


def is_heic(start: bytes) -> bool:
    """Whether a file that begins so is an HEIC image, which Pillow does not decode."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS and not is_image(start)


def ending_of(file: Path) -> str:
    """What a file that is ignored is counted as."""
    if file.name.startswith("._"):
        return "._* (macOS metadata)"
    return file.suffix.lower() or "without an ending"


def without_ending(file: Path) -> Path:
    """A path without the ending of an image; other endings are part of the name."""
    return file.with_suffix("") if file.suffix.lower() in ENDINGS | HEIC_ENDINGS else file


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise E2FashionError(f"the folder '{folder}' cannot be read ({error.strerror}): make it readable") from error
