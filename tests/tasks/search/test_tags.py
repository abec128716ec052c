"""Tags as texts, numbers and lists, and the conditions that products must fulfil."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from raw_products import PricedSource, row
from stub_encoder import ColorEncoder

from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.tasks.search.build import add_products, build_index, sync_index
from e2fashion.tasks.search.config import ContentConfig
from e2fashion.tasks.search.engines import texts_of
from e2fashion.tasks.search.facts import Origin
from e2fashion.tasks.search.index import ProductIndex, open_index
from e2fashion.tasks.search.sources import CatalogueProducts
from e2fashion.tasks.search.tags import Conditions, decide_typing
from e2fashion.types import E2FashionError

ENCODER: Any = ColorEncoder()
SHOP = {
    "id": ["a", "b", "c", "d", "e"],
    "brand": ["Puma", "puma", "Ärmel'n", None, "Nike"],
    "price": ["1.299,00 €", "49,90 €", "5 €", None, "1 000,5"],
    "size": ["036", "38", None, "40", "42"],
    "year": ["2011", "2012", "2011", None, "2013"],
    "colors": ["red|Blue", "blue", None, "green", " red | green "],
    "Sub Category": ["Shoes", "Shoes", "Hats", "Hats", "Belts"],
}
CONFIG = ContentConfig(numbers=["price"], lists={"colors": "|"})


@dataclass
class Shop:
    """Products of a table whose images are all the same."""

    columns: dict[str, list[str | None]]

    @property
    def origin(self) -> Origin:
        return Origin("shop", "shop", "shop")

    @property
    def ids(self) -> pa.Array:
        return pa.array(self.columns["id"], pa.string())

    def content(self, position: int) -> bytes:
        return b"red"

    def square(self, position: int, transform: ImageTransform) -> torch.Tensor:
        return torch.full((3, transform.size, transform.size), 200, dtype=torch.uint8)

    def table(self, positions: Sequence[int]) -> pa.Table:
        tags = {name: [values[row] for row in positions] for name, values in self.columns.items() if name != "id"}
        ids, none = self.ids.take(pa.array(positions)), pa.nulls(len(positions), pa.string())
        rows = {"product_id": ids, "view": pa.array([0] * len(ids), pa.int32()), "description": none, "image": none}
        return pa.table(rows | {name: pa.array(values, pa.string()) for name, values in tags.items()})


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ProductIndex:
    return build_index(ENCODER, Shop(SHOP), tmp_path_factory.mktemp("shop") / "index", CONFIG)


def found(index: ProductIndex, where: Any = None, **others: Any) -> str:
    return "".join(sorted(hit.product_id for hit in index.search("red", where=Conditions(where or {}, **others))))


def test_numbers_and_lists_are_stored_as_such(index: ProductIndex) -> None:
    kinds = index.facts.typing.kinds
    assert [kinds[name] for name in ("brand", "price", "size", "year", "colors")] == [
        "text",
        "number",
        "text",
        "number",
        "list",
    ]
    tags = {hit.product_id: hit.tags for hit in index.search("red")}
    assert [tags[name].get("price") for name in "abcde"] == [1299.0, 49.9, 5.0, None, 1000.5]
    assert tags["e"]["colors"] == ["red", "green"]


@pytest.mark.parametrize(
    ("where", "others", "expected"),
    [
        ({"brand": "PUMA"}, {}, "ab"),
        ({"brand": ["nike", "ÄRMEL'N"]}, {}, "ce"),
        ({"brand": None}, {}, "d"),
        ({"price": "5..50"}, {}, "bc"),
        ({"price": "1000.."}, {}, "ae"),
        ({"price": ["..5", 49.9]}, {}, "bc"),
        ({"year": "2011", "brand": "puma"}, {}, "a"),
        ({"size": "036"}, {}, "a"),
        ({"colors": "BLUE"}, {}, "ab"),
        ({"colors": ["blue", "green"]}, {}, "abde"),
        ({"Sub Category": "hats"}, {}, "cd"),
        ({}, {"where_not": {"brand": "puma"}}, "cde"),
        ({}, {"where_not": {"brand": None, "colors": "blue"}}, "ce"),
        ({}, {"where_not": {"price": "..100"}}, "ade"),
        ({}, {"filter": "price < 50 AND `Sub Category` = 'Shoes'"}, "b"),
        ({"brand": "puma"}, {"filter": "year > 2011 OR year IS NULL"}, "b"),
        ({"brand": "Adidas"}, {}, ""),
        ({"brand": ["Adidas", "Nike"]}, {}, "e"),
        ({}, {"where_not": {"brand": "Adidas"}}, "abcde"),
    ],
)
def test_conditions(index: ProductIndex, where: dict[str, Any], others: dict[str, Any], expected: str) -> None:
    assert found(index, where, **others) == expected


@pytest.mark.parametrize(
    ("where", "others", "message"),
    [
        ({"brands": "Puma"}, {}, "there is no tag 'brands' to filter by: did you mean 'brand'\\?"),
        ({"brand": []}, {}, "the filter on brand names no value"),
        ({"price": "cheap"}, {}, r"price holds numbers, and 'cheap' is none: give one, or a range as in 10\.\.50"),
        ({"price": ".."}, {}, "price holds numbers"),
        ({"brand": "Adidas"}, {"strict": True}, "no product has brand 'Adidas': choose from"),
        ({}, {"filter": "prize < 3"}, r"'\(prize < 3\)' is no condition in SQL on brand, .*No field named prize"),
        ({}, {"filter": "SELECT"}, "is no condition in SQL"),
        ({}, {"filter": " "}, "give one condition in SQL"),
    ],
)
def test_conditions_that_mean_nothing(
    index: ProductIndex, where: dict[str, Any], others: dict[str, Any], message: str
) -> None:
    with pytest.raises(E2FashionError, match=message):
        found(index, where, **others)


def test_a_value_that_nobody_has_gives_a_hint(index: ProductIndex, caplog: pytest.LogCaptureFixture) -> None:
    assert found(index, {"brand": "Pumma"}) == ""
    assert "no product has brand 'Pumma': did you mean 'puma'?" in caplog.text.replace("'Puma'", "'puma'")


def test_other_tags_are_written_without_embedding_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = build_index(ENCODER, Shop(SHOP), tmp_path / "index", CONFIG)

    class Nothing(ColorEncoder):
        def embed_squares(self, squares: torch.Tensor) -> torch.Tensor:
            raise AssertionError("nothing is to be embedded")

    encoder: Any = Nothing()
    cheaper = SHOP | {"price": ["1 €", *SHOP["price"][1:]], "season": ["Summer", None, None, None, None]}
    with caplog.at_level("INFO", "e2fashion"):
        changed = sync_index(index.path, encoder, Shop(cheaper), CONFIG)
    assert ": 4 products are unchanged; images of others: 1, of which 0 are embedded" in caplog.text
    assert found(open_with(changed), {"price": "..2", "season": "summer"}) == "a"
    assert changed.version <= index.version + 2, "one commit for the new column, one for the rows"
    fewer: dict[str, list[str | None]] = {"id": ["f"], "brand": ["Nike"]}
    assert found(open_with(add_products(index.path, ENCODER, Shop(fewer), CONFIG)), {"brand": "nike"}) == "ef"
    with pytest.raises(E2FashionError, match="product 'g' has price 'many', which is no number: correct it, or build"):
        add_products(index.path, ENCODER, Shop({"id": ["g"], "price": ["many"]}), CONFIG)


def test_numbers_of_a_catalogue_arrive_as_numbers(tmp_path: Path) -> None:
    source = PricedSource(
        [
            row(number, split="train", tags={"brand": "Acme", "price": price})
            for number, price in enumerate(["1.299,00 €", "12,5", None, "49,90"])
        ]
    )
    config = Preparation(numbers=["price"], val_fraction=0.0)
    catalogue = prepare_catalogue(source, tmp_path / "catalogue", config, progress=False)
    index = build_index(ENCODER, catalogue, tmp_path / "index", progress=False)
    assert index.facts.typing.kinds == {"brand": "text", "price": "number"}
    assert [hit.product_id for hit in index.search("red", where={"price": "10..50"})] == ["p1", "p3"]
    as_text = build_index(ENCODER, catalogue, tmp_path / "texts", ContentConfig(texts=["price"]), progress=False)
    assert {hit.tags.get("price") for hit in as_text.search("red")} == {"1299", "12.5", None, "49.9"}
    with_price: Any = SimpleNamespace(template=TextTemplate("{price} . {description}"))
    texts = texts_of(with_price, CatalogueProducts(catalogue).table([0, 2]))
    assert texts == ["1299 . Garment number 0", "Garment number 2"]


@pytest.mark.parametrize("views", ["best", "first", "mean"])
def test_the_first_search_of_a_process_finds_what_the_next_ones_find(index: ProductIndex, views: Any) -> None:
    conditions = ({"price": "5..50"}, {"brand": "puma"}, {"brand": "Adidas"})
    fresh = open_index(index.path, ENCODER)
    before = [fresh.search("red", where=where, views=views) for where in conditions]
    assert ("vectors" in vars(fresh.snapshot())) == (views == "mean"), "only those of these products were read"
    fresh.search("red")
    assert before == [fresh.search("red", where=where, views=views) for where in conditions]
    assert [len(hits) for hits in before] == [2, 2, 0]


def open_with(index: ProductIndex) -> ProductIndex:
    index.encoder = ENCODER
    return index


def test_kinds_that_make_no_sense() -> None:
    tags = pa.table({"size": ["38", "40"], "code": ["007", "008"], "empty": pa.nulls(2, pa.string())})
    assert decide_typing(tags).kinds == {"size": "number", "code": "text", "empty": "text"}
    assert decide_typing(tags, texts=["size"]).kinds["size"] == "text"
    with pytest.raises(E2FashionError, match="there is no tag 'prize': choose from size, code"):
        decide_typing(tags, numbers=["prize"])
    with pytest.raises(E2FashionError, match=r"lists.size is empty: give what separates the values"):
        decide_typing(tags, lists={"size": ""})
    with pytest.raises(E2FashionError, match=r"the numbers of 'price' may be fractions or thousands, as in '1\.299 €'"):
        decide_typing(pa.table({"price": ["1.299 €"]}), numbers=["price"])


@pytest.mark.parametrize("name", ["vector", "_row", "a.b"])
def test_names_that_cannot_be_columns(name: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=f"the tag '{name}' cannot be a column of an index"):
        build_index(ENCODER, Shop({"id": ["a"], name: ["x"]}), tmp_path / "index")
