"""Damaged files for every reader, each read in a forked worker that is bounded in time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.torture.child import run_in_child
from scripts.torture.mutations import mutate
from scripts.torture.scene import copy_tree, outcome

#: Seconds that one input may take; beyond, it hangs.
PATIENCE = 30.0
#: Memory that a worker may take beyond what it starts with.
MEMORY = 1 << 30
#: Inputs of one worker: what leaks ends with it.
BATCH = 400
#: One of this many inputs is not a damaged file but something else at its path.
ODD_PLACES = 60


@dataclass(frozen=True)
class Reader:
    """Something that reads files: ``read`` gets a copy of ``folder`` and which of ``files`` is damaged in it.

    ``files`` are patterns. ``read`` returns, or raises an ``E2FashionError``; all else is a fault. ``weight`` is its
    share of the inputs; one that ``writes`` gets a fresh copy every time.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    read: Callable[[Path, Path], object]
    weight: float = 1.0
    writes: bool = False

    def choices(self) -> list[Path]:
        """The files that are damaged, relative to the folder."""
        files = {path for pattern in self.files for path in self.folder.glob(pattern) if path.is_file()}
        return sorted(path.relative_to(self.folder) for path in files)


class WrongResultError(Exception):
    """A reader ended well with a result that cannot be right."""


@dataclass
class FuzzFigures:
    """What a series of inputs came to; ``faults`` by signature, each with its first input."""

    name: str
    inputs: int = 0
    read: int = 0
    explained: int = 0
    unexplained: int = 0
    hangs: int = 0
    peak_mb: float = 0.0
    slowest: float = 0.0
    seconds: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every input was read or explained."""
        return not (self.unexplained or self.hangs)


def fuzz(reader: Reader, inputs: int, seed: int, folder: Path, first: int = 0) -> FuzzFigures:
    """Read ``inputs`` damaged copies, numbered from ``first``; those with a new fault are kept below ``folder``.

    Raises:
        RuntimeError: the undamaged input cannot be read: all would count as explained.
    """
    intact = copy_tree(reader.folder, folder / "intact")

    def read() -> int:
        reader.read(intact, reader.choices()[0])
        return 0

    ended = run_in_child(read, intact)
    if ended.code != 0:
        raise RuntimeError(f"the reader '{reader.name}' fails on its undamaged input: {outcome(ended)}")
    shutil.rmtree(intact)
    figures, started = FuzzFigures(reader.name), time.monotonic()
    at = first
    while at < first + inputs:
        at = _worker(reader, at, min(at + BATCH, first + inputs), seed, folder, figures)
    figures.seconds = time.monotonic() - started
    return figures


def damaged_input(reader: Reader, number: int, seed: int, workdir: Path) -> Path:
    """Damage a file of ``workdir``, a whole copy of the reader's folder, as input ``number`` has it; which file."""
    chance = random.Random(f"{seed} {reader.name} {number}")
    files = reader.choices()
    file = chance.choice(files)
    target = workdir / file
    if chance.randrange(ODD_PLACES) == 0:
        target.unlink()
        _something_else(target, chance)
        return file
    data = (reader.folder / file).read_bytes()
    others = [(reader.folder / other).read_bytes() for other in chance.sample(files, min(2, len(files)))]
    target.write_bytes(mutate(data, file, others, chance))
    return file


def _something_else(target: Path, chance: random.Random) -> None:
    """Nothing, a folder, a link that leads nowhere or in a circle, a pipe that nobody writes to, an endless device."""
    kind = chance.randrange(6)
    if kind == 1:
        target.mkdir()
    elif kind == 2:
        target.symlink_to(target.parent / "nowhere")
    elif kind == 3:
        target.symlink_to(target)
    elif kind == 4:
        os.mkfifo(target)
    elif kind == 5:
        target.symlink_to("/dev/zero")


def _worker(reader: Reader, start: int, stop: int, seed: int, folder: Path, figures: FuzzFigures) -> int:
    """Read inputs in one forked process; the number of the next that is to be read."""
    receiver, sender = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(receiver)
        _work(reader, start, stop, seed, folder, sender)
    os.close(sender)
    at, hung, pending = start - 1, False, b""
    with os.fdopen(receiver, "rb", buffering=0) as stream:
        while True:
            if not select.select([stream], [], [], PATIENCE)[0]:
                hung = True
                os.kill(pid, signal.SIGKILL)
                break
            chunk = stream.read(65_536)
            if not chunk:
                break
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                at = _take(json.loads(line), at, figures)
    _, status = os.waitpid(pid, 0)
    if hung:
        figures.hangs += 1
        _keep(reader, at, seed, folder, "hang", f"no end within {PATIENCE:.0f} s", figures)
    elif status:
        figures.unexplained += 1
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
        _keep(reader, at, seed, folder, f"the process ended by {how}", "", figures)
    return at + 1


def _take(message: dict[str, Any], at: int, figures: FuzzFigures) -> int:
    """One line of a worker: an input begins, or what became of it."""
    if "begin" in message:
        figures.inputs += 1
        return int(message["begin"])
    figures.slowest = max(figures.slowest, message["seconds"])
    figures.peak_mb = max(figures.peak_mb, message["peak_mb"])
    kind = message["kind"]
    setattr(figures, kind, getattr(figures, kind) + 1)
    if kind == "unexplained":
        figures.faults.setdefault(message["signature"], message["kept"])
    return at


def _keep(
    reader: Reader, number: int, seed: int, folder: Path, signature: str, text: str, figures: FuzzFigures
) -> None:
    """Make the input once more, and keep its damaged file next to what it came to."""
    kept = folder / re.sub(r"\W+", "_", reader.name) / str(number)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(reader.folder, kept)
    file = damaged_input(reader, number, seed, kept)
    (kept / "fault.txt").write_text(f"{file}: {signature}\n{text}", encoding="utf-8", errors="backslashreplace")
    figures.faults.setdefault(signature, f"{kept} ({file})")


def _work(reader: Reader, start: int, stop: int, seed: int, folder: Path, sender: int) -> None:
    """What a worker does; never returns."""
    from e2fashion.types import E2FashionError

    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    warnings.simplefilter("ignore")
    base = _memory()
    virtual_memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual_memory + MEMORY,) * 2)
    workdir = folder / f"worker_{os.getpid()}"
    local = FuzzFigures(reader.name)
    shutil.copytree(reader.folder, workdir)
    os.chdir(workdir)
    for number in range(start, stop):
        _say(sender, {"begin": number})
        file = damaged_input(reader, number, seed, workdir)
        began, signature, kind, trace = time.monotonic(), "", "read", ""
        try:
            reader.read(workdir, file)
        except E2FashionError as error:
            kind = "explained"
            if not str(error).strip() or "Traceback" in str(error):
                kind, signature = "unexplained", f"an E2FashionError that says {str(error)[:100]!r}"
        except BaseException as error:
            kind, signature, trace = "unexplained", signature_of(error), traceback.format_exc()[-6_000:]
        message = {"kind": kind, "seconds": time.monotonic() - began, "peak_mb": (_memory() - base) / 1e6}
        if signature:
            if signature not in local.faults:
                _keep(reader, number, seed, folder, signature, trace, local)
            message |= {"signature": signature, "kept": local.faults[signature]}
        _say(sender, message)
        _restore(reader, workdir, file)
    shutil.rmtree(workdir, ignore_errors=True)
    os._exit(0)


def _restore(reader: Reader, workdir: Path, file: Path) -> None:
    target = workdir / file
    if reader.writes:
        shutil.rmtree(workdir)
        shutil.copytree(reader.folder, workdir)
        os.chdir(workdir)
        return
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    shutil.copy2(reader.folder / file, target)


def signature_of(error: BaseException) -> str:
    """An exception by its type, where it left our code, where it rose, and its text without what varies."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/e2fashion/" in frame.filename]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    rose = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
    text = re.sub(r"0x[0-9a-f]+|\d+", "N", " ".join(str(error).split()))[:60]
    return f"{type(error).__name__} in {where}, from {rose}: {text}"


def _say(sender: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(sender, json.dumps(message).encode() + b"\n")


def _memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
