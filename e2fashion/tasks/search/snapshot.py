"""One version of an index's table: what is read of it is read once, and searched in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from e2fashion.data.image_files import ImageError
from e2fashion.data.images import read_image, read_stored
from e2fashion.data.text import normalize_text
from e2fashion.tasks.search.exact import nearest
from e2fashion.tasks.search.facts import IndexFacts
from e2fashion.tasks.search.places import Place, check_table, reading_at
from e2fashion.tasks.search.storage import (
    BATCH_ROWS,
    CONTENT_COLUMNS,
    DESCRIPTION,
    LOCATION,
    PRODUCT_ID,
    ROW_ID,
    ROW_SUM,
    SOURCE,
    VECTOR,
    VECTOR_SUM,
    VIEW,
    check_rows,
    check_sums,
    content_of,
    open_table,
    row_sums,
    tag_types,
    vector_sums,
)
from e2fashion.tasks.search.tags import Conditions, TagValue, suggest
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    from e2fashion.data.catalogue import Catalogue

#: Which vectors of a product count: the best one, their mean, or that of its first view.
Views: TypeAlias = Literal["best", "mean", "first"]
Engine: TypeAlias = Literal["auto", "exact", "approximate"]
APPROXIMATE_ROWS = 1_000_000
"""``engine: auto`` is approximate above this number of images, where there are inverted lists."""
PROBES = 64
"""Lists that an approximate query reads: recall against speed (ours)."""
SPARE = 10
"""Images that an approximate query reads beyond twice those requested: a product may have several."""
SOME_ROWS = 2**14


@dataclass(frozen=True)
class Hit:
    """A product that a search returns: its score, the tags that it has, and where its image is.

    ``score`` is the cosine, or the regional score of a query with tags. ``location`` is a file, or ``<split>/<row>`` of
    the catalogue ``source``; the image is that of the best ``view``.
    """

    product_id: str
    score: float
    tags: Mapping[str, TagValue]
    description: str | None
    location: str
    source: str
    view: int = 0

    def image(self, load: Callable[[str], Catalogue] | None = None) -> Image.Image:
        """Its image, from its file or its catalogue, which ``load`` opens (None: ``Catalogue.load``).

        Raises:
            E2FashionError: it is not there any more.
        """
        try:
            if not self.source:
                return read_image(self.location)
            from e2fashion.data.catalogue import Catalogue  # here: most searches open none

            split, _, row = self.location.rpartition("/")
            return read_stored((load or Catalogue.load)(self.source).split(split)[int(row)]["image"])
        except (ImageError, IndexError, KeyError, ValueError) as error:
            raise E2FashionError(
                f"the image of product '{self.product_id}' is not at {self.source or self.location} any more "
                f"({error}): search without a figure, or bring the index up to date with 'e2fashion index sync'"
            ) from error


class Snapshot:
    """The table of an index at its present version; ``verify`` compares files, or vectors, with their checksums.

    A row is an image, a product has one row or more; rows and products are numbered from 0.
    """

    def __init__(self, place: Place, facts: IndexFacts | None = None, verify: bool = True) -> None:
        self.place, self._verify = place, verify
        facts = facts or IndexFacts.load(place)
        self.dimension = facts.encoder.dimension
        """Width C of a vector's part for the image; those for its regions follow it."""
        self._values: dict[str, list[str]] = {}
        self._by_text: dict[str, dict[str, str]] = {}
        self.table: Any = open_table(place, facts, verify)
        with reading_at(place):
            self.version: int = self.table.version
            self.table.checkout(self.version)
            self.tags = tag_types(self.table.schema)
        ids = self.read([PRODUCT_ID, VIEW])
        encoded = ids[PRODUCT_ID].combine_chunks().dictionary_encode()
        self._ids: pa.StringArray = encoded.dictionary
        self.product_of = torch.from_numpy(encoded.indices.to_numpy().astype(np.int64))
        """The product of every row: (N,)."""
        self.views: NDArray[np.int32] = ids[VIEW].to_numpy()
        """The view of every row: (N,)."""
        self.row_ids: NDArray[np.uint64] = ids[ROW_ID].to_numpy()
        """The number of every row in the table: (N,)."""

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def product_ids(self) -> list[str]:
        """Every product's id, in the order of their first rows."""
        ids: list[str] = self._ids.to_pylist()
        return ids

    def read(self, columns: Sequence[str], condition: str | None = None) -> pa.Table:
        """Columns of all rows, or of those that fulfil a condition in SQL, with their numbers in the table.

        Raises:
            E2FashionError: the table is not there any more or damaged, or the condition is no SQL of these columns.
        """
        query = self.table.search().select(list(columns)).with_row_id(True)
        with self._explained(condition):
            return (query if condition is None else query.where(condition)).to_arrow()

    @contextmanager
    def _explained(self, condition: str | None) -> Iterator[None]:
        """Turn an error of the table into one of the condition, or of the place."""
        with reading_at(self.place):
            try:
                yield
            except ValueError as error:
                if condition is None:
                    raise
                reason = str(error).split(", /")[0].splitlines()[0].removeprefix("Invalid input, ")
                names = ", ".join(self.tags)
                raise E2FashionError(f"'{condition}' is no condition in SQL on {names}: {reason}") from error

    @cached_property
    def vectors(self) -> Tensor:
        """The vector of every row: (N, W) fp16.

        Raises:
            DamagedError: they are not what was written.
        """
        found = torch.empty(len(self.row_ids), self.width, dtype=torch.float16)
        # To read all files takes less time than the checksum of every vector.
        verify = self._verify and bool(check_table(self.place, again=True))
        for rows, part in self._scanned(verify):
            start, stop = int(rows[0]), int(rows[-1]) + 1
            # Filling a slice is faster; batches are in the order of the rows unless LanceDB changes it.
            found[slice(start, stop) if torch.equal(rows, torch.arange(start, stop)) else rows] = part
        return found

    def _scanned(self, verify: bool, condition: str | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows (n,) and their vectors (n, W) fp16, in batches: all, or those that fulfil a condition in SQL."""
        scan = self.table.search().select([VECTOR, VECTOR_SUM]).with_row_id(True)
        with reading_at(self.place):
            for batch in (scan if condition is None else scan.where(condition)).to_batches(BATCH_ROWS):
                vectors = batch[VECTOR]
                if not len(vectors):
                    continue
                if verify:
                    check_sums(self.place, "vectors", vector_sums(vectors), batch[VECTOR_SUM])
                yield self._rows_of(batch[ROW_ID]), torch.from_dlpack(vectors.flatten()).view(-1, self.width)  # no copy

    @property
    def width(self) -> int:
        """Width W of the vectors."""
        return int(self.table.schema.field(VECTOR).type.list_size)

    def _rows_of(self, row_ids: pa.Array | pa.ChunkedArray) -> Tensor:
        """The rows with these numbers in the table."""
        return torch.from_numpy(self._order[np.searchsorted(self.row_ids, row_ids.to_numpy(), sorter=self._order)])

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.row_ids)

    @cached_property
    def firsts(self) -> Tensor:
        """The row of every product's first view: (P,)."""
        order = torch.from_numpy(np.lexsort((self.views, self.product_of.numpy())))
        return order[torch.searchsorted(self.product_of[order], torch.arange(len(self)))]

    @cached_property
    def _means(self) -> Tensor:
        sums = torch.zeros(len(self), self.vectors.shape[1]).index_add_(0, self.product_of, self.vectors.float())
        parts = rearrange(sums, "p (parts c) -> p parts c", c=self.dimension)
        return F.normalize(parts, dim=-1).flatten(1)

    @cached_property
    def _most_views(self) -> int:
        return int(torch.bincount(self.product_of).max()) if len(self) else 1

    @cached_property
    def _tie(self) -> Tensor:
        """The rank of each row by id and view: equal scores are in this order."""
        rank = np.argsort(pc.sort_indices(self._ids).to_numpy())  # the inverse of a permutation
        return torch.from_numpy(np.argsort(np.lexsort((self.views, rank[self.product_of.numpy()]))))

    def gallery(self, views: Views) -> tuple[Tensor, Tensor]:
        """The vectors that are searched (M, W), fp16 or fp32 (means), and a row for each (M,): all, or one per product.

        Raises:
            E2FashionError: ``views`` is none of :data:`Views`.
        """
        if views not in ("best", "mean", "first"):
            raise E2FashionError(f"views is '{views}'; choose best, mean or first")
        if views == "best" or self._most_views == 1:
            return self.vectors, torch.arange(len(self.row_ids))
        return self._means if views == "mean" else self.vectors[self.firsts], self.firsts

    def chosen(self, conditions: Conditions) -> Tensor | None:
        """The rows that fulfil conditions (n,); None: all."""
        return self._fulfilling(conditions.sql(self.tags, self.values_of))

    def _fulfilling(self, condition: str | None) -> Tensor | None:
        return None if condition is None else self._rows_of(self.read([VIEW], condition)[ROW_ID]).sort().values

    def _searched(self, conditions: Conditions, views: Views) -> tuple[Tensor, Tensor, Tensor | None]:
        """The vectors that are searched (M, W), a row for each (M,), and which of them fulfil conditions; None: all.

        Where few do and the vectors were not read yet, theirs alone are read: a command asks once.
        """
        condition = conditions.sql(self.tags, self.values_of)
        chosen = self._fulfilling(condition)
        if chosen is None or len(chosen) > SOME_ROWS or views not in ("best", "first") or "vectors" in vars(self):
            gallery, rows = self.gallery(views)
            return gallery, rows, None if chosen is None else torch.isin(rows, chosen).nonzero()[:, 0]
        parts = list(self._scanned(self._verify, condition))
        rows, order = torch.cat([chosen[:0], *(rows for rows, _ in parts)]).sort()
        gallery = torch.cat([torch.empty(0, self.width, dtype=torch.float16), *(part for _, part in parts)])[order]
        left = torch.isin(rows, self.firsts) if views == "first" else slice(None)
        return gallery[left], rows[left], None

    def nearest(
        self, query: Tensor, conditions: Conditions, top: int, views: Views, engine: Engine = "auto"
    ) -> tuple[Tensor, Tensor]:
        """Scores (Q, k) fp64 and rows (Q, k) of the best products; k = ``top`` or as many as there are.

        Queries (Q, C) are compared with images alone, (Q, W) with regions too.
        """
        if self.is_approximate(views, engine):
            return self._nearest_in_lists(query, conditions, top)
        gallery, rows, chosen = self._searched(conditions, views)
        several = self._most_views if views == "best" else 1
        scores, positions = nearest(query, gallery[:, : query.shape[1]], top * several, self._tie[rows], chosen)
        found = rows[positions]
        return (scores, found) if several == 1 else self._distinct(scores, found, top)

    def is_approximate(self, views: Views = "best", engine: Engine = "auto") -> bool:
        """Whether a search reads inverted lists instead of all vectors.

        Raises:
            E2FashionError: they are asked for and not there, or an engine that does not exist.
        """
        if engine not in ("auto", "exact", "approximate"):
            raise E2FashionError(f"engine is '{engine}'; choose auto, exact or approximate")
        if engine == "exact" or (engine == "auto" and (views != "best" or len(self.row_ids) <= APPROXIMATE_ROWS)):
            return False
        there = bool(self.table.list_indices())
        if engine == "approximate" and (views != "best" or not there):
            raise E2FashionError(
                "approximate search needs views=best, and inverted lists: 'e2fashion index compact <index> lists=true'"
            )
        return there

    def _nearest_in_lists(self, query: Tensor, conditions: Conditions, top: int) -> tuple[Tensor, Tensor]:
        """As :meth:`nearest`, of the rows that LanceDB finds in the nearest lists, maybe fewer."""
        if top < 1:
            raise E2FashionError(f"top is {top}; give a number of products from 1")
        condition = conditions.sql(self.tags, self.values_of)
        found: list[tuple[Tensor, Tensor]] = []
        for vector in F.pad(query, (0, self.width - query.shape[1])):
            search = self.table.search(vector.numpy(), vector_column_name=VECTOR).distance_type("dot").nprobes(PROBES)
            search = search.limit(2 * top + SPARE).select([VECTOR, "_distance"]).with_row_id(True)
            with self._explained(condition):
                near = (search if condition is None else search.where(condition, prefilter=True)).to_arrow()
            rows = self._rows_of(near[ROW_ID])
            vectors = torch.from_numpy(near[VECTOR].combine_chunks().flatten().to_numpy().copy()).view(len(near), -1)
            scores = vectors.double() @ vector.double()
            by_score = torch.from_numpy(np.lexsort((self._tie[rows].numpy(), -scores.numpy())))
            best = self._distinct(scores[by_score][None], rows[by_score][None], top)
            found.append((best[0][0], best[1][0]))
        kept = min(len(scores) for scores, _ in found)
        return torch.stack([scores[:kept] for scores, _ in found]), torch.stack([rows[:kept] for _, rows in found])

    def _distinct(self, scores: Tensor, rows: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """The best row of each product among the best rows, which are enough for ``top`` products."""
        products = self.product_of[rows].numpy()
        kept = [np.sort(np.unique(line, return_index=True)[1])[:top] for line in products]
        positions = torch.from_numpy(np.array(kept, dtype=np.int64).reshape(len(rows), -1))
        return scores.gather(1, positions), rows.gather(1, positions)

    def values_of(self, column: str) -> list[str]:
        """The distinct values of a tag of texts or lists."""
        if column not in self._values:
            values = self.read([column])[column]
            values = pc.list_flatten(values) if pa.types.is_list(values.type) else values
            self._values[column] = pc.unique(values).drop_null().to_pylist()
        return self._values[column]

    def values_by_text(self, column: str) -> dict[str, str]:
        """:meth:`values_of` by what :func:`~e2fashion.data.text.normalize_text` makes of them."""
        if column not in self._by_text:
            self._by_text[column] = {normalize_text(value): value for value in self.values_of(column)}
        return self._by_text[column]

    def column(self, name: str) -> list[Any]:
        """A column's value of every product (that of its first view)."""
        return self.read([name])[name].take(pa.array(self.firsts.numpy())).to_pylist()

    def hits(self, rows: Sequence[int], scores: Sequence[float]) -> list[Hit]:
        """Rows with their scores.

        Raises:
            E2FashionError: the table is not there any more, or a row is not what was written.
        """
        if not len(rows):
            return []
        with reading_at(self.place):
            wanted = sorted({int(self.row_ids[row]) for row in rows})
            columns = [name for name in self.table.schema.names if name not in (VECTOR, VECTOR_SUM)]
            found = self.table.take_row_ids(wanted).select(columns).to_arrow()
        check_sums(self.place, "rows", row_sums(found), found[ROW_SUM].to_pylist())
        by_key = {(values[PRODUCT_ID], values[VIEW]): values for values in found.to_pylist()}
        return [
            Hit(
                values[PRODUCT_ID],
                score,
                {name: values[name] for name in self.tags if values[name] is not None},
                values[DESCRIPTION],
                values[LOCATION],
                values[SOURCE],
                values[VIEW],
            )
            for row, score in zip(rows, scores, strict=True)
            for values in (by_key[self._ids[int(self.product_of[row])].as_py(), int(self.views[row])],)
        ]

    def check(self) -> None:
        """Read everything and compare it with its checksums.

        Raises:
            DamagedError: something is not what was written.
        """
        check_table(self.place, again=True)
        check_rows(self.place, self.table)

    def product(self, product_id: str) -> int:
        """The number of a product.

        Raises:
            E2FashionError: there is no such product; the message suggests the nearest ids.
        """
        number: int = pc.index(self._ids, product_id).as_py()
        if number < 0:
            hint = suggest(product_id, self.product_ids)
            raise E2FashionError(f"there is no product '{product_id}' in {self.place}: {hint}")
        return number

    @cached_property
    def content(self) -> str:
        """A fingerprint of all rows, whatever their order."""
        return content_of(self.read(CONTENT_COLUMNS))
