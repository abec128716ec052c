"""Tables as views of records: rows are models, columns metrics, and the best value of a column is bold."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from e2fashion.eval.retrieval.rankings import BOTH
from e2fashion.metrics.retrieval import DIRECTIONS, TOP_K
from e2fashion.types import E2FashionError, ResultRecord

MISSING_VALUE = "n/a"
Column = tuple[str, str]
"""Direction and metric, as in ``("i2t", "R@1")``."""

RETRIEVAL_COLUMNS: tuple[Column, ...] = (
    *((direction, f"R@{k}") for direction in DIRECTIONS for k in TOP_K),
    (BOTH, "SumR"),
)
TITLES = {"i2t": "I2T", "t2i": "T2I", BOTH: ""}


@dataclass(frozen=True)
class Cell:
    """A text of a table; ``best`` when no other row of its column is better."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Headings, rows of cells, and a caption that names protocol, split and numbers of queries and candidates."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


def retrieval_table(
    records: Sequence[ResultRecord],
    *,
    split: str,
    protocol: str,
    positives: str,
    text: str | None = None,
    models: Sequence[str] | None = None,
    columns: Sequence[Column] = RETRIEVAL_COLUMNS,
    published: Mapping[str, Mapping[Column, float]] | None = None,
    intervals: bool = False,
    digits: int = 1,
) -> Table:
    """One row per model (default: in the order of the records), one column per direction and metric.

    Records of several seeds or runs of a model become their mean ± standard deviation; with ``intervals`` a single
    one shows its 95 % interval. ``published`` adds rows of known numbers, which have no part in what is best: those
    of a model of ours stand below it, the others first; what is not known is ``n/a``. Higher is better, except for
    ``median_rank``.

    Raises E2FashionError when no record fits.
    """
    chosen = [
        record
        for record in records
        if (record.task, record.split, record.protocol, record.positives) == ("retrieval", split, protocol, positives)
        and text in (None, record.text)
        and (models is None or record.model in models)
    ]
    if not chosen:
        found = sorted({(r.split, r.protocol, r.positives, r.text) for r in records if r.task == "retrieval"})
        raise E2FashionError(
            f"no retrieval record has split '{split}', protocol '{protocol}', positives '{positives}', text {text!r} "
            f"and a model of {models}: there are {found}"
        )
    names = list(dict.fromkeys(record.model for record in chosen)) if models is None else list(models)
    values: dict[tuple[str, Column], list[ResultRecord]] = {}
    for record in chosen:
        values.setdefault((record.model, (record.direction, record.metric)), []).append(record)
    means = {key: statistics.fmean(item.value for item in own) for key, own in values.items()}
    known_rows = {
        name: [Cell(f"{known[c]:.{digits}f}" if c in known else MISSING_VALUE) for c in columns]
        for name, known in (published or {}).items()
    }
    rows = [(Cell(name), *cells) for name, cells in known_rows.items() if name not in names]
    for name in names:
        cells = []
        for column in columns:
            own = values.get((name, column), [])
            rivals = [round(means[other, column], digits) for other in names if (other, column) in means]
            choose = min if column[1] == "median_rank" else max
            best = bool(own) and len(rivals) > 1 and round(means[name, column], digits) == choose(rivals)
            cells.append(Cell(shown(own, digits, intervals), best))
        rows.append((Cell(name), *cells))
        if name in known_rows:
            rows.append((Cell(f"{name} (published)"), *known_rows[name]))
    header = ("model", *(f"{TITLES.get(direction, direction)} {metric}".strip() for direction, metric in columns))
    return Table(header, tuple(rows), _caption(chosen, protocol, split, positives))


def shown(records: Sequence[ResultRecord], digits: int, intervals: bool = False) -> str:
    """Mean and deviation of several records; one alone, with its 95 % interval where it is known and asked for."""
    if not records:
        return MISSING_VALUE
    mean = f"{statistics.fmean(record.value for record in records):.{digits}f}"
    if len(records) > 1:
        return f"{mean} ± {statistics.stdev(record.value for record in records):.{digits}f}"
    low, high = records[0].low, records[0].high
    if intervals and low is not None and high is not None:
        return f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"
    return mean


def _caption(records: Sequence[ResultRecord], protocol: str, split: str, positives: str) -> str:
    def several(values: Sequence[float | str]) -> str:
        distinct = sorted(set(values), key=str)
        return " / ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in distinct)

    directed = [record for record in records if record.direction != BOTH] or list(records)
    queries = several([float(record.queries) for record in directed])
    candidates = several([round(record.candidates, 1) for record in directed])
    hit = {"product": "the same product", "text": "any product with the same text"}.get(positives, positives)
    fewest = [record.extra["fewest_candidates"] for record in directed if "fewest_candidates" in record.extra]
    fewer = f" (at least {min(fewest)})" if fewest else ""
    texts = several([record.text for record in records if record.text])
    return (
        f"Protocol `{protocol}` on {split}: {queries} queries, {candidates} candidates{fewer}, a hit is {hit}"
        + (f"; text `{texts}`" if texts else "")
        + "."
    )


def to_markdown(table: Table) -> str:
    """A GitHub table with the caption below."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def escape(text: str) -> str:
        return text.replace("|", "\\|")

    lines = [row([escape(name) for name in table.header]), row(["---", *["---:"] * (len(table.header) - 1)])]
    lines += [row(_texts(cells, lambda text: f"**{text}**", escape)) for cells in table.rows]
    return "\n".join([*lines, *(["", table.caption] if table.caption else [])]) + "\n"


def to_latex(table: Table) -> str:
    """A ``tabular`` with booktabs rules, the caption in a comment above."""
    lines = [f"% {table.caption}"] if table.caption else []
    lines += [f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", "\\toprule"]
    lines += [" & ".join(map(_escape_latex, table.header)) + r" \\", r"\midrule"]
    lines += [
        " & ".join(_texts(cells, lambda text: f"\\textbf{{{text}}}", _escape_latex)) + r" \\" for cells in table.rows
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_csv(table: Table) -> str:
    """Comma-separated values, without marks and caption."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [table.header, *([cell.text for cell in cells] for cells in table.rows)]
    )
    return stream.getvalue()


def _texts(cells: Sequence[Cell], bold: Callable[[str], str], escape: Callable[[str], str]) -> list[str]:
    return [bold(escape(cell.text)) if cell.best else escape(cell.text) for cell in cells]


def _escape_latex(text: str) -> str:
    replaced = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    replaced |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(replaced.get(sign, sign) for sign in text)
