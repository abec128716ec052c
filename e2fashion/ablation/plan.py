"""Read an ablation file into its runs: each row checked against the base, each run with its identity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from e2fashion.ablation.config import AblationConfig
from e2fashion.config import keys_of, load_config
from e2fashion.disk import checked_name
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import NOT_IDENTITY, NOT_IDENTITY_LOADER, differences, run_identity
from e2fashion.types import E2FashionError

#: Mappings with free keys.
MAPPINGS = ("model.entities", "train.stages")
#: Keys of a run that a row may not change: they belong to the sweep, or do not affect the result.
NOT_A_ROWS = ("seed", *NOT_IDENTITY, *(f"loader.{key}" for key in NOT_IDENTITY_LOADER))


@dataclass(frozen=True)
class PlannedRun:
    """One row with one seed: its configuration and ``identity``, which is equal for equal computations."""

    row: str
    seed: int
    config: RunConfig
    identity: str

    @property
    def name(self) -> str:
        """Name in lists and for ``--only``."""
        return f"{self.row}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Its folder, unless a finished run of the same identity is elsewhere."""
        return Path(self.config.output)


@dataclass(frozen=True)
class Ablation:
    """A checked ablation.

    ``changes`` are the differences from the base by row: dotted keys with the base's and the row's value;
    ``overrides`` the same in the form of the command line, ``arguments`` the file and overrides of the ablation.
    ``left_out`` has the reason for each optional row that does not apply to the base.
    """

    name: str
    folder: Path
    data: str
    base: str
    baseline: str | None
    seeds: tuple[int, ...]
    changes: Mapping[str, Mapping[str, tuple[Any, Any]]]
    overrides: Mapping[str, str]
    left_out: Mapping[str, str]
    runs: tuple[PlannedRun, ...]
    reuse: tuple[Path, ...] = ()
    arguments: tuple[str, ...] = ()

    def on(self, data_fingerprint: str) -> Ablation:
        """The same ablation with the identities of its runs on a catalogue with this fingerprint."""
        runs = (replace(run, identity=run_identity(run.config, data_fingerprint)) for run in self.runs)
        return replace(self, runs=tuple(runs))

    def chosen(self, only: Sequence[str]) -> tuple[PlannedRun, ...]:
        """The runs of the rows (``soft``) or single runs (``soft/seed1``) in ``only``; all where it is empty.

        Raises:
            E2FashionError: an unknown name; the message suggests the nearest.
        """
        names = [*self.changes, *(run.name for run in self.runs)]
        for wanted in only:
            if wanted in self.left_out:
                raise E2FashionError(f"{self.name}: row '{wanted}' is left out: {self.left_out[wanted]}.")
            if wanted not in names:
                raise E2FashionError(f"{self.name} has no row '{wanted}'.{_suggestion(wanted, names)}")
        return tuple(run for run in self.runs if not only or run.row in only or run.name in only)


def load_ablation(file: str | Path, overrides: Sequence[str] = ()) -> Ablation:
    """Read an ablation file, and resolve and check all its rows.

    ``overrides`` of the form ``key=value`` change the ablation if the key is one of :class:`AblationConfig`, else the
    base. Identities are without data, see :meth:`Ablation.on`.

    Raises:
        E2FashionError: an unknown key, a row that changes a key without naming it, two rows that compute the same, an
            unknown baseline.
    """
    file = Path(file)
    mine = [item for item in overrides if item.partition("=")[0].partition(".")[0] in keys_of(AblationConfig)]
    shared = [item for item in overrides if item not in mine]
    config = load_config(AblationConfig, file, mine)
    if config.name is None:  # the folder is named after it
        config = load_config(AblationConfig, file, [*mine, f"name={file.stem}"])
    _check_settings(file, config, shared)
    base_file = Path(config.base) if any(item.startswith("base=") for item in mine) else file.parent / config.base
    shared += [f"data={config.data}", f"evaluate_splits={','.join(config.split)}"]
    base = load_config(RunConfig, base_file, shared)
    rows, left_out = _rows(file, config, base)
    changes: dict[str, dict[str, tuple[Any, Any]]] = {}
    changed: dict[str, RunConfig] = {}
    for row, values in rows.items():
        origin = f"{file}, row '{row}'"
        changed[row] = load_config(RunConfig, base_file, shared, values, origin)
        changes[row] = differences(base, changed[row])
        _check_only_named(origin, values, changes[row])
    runs = [_planned(row, seed, run, Path(config.output)) for row, run in changed.items() for seed in config.seeds]
    _check_distinct(file, runs)
    return Ablation(
        name=config.name or file.stem,
        folder=Path(config.output),
        data=config.data,
        base=base.name,
        baseline=None if config.baseline in left_out else config.baseline,
        seeds=tuple(config.seeds),
        changes=changes,
        overrides={row: _typed(rows[row], changes[row]) for row in rows},
        left_out=left_out,
        runs=tuple(runs),
        reuse=tuple(map(Path, config.reuse)),
        arguments=(str(file), *overrides),
    )


def _planned(row: str, seed: int, changed: RunConfig, folder: Path) -> PlannedRun:
    from e2fashion.training import build  # here, so that errors in the file are reported before PyTorch is imported

    run, _ = build.resolve_arithmetic(replace(changed, name=row, seed=seed, output=str(folder / row / f"seed{seed}")))
    return PlannedRun(row, seed, run, run_identity(run, ""))


def _check_settings(file: Path, config: AblationConfig, shared: Sequence[str]) -> None:
    """Checks that need no base: seeds, names of rows, the baseline, keys that the sweep sets."""
    checked_name("name", config.name or "")
    if not config.rows:
        raise E2FashionError(
            f"{file} has no rows: write at least one, as in `rows: {{soft: {{model.selection: soft}}}}`."
        )
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise E2FashionError(f"{file}: seeds is {config.seeds}; give at least one, and each once.")
    for name in config.rows:
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise E2FashionError(f"{file}: row '{name}' names a folder: use letters, digits, '_', '-', '+' and '.'.")
    for named, names in (("baseline", [config.baseline] if config.baseline else []), ("optional", config.optional)):
        for name in names:
            if name not in config.rows:
                suggestion = _suggestion(name, config.rows)
                raise E2FashionError(f"{file}: {named} is '{name}', which is not a row.{suggestion}")
    for override in shared:
        key = override.partition("=")[0]
        if instead := {"seed": "seeds=[0,1,2]", "evaluate_splits": "split=val,test"}.get(key):
            raise E2FashionError(f"'{override}' is set for each run of an ablation: write {instead}.")


def _rows(file: Path, config: AblationConfig, base: RunConfig) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The rows as flat keys and values, with ``*`` expanded; and the optional ones that do not apply to the base."""
    values = asdict(base)
    rows: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for name, given in config.rows.items():
        origin = f"{file}, row '{name}'"
        if not isinstance(given, Mapping | None):
            raise E2FashionError(f"{origin} is {given!r}; a row maps keys to values, as in {{model.selection: soft}}.")
        row = dict(_expanded(values, _flat_row(given or {})))
        for key in row:
            if any(key == name or key.startswith(f"{name}.") for name in NOT_A_ROWS):
                raise E2FashionError(
                    f"{origin} names '{key}', which belongs to the whole ablation: give it on the command line "
                    f"({'seeds' if key == 'seed' else key}=<value>)."
                )
        removes_nothing = [
            f"removes {key}, which the base lacks {others}"
            for key, value in row.items()
            if value is None and (others := _others(values, key))
        ]
        if removes_nothing and name not in config.optional:
            raise E2FashionError(f"{origin} {removes_nothing[0]}.")
        changes_nothing = [
            f"changes {key}, but the base lacks {member} {others}"
            for key in row
            if (member := key.rpartition(".")[0]) and (others := _others(values, member))
        ]
        if removes_nothing or (changes_nothing and name in config.optional):
            left_out[name] = (removes_nothing + changes_nothing)[0]
        else:
            rows[name] = row
    return rows, left_out


def _flat_row(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a row that may be nested; an empty mapping is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat_row(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _expanded(base: dict[str, Any], row: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for key, value in row:
        before, star, after = key.partition(".*.")
        if not star:
            yield key, value
            continue
        members = _at(base, before)
        for name, content in members.items() if isinstance(members, dict) else ():
            if content is not None:
                yield f"{before}.{name}.{after}", value


def _others(base: dict[str, Any], member: str) -> str:
    """The members of a mapping that lacks ``member``; empty if the base has it, or it is not in a mapping."""
    parent = member.rpartition(".")[0]
    if parent not in MAPPINGS or _at(base, member) is not None:
        return ""
    names = [name for name, content in _at(base, parent).items() if content is not None]
    return f"(it has {', '.join(names) or 'none'})"


def _at(values: dict[str, Any], key: str) -> Any:
    """The value at a dotted key; None if there is none."""
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _check_only_named(origin: str, named: Mapping[str, Any], changed: Mapping[str, tuple[Any, Any]]) -> None:
    for key, (before, after) in changed.items():
        if not any(key == name or key.startswith(f"{name}.") for name in named):
            raise E2FashionError(
                f"{origin} changes '{key}' from {before} to {after} without naming it: name it in the row, or set it "
                "explicitly in the base."
            )


def _typed(named: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """The row's effective changes as overrides of the command line."""
    return " ".join(
        f"{name}={'null' if value is None else value}"
        for name, value in named.items()
        if any(key == name or key.startswith(f"{name}.") for key in changed)
    )


def _check_distinct(file: Path, runs: Sequence[PlannedRun]) -> None:
    seen: dict[str, PlannedRun] = {}
    for run in runs:
        other = seen.setdefault(run.identity, run)
        if other is not run:
            raise E2FashionError(
                f"{file}: rows '{other.row}' and '{run.row}' compute the same (identity {run.identity}). "
                "Remove one of them."
            )


def _suggestion(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Rows: {', '.join(names)}."
