"""What lies in a folder, without what differs between two runs of the same command: times, memory, process numbers."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import yaml

#: Keys of JSON files and records whose values are measured anew by every run, or say when and how it was called.
MEASURED = {"seconds", "peak_memory_mb", "command", "created", "time", "loggers", "images_per_second", "commit"}
#: A checksum over the other values, measured ones among them.
SEAL = "checksum"
#: Files of which only the presence counts: what was logged, and locks.
PRESENT = re.compile(r"(log\.txt|.*\.log|.*\.lock)")
#: Durations in pages for people.
_DURATION = re.compile(r"\b\d+(\.\d+)? ?(s|min|h|seconds|MB)\b")


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and empty folder below ``folder`` with what identifies its content."""
    contents: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            contents[name] = f"link to {path.readlink()}"
        elif path.is_file():
            contents[name] = "present" if PRESENT.fullmatch(path.name) else _digest(path)
        elif path.is_dir() and not any(path.iterdir()):
            contents[name] = "empty folder"
    return contents


def compare(contents: dict[str, str], expected: dict[str, str]) -> tuple[list[str], list[str]]:
    """What is missing or differs, and what is left over."""
    lost = [name for name, digest in expected.items() if contents.get(name) != digest]
    return lost, sorted(contents.keys() - expected.keys())


def _digest(file: Path) -> str:
    data = file.read_bytes()
    try:
        if file.suffix == ".json":
            data = _canonical(json.loads(data))
        elif file.suffix == ".jsonl":
            # A measurement that is repeated stands twice: the tables read the last.
            data = b"\n".join(dict.fromkeys(_canonical(json.loads(line)) for line in data.splitlines()))
        elif file.suffix in (".yaml", ".yml"):
            data = _canonical(yaml.safe_load(data))
        elif file.suffix == ".safetensors":  # the order of the header's keys is chance
            length = int.from_bytes(data[:8], "little")
            data = _canonical(json.loads(data[8 : 8 + length])) + data[8 + length :]
        elif file.name == "metrics.csv":
            rows = list(csv.DictReader(io.StringIO(data.decode())))
            data = _canonical([{key: row[key] for key in row if "per_second" not in str(key)} for row in rows])
        elif file.suffix == ".md":
            data = _DURATION.sub("some time", data.decode()).encode()
    except ValueError:
        return f"unreadable {hashlib.sha256(data).hexdigest()[:16]}"
    return hashlib.sha256(data).hexdigest()[:16]


def _canonical(value: Any) -> bytes:
    return json.dumps(_unmeasured(value), sort_keys=True).encode()


def _unmeasured(value: Any) -> Any:
    if isinstance(value, dict):
        # Logs, of which a record lists size and checksum, hold durations.
        keys = [key for key in value if key not in MEASURED and key != SEAL and not key.startswith("logs/")]
        return {key: _unmeasured(value[key]) for key in keys}
    return [_unmeasured(item) for item in value] if isinstance(value, list) else value
