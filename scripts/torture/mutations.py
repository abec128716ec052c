"""Damaged copies of a file's bytes: random where nothing is known of its layout, structured where something is."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

Mutation = Callable[[bytes, random.Random], bytes]

#: Values on which parsers, sizes and arithmetic often fail.
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 255, 65_536, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), "", " ", "0", "-1", "nan", "null", "a" * 5_000, "\x00", "\x1b[31m", "é", "\ud800",
    "../../etc", "/", "..", "${oc.env:HOME}", "???", "{}", "a\nb", '"', [], {}, [[]], [None], {"": None},
)  # fmt: skip
ODD_TEXTS = (
    '"', '""', "'", ",", ";", "\t", "\r", "\r\n", "\n\n", "\x00", "\x1a", "\ufeff", "\u200b", "\u202e", "&amp;", "<b>",
    "${a}", "{", "}", "[", "]", ":", ": ", "- ", "#", "&a ", "*a ", "!!python/name:os.system", "1e999", "0x10", "010",
    "\\", "\\u0000", "é", "日本", "a" * 3_000, "<<: ", "~", "---\n", "?",
)  # fmt: skip
ODD_INTEGERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32_767, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def mutate(data: bytes, file: Path, others: Sequence[bytes], chance: random.Random) -> bytes:
    """One damaged copy of ``data``, the content of ``file``; ``others`` are contents to splice with."""
    structured = _STRUCTURED.get(file.suffix.lower())
    roll = chance.random()
    if structured is not None and data and roll < 0.55:
        return structured(data, chance)
    if others and roll > 0.95:
        other = chance.choice(others)
        return data[: _place(data, chance)] + other[_place(other, chance) :]
    if file.suffix.lower() in _TEXTS and roll < 0.8:
        return _text(data, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        data = chance.choice(_BYTES)(data, chance)
    return data


def _place(data: bytes, chance: random.Random) -> int:
    """An offset; the beginning of a file, where its header lies, more often than the rest."""
    end = min(len(data), chance.choice((16, 64, 512, len(data), len(data))))
    return chance.randint(0, end) if chance.random() < 0.8 else max(len(data) - chance.randint(0, 64), 0)


def _flip(data: bytes, chance: random.Random) -> bytes:
    at = min(_place(data, chance), max(len(data) - 1, 0))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :] if data else b"\x01"


def _overwrite(data: bytes, chance: random.Random) -> bytes:
    at, length = _place(data, chance), chance.choice((1, 2, 4, 8, 64))
    filler = chance.choice((b"\x00" * length, b"\xff" * length, chance.randbytes(length)))
    return data[:at] + filler + data[at + length :]


def _integer(data: bytes, chance: random.Random) -> bytes:
    at, form = _place(data, chance), chance.choice(("<I", ">I", "<H", ">H", "<Q", ">Q"))
    value = chance.choice(ODD_INTEGERS) % (1 << 8 * struct.calcsize(form))
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)]


def _delete(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + data[at + chance.choice((1, 2, 16, 300)) :]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + chance.randbytes(chance.choice((1, 4, 64))) + data[at:]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    at, length = _place(data, chance), chance.choice((1, 8, 64, 512))
    return data[:at] + data[at : at + length] * chance.choice((2, 2, 50)) + data[at + length :]


_BYTES: tuple[Mutation, ...] = (_flip, _flip, _overwrite, _integer, _cut, _delete, _insert, _repeat)


def _text(data: bytes, chance: random.Random) -> bytes:
    """A change that an editor, another program or another encoding makes."""
    text = data.decode("utf-8", errors="replace")
    at = chance.randint(0, len(text))
    lines = text.splitlines(keepends=True) or [""]
    line = chance.randrange(len(lines))
    kind = chance.randrange(8)
    if kind == 0:
        return text.encode(chance.choice(("utf-16", "utf-16-le", "utf-8-sig", "cp1252", "utf-32")), errors="replace")
    if kind == 1:
        return text.replace("\n", chance.choice(("\r\n", "\r", "\n\n", "\u2028"))).encode()
    if kind == 2:
        lines.insert(chance.randrange(len(lines) + 1), lines[line])
    elif kind == 3:
        del lines[line]
    elif kind == 4:
        lines[line] = lines[line].replace(chance.choice(",:;\"'[]{} "), chance.choice(ODD_TEXTS))
    elif kind == 5:
        chance.shuffle(lines)
    else:
        return _encoded(text[:at] + chance.choice(ODD_TEXTS) + text[at + chance.choice((0, 0, 1, 5)) :])
    return _encoded("".join(lines))


def _json(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.01:
        return b"[" * 100_000
    try:
        value = json.loads(data)
    except ValueError:
        return _text(data, chance)
    return _encoded(json.dumps(_changed(value, chance), indent=chance.choice((None, 1)), ensure_ascii=False))


def _json_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    at = chance.randrange(len(lines))
    lines[at] = _json(lines[at], chance).replace(b"\n", b" ") + b"\n"
    return b"".join(lines)


def _yaml(data: bytes, chance: random.Random) -> bytes:
    try:
        value = yaml.safe_load(data)
        return _encoded(yaml.safe_dump(_changed(value, chance), allow_unicode=True))
    except yaml.YAMLError:
        return _text(data, chance)


def _table(data: bytes, chance: random.Random) -> bytes:
    """Cells, rows and the header of a delimited table."""
    delimiter = "\t" if b"\t" in data.split(b"\n", 1)[0] else ","
    rows = list(csv.reader(io.StringIO(data.decode("utf-8", errors="replace")), delimiter=delimiter))
    at = chance.randrange(len(rows)) if chance.random() < 0.8 else 0
    row = rows[at] or [""]
    column, kind = chance.randrange(len(row)), chance.randrange(7)
    if kind == 0:
        row[column] = str(chance.choice(ODD_VALUES))
    elif kind == 1:
        row[column] = row[column] + chance.choice(ODD_TEXTS)
    elif kind == 2:
        del row[column]
    elif kind == 3:
        row.insert(column, chance.choice(ODD_TEXTS))
    elif kind == 4:
        rows.insert(at, row)
    elif kind == 5:
        for line in rows:
            line[column : column + 1] = []
    else:  # written without quoting: what a program does that knows no CSV
        row[column] = chance.choice(ODD_TEXTS) + row[column]
        return _encoded("\n".join(delimiter.join(line) for line in rows))
    stream = io.StringIO()
    csv.writer(stream, delimiter=chance.choice((delimiter, delimiter, delimiter, ";"))).writerows(rows)
    return _encoded(stream.getvalue())


def _safetensors(data: bytes, chance: random.Random) -> bytes:
    """The JSON header of a safetensors file, its length made right again."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = _json(data[8 : 8 + length], chance)
    except struct.error:
        return _flip(data, chance)
    stated = len(header) if chance.random() < 0.9 else chance.choice(ODD_INTEGERS)
    return struct.pack("<Q", stated) + header + data[8 + length :]


def _changed(value: Any, chance: random.Random) -> Any:
    """A copy in which one part, at any depth, is another: a value, a key, a length, a kind."""
    whole = {"": copy.deepcopy(value)}
    parents: list[tuple[Any, Any]] = []
    _collect(whole, parents)
    parent, key = chance.choice(parents)
    part, kind = parent[key], chance.randrange(9)
    if kind == 0 and parent is not whole:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict) and parent is not whole:
        parent[str(chance.choice(("", f"{key}x", "format", "type", "name")))] = parent.pop(key)
    elif kind == 2 and isinstance(part, bool | int | float):
        parent[key] = chance.choice((part + 1, part - 1, -part, part * 1000, float(part), str(part), part * 10**12))
    elif kind == 3 and isinstance(part, str):
        parent[key] = chance.choice((part[:-1], part + "x", part.upper(), part[::-1], [part], part + "/../" + part))
    elif kind == 4 and isinstance(part, list) and part:
        parent[key] = chance.choice((part[:-1], part + part[:1], part[::-1], part * 50, part[0]))
    elif kind == 5:
        other_parent, other_key = chance.choice(parents)
        parent[key] = copy.deepcopy(other_parent[other_key])
    elif kind == 6:
        parent[key] = chance.choice(([part], {"x": part}, [part] * 3))
    else:
        parent[key] = chance.choice(ODD_VALUES)
    return whole[""]


def _collect(value: Any, parents: list[tuple[Any, Any]]) -> None:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys)[:200]:
        parents.append((value, key))
        _collect(value[key], parents)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


_STRUCTURED: dict[str, Mutation] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".csv": _table,
    ".tsv": _table,
    ".safetensors": _safetensors,
}
_TEXTS = {".json", ".jsonl", ".yaml", ".csv", ".tsv", ".txt", ".md"}
