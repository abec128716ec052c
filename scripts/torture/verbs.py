"""Every verb that writes: its command, what lies there before, and what must stay readable whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.torture.child import fork_instead_of_starting, run_in_child
from scripts.torture.scene import PREPARED, Scene, copy_tree, outcome
from scripts.torture.snapshot import snapshot

#: What identifies the state of a folder that was there before; raises where it cannot be read.
Reading = Callable[[Path], object]


@dataclass(frozen=True)
class Writer:
    """One command, repeated unchanged after whatever interrupted it.

    ``before`` holds what lies in the working folder at the start (None: nothing). ``state`` reads what must be there at
    any moment, as it was before or as it will be: of a verb that adds to what is there (``grows``) at least what was.
    """

    name: str
    args: tuple[str, ...]
    before: Path | None = None
    state: Reading | None = None
    grows: bool = False
    forks: bool = False

    def action(self, scene: Scene) -> Callable[[], int]:
        """The command as an action of a child."""
        verb = scene.verb(self.args)

        def run() -> int:
            if self.forks:
                fork_instead_of_starting()
            return verb()

        return run


def catalogue_writers(scene: Scene) -> list[Writer]:
    """Those that need no model."""
    prepare = ("data", "prepare", "folder", f"path={scene.raw}", *PREPARED, "output=catalogue")
    before = _Before(scene).by("prepared", prepare)
    return [
        Writer("prepare", prepare),
        Writer("prepare overwrite=true", (*prepare, "split_seed=1", "overwrite=true"), before, catalogue),
    ]


def writers(scene: Scene) -> list[Writer]:
    """All of them; what lies there before is made on the way."""
    made = _Before(scene)
    data, run = f"data={scene.catalogue}", str(scene.need_run())
    train = ("train", str(scene.path / "run.yaml"), data, "output=run")
    ablate = ("ablate", str(scene.path / "ablation.yaml"), data, "output=sweep", "--jobs", "2")
    caption = ("caption", "train", str(scene.path / "caption.yaml"), f"encoder={run}", data, "output=decoder")
    export = ("export", run, "format=sentence_transformers", "output=export")
    other = ("export", str(scene.need_other_run()), "format=sentence_transformers", "output=export")
    finished = made.copied("finished", scene.run, "run")
    tags = ("tags", "fit", "run", data, "accuracy=0.5", "resamples=20")
    return [
        *catalogue_writers(scene),
        Writer("train", train),
        Writer("train, again", train, finished, run_folder, grows=True),
        Writer("ablate --jobs 2", ablate, forks=True),
        Writer("caption train", caption),
        Writer("probe", ("probe", "run", data, *PROBE), finished, run_folder, grows=True),
        Writer("evaluate", ("evaluate", "run", data, "split=test"), finished, run_folder, grows=True),
        Writer("tags fit", tags, finished, run_folder, grows=True),
        Writer("export", export),
        Writer("export overwrite=true", (*export, "overwrite=true"), made.by("exported", other), folder("export")),
        Writer("convert", ("convert", run, "target=open_clip", "lossy=true", "output=converted")),
    ]


PROBE = ("entity=brand", "min_examples=2", "resamples=20", "strengths=[0.1]", "max_iterations=50")


def catalogue(workdir: Path) -> object:
    """Every row of the catalogue, by its fingerprint."""
    from e2fashion.data.catalogue import Catalogue

    opened = Catalogue.load(workdir / "catalogue")
    rows = [opened.split(name)[:] for name in opened.manifest.splits]
    return (opened.fingerprint, [len(split["product_id"]) for split in rows])


def run_folder(workdir: Path) -> object:
    """The records, and the bytes of the model."""
    from e2fashion.records import read_records
    from e2fashion.run_folder import RunFolder

    run = RunFolder(workdir / "run")
    records = [record.as_dict() for record in read_records(run.results)]
    stages = sorted(run.read_record()["stages"])
    return [*map(repr, records), *stages, *sorted(snapshot(run.model).items())]


def folder(name: str) -> Reading:
    """Every file of a folder."""

    def read(workdir: Path) -> object:
        return sorted(snapshot(workdir / name).items())

    return read


class _Before:
    """Makes the folders that commands start from, each once."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def by(self, name: str, args: tuple[str, ...], start: Path | None = None) -> Path:
        """A working folder in which ``args`` have run."""
        workdir = self._scene.path / "before" / name
        if not workdir.exists():
            copy_tree(start, workdir)
            writer = replace(Writer(name, args))
            ended = run_in_child(writer.action(self._scene), workdir)
            if ended.code != 0:
                raise RuntimeError(f"{name}: {outcome(ended)}")
        return workdir

    def copied(self, name: str, source: Path, called: str) -> Path:
        """A working folder that holds a copy of ``source``."""
        place = self._scene.path / "before" / name
        if not place.exists():
            copy_tree(source, place / called)
        return place
