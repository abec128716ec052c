"""Result tables: records to mean ± deviation, intervals and best values, in Markdown, LaTeX and CSV.

A task defines which records make a row and which a column (:func:`pivot`). :func:`to_markdown`, :func:`to_latex` and
:func:`to_csv` write the table; LaTeX also states what was measured, so that it can be pasted alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any, Literal

import pandas as pd

from e2fashion import escape
from e2fashion.types import ResultRecord

MISSING_VALUE = "n/a"
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """The number of a cell: the mean of ``n`` runs with their deviation, or the 95 % interval of a single run."""

    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Cell:
    """A text of a table; ``best``: strictly better than all other rows of its column; ``value``: its number."""

    text: str
    best: bool = False
    value: Value | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Measured:
    """What a table's numbers were measured on; those of a ``smoke`` test are meaningless."""

    data: str = ""
    scale: str = ""
    seeds: tuple[int, ...] = ()
    protocol: str = ""
    split: str = ""
    smoke: bool = False

    @classmethod
    def of(cls, records: Iterable[ResultRecord]) -> Measured:
        """The facts in the records themselves; data by the first digits of its fingerprint."""
        records = list(records)
        prints = dict.fromkeys(record.data_fingerprint[:12] for record in records if record.data_fingerprint)
        protocols = dict.fromkeys(record.protocol for record in records if record.protocol)
        return cls(
            data=", ".join(f"catalogue {print_}" for print_ in prints),
            seeds=tuple(sorted({record.seed for record in records})),
            protocol=", ".join(protocols),
            split=", ".join(dict.fromkeys(record.split for record in records)),
        )

    def line(self) -> str:
        """One line of text; empty if nothing is known."""
        parts = {
            "data": self.data,
            "scale": self.scale,
            "seeds": ", ".join(map(str, self.seeds)),
            "protocol": self.protocol,
        }
        known = "; ".join(f"{name}: {value}" for name, value in parts.items() if value)
        return ("SMOKE TEST, the numbers are meaningless; " if self.smoke else "") + known


@dataclass(frozen=True)
class Table:
    """Header, rows of cells, a caption (Markdown) and what was measured."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    measured: Measured = Measured()


@dataclass(frozen=True)
class Column:
    """A column of numbers: the records that ``key`` selects.

    ``best`` is the rounded value to print in bold ("": none); ``interval`` shows the 95 % interval of a single record;
    ``spread`` gives the deviation of records that are means themselves (None: over the records of a cell); ``note`` is
    appended to the number.
    """

    title: str
    key: Hashable
    digits: int = 1
    best: Literal["max", "min", ""] = "max"
    interval: bool = False
    signed: bool = False
    thousands: bool = False
    spread: Callable[[ResultRecord], float | None] | None = None
    note: Callable[[Sequence[ResultRecord]], str] | None = None

    def shown(self, value: Value) -> str:
        """``12.3 ± 0.4``, ``12.3 [11.9, 12.8]`` or ``12.3``."""
        if value.sd is not None:
            return f"{self.number(value.mean)} ± {value.sd:.{self.digits}f}"
        if self.interval and value.low is not None and value.high is not None:
            return f"{self.number(value.mean)} [{self.number(value.low)}, {self.number(value.high)}]"
        return self.number(value.mean)

    def number(self, value: float) -> str:
        """A number with the column's digits."""
        return f"{value:{'+' if self.signed else ''}{',' if self.thousands else ''}.{self.digits}f}"


@dataclass(frozen=True)
class Fact:
    """A column of text derived from the records of a row."""

    title: str
    text: Callable[[Sequence[ResultRecord]], str]


@dataclass(frozen=True)
class KnownRow:
    """A row of known numbers by the columns' keys (missing ones are ``n/a``), never counted as best.

    It comes first, ``last``, or after the measured row with the key ``after`` if there is one.
    """

    labels: Labels
    values: Mapping[Any, float | None]
    after: Hashable = None
    last: bool = False


def pivot(
    records: Sequence[ResultRecord],
    heads: Labels,
    columns: Sequence[Column | Fact],
    row: Callable[[ResultRecord], Hashable],
    column: Callable[[ResultRecord], Hashable],
    *,
    rows: Iterable[Any] | None = None,
    labels: Callable[[Any, Sequence[ResultRecord]], Labels] | None = None,
    rivals: Callable[[Any], Hashable] = lambda row: None,
    known: Sequence[KnownRow] = (),
    caption: str = "",
) -> Table:
    """A row per value of ``row``, in the order of the records or of ``rows``; cells by ``column``.

    Several records of a cell become mean ± standard deviation. The best printed value of a column is bold among the
    rows of equal ``rivals`` (default: all rows); ties are not bold. ``labels`` are the texts below ``heads`` (default:
    the row's key, a text or a tuple of texts).
    """
    of_row: dict[Hashable, list[ResultRecord]] = {key: [] for key in rows or ()}
    for record in records:
        if rows is None or row(record) in of_row:
            of_row.setdefault(row(record), []).append(record)
    keys = list(of_row)
    values = {
        item.key: {
            key: summarize(chosen, item.spread)
            for key, group in of_row.items()
            if (chosen := [record for record in group if column(record) == item.key])
        }
        for item in columns
        if isinstance(item, Column)
    }
    bold = {item.key: _best(item, values[item.key], rivals) for item in columns if isinstance(item, Column)}

    def cell(item: Column | Fact, key: Hashable) -> Cell:
        if isinstance(item, Fact):
            return Cell(item.text(of_row[key]))
        if (value := values[item.key].get(key)) is None:
            return Cell(MISSING_VALUE)
        note = item.note([one for one in of_row[key] if column(one) == item.key]) if item.note else ""
        return Cell(item.shown(value) + note, key in bold[item.key], value)

    lines = [known_row(one, columns) for one in known if not one.last and one.after not in of_row]
    for key in keys:
        texts = labels(key, of_row[key]) if labels else key if isinstance(key, tuple) else (str(key),)
        lines.append((*map(Cell, texts), *(cell(item, key) for item in columns)))
        lines += [known_row(one, columns) for one in known if one.after == key and not one.last]
    lines += [known_row(one, columns) for one in known if one.last]
    header = (*heads, *(item.title for item in columns))
    return Table(header, tuple(lines), caption, Measured.of(record for group in of_row.values() for record in group))


def summarize(records: Sequence[ResultRecord], spread: Callable[[ResultRecord], float | None] | None = None) -> Value:
    """Mean and deviation of the values of several records, or value and interval of one; ``spread`` as in a column."""
    values = [record.value for record in records]
    if spread is None:
        sd = stdev(values) if len(values) > 1 else None
    else:
        spreads = [known for record in records if (known := spread(record)) is not None]
        sd = fmean(spreads) if spreads else None
    low, high = (records[0].low, records[0].high) if len(values) == 1 else (None, None)
    return Value(fmean(values), sd, low, high, len(values))


def _best(item: Column, values: Mapping[Hashable, Value], rivals: Callable[[Any], Hashable]) -> set[Hashable]:
    """The rows whose value is better than those of all rivals."""
    if not item.best or not values:
        return set()
    printed = pd.Series([float(f"{value.mean:.{item.digits}f}") for value in values.values()])
    printed = printed if item.best == "max" else -printed
    groups = printed.groupby([str(rivals(key)) for key in values])
    alone = printed.eq(groups.transform("max")) & groups.rank(method="max", ascending=False).eq(1)
    return {key for key, best in zip(values, alone & groups.transform("size").gt(1), strict=True) if best}


def known_row(row: KnownRow, columns: Sequence[Column | Fact]) -> tuple[Cell, ...]:
    """The cells of known numbers under ``columns``."""
    cells = []
    for item in columns:
        number = row.values.get(item.key) if isinstance(item, Column) else None
        if number is None or isinstance(item, Fact):
            cells.append(Cell(MISSING_VALUE))
        else:
            cells.append(Cell(item.number(number), value=Value(number)))
    return (*map(Cell, row.labels), *cells)


def with_columns(
    table: Table, titles: Sequence[str], cells: Mapping[str, Sequence[Cell]], position: int | None = None
) -> Table:
    """The table with columns added at index ``position`` (None: the end): cells by a row's first text, else ``n/a``."""
    position = len(table.header) if position is None else position
    unknown = [Cell(MISSING_VALUE)] * len(titles)
    rows = tuple((*row[:position], *cells.get(row[0].text, unknown), *row[position:]) for row in table.rows)
    return replace(table, header=(*table.header[:position], *titles, *table.header[position:]), rows=rows)


def without_repeats(tables: Mapping[str, Table]) -> dict[str, Table]:
    """The tables by name without those that repeat an earlier one, whose caption then mentions the repetition.

    Equal values on another split or by another protocol are results of their own.
    """

    def content(table: Table) -> tuple[object, ...]:
        return table.header, table.rows, table.measured.split, table.measured.protocol

    kept: dict[str, Table] = {}
    for name, table in tables.items():
        same = next((other for other, one in kept.items() if content(one) == content(table)), None)
        if same is None:
            kept[name] = table
        else:
            caption = f"{kept[same].caption} The same values hold for: {table.caption}"
            kept[same] = replace(kept[same], caption=caption)
    return kept


def to_markdown(table: Table) -> str:
    """A GitHub table with the caption below."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def shown(cell: Cell) -> str:
        text = escape.markdown(cell.text)
        return f"**{text}**" if cell.best else text

    lines = [line(map(escape.markdown, table.header)), line(["---", *["---:"] * (len(table.header) - 1)])]
    lines += [line(map(shown, cells)) for cells in table.rows]
    return "\n".join([*lines, *(["", escape.visible(table.caption, keep="\n")] if table.caption else [])]) + "\n"


def to_latex(table: Table) -> str:
    """A ``table`` with booktabs rules; a comment above and the caption state what was measured."""

    def shown(cell: Cell) -> str:
        text = escape.latex(cell.text)
        return f"\\textbf{{{text}}}" if cell.best else text

    measured = table.measured.line()
    comments = [f"% {escape.visible(text)}" for text in (measured, table.caption) if text]
    caption = " ".join([_prose_latex(table.caption), *([f"({escape.latex(measured)})"] if measured else [])]).strip()
    numbers = [any(row[index].value for row in table.rows) for index in range(len(table.header))]
    lines = [*comments, r"\begin{table}[t]", r"\centering", *([f"\\caption{{{caption}}}"] if caption else [])]
    lines += [f"\\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numbers)}}}", r"\toprule"]
    lines += [" & ".join(map(escape.latex, table.header)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(shown, cells)) + r" \\" for cells in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _prose_latex(text: str) -> str:
    """Markdown prose for LaTeX: code spans in a typewriter font."""
    parts = re.split(r"(`+)(.*?)\1", text)
    return "".join(
        f"\\texttt{{{escape.latex(part.strip())}}}" if index % 3 == 2 else escape.latex(part) if index % 3 == 0 else ""
        for index, part in enumerate(parts)
    )


def to_frame(table: Table) -> pd.DataFrame:
    """A row per number: the row's texts, ``metric`` (its heading), ``value``, ``sd``, ``low``, ``high`` and ``n``.

    ``n`` is the number of runs of a mean, missing for known numbers. A table without numbers is unchanged.
    """
    numbers = [index for index in range(len(table.header)) if any(row[index].value for row in table.rows)]
    texts = [index for index in range(len(table.header)) if index not in numbers]
    if not numbers:
        return pd.DataFrame([[cell.text for cell in row] for row in table.rows], columns=list(table.header))
    lines = []
    for row in table.rows:
        for index in numbers:
            value = row[index].value or Value(float("nan"))
            labels = [row[text].text for text in texts]
            lines.append([*labels, table.header[index], value.mean, value.sd, value.low, value.high, value.n])
    header = [*(table.header[index] for index in texts), "metric", "value", "sd", "low", "high", "n"]
    frame = pd.DataFrame(lines, columns=header)
    return frame.astype({"value": float, "sd": float, "low": float, "high": float, "n": "Int64"})


def to_csv(table: Table) -> str:
    """:func:`to_frame` as comma-separated values; unknown values are empty."""
    text: str = to_frame(table).to_csv(index=False, float_format="%.10g", lineterminator="\n")
    return text
