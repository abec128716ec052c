"""Numbers as shops write them, as columns of a catalogue, and what is said of those that are none."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_products import PricedSource, picture, row, write_csv

from e2fashion.__main__ import main
from e2fashion.data.audit.check import check_catalogue
from e2fashion.data.audit.report import as_json, as_text
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.numbers import NumberRange, decide_sign, parse_number
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.rows import ProductError
from e2fashion.disk import seal
from e2fashion.types import E2FashionError


@pytest.mark.parametrize(
    ("text", "with_comma", "with_point"),
    [
        ("1.299,00 €", 1299.0, None),
        ("€ 1,299,000.50", None, 1299000.5),
        ("1.299", 1299.0, 1.299),
        ("1,299", 1.299, 1299.0),
        ("12,5", 12.5, None),
        ("0.125", None, 0.125),
        ("1 299,5", 1299.5, None),
        ("1\u202f299", 1299.0, 1299.0),
        ("CHF 1'299.-", 1299.0, 1299.0),
        ("Rs. 1,29,900", None, 129900.0),
        ("Rs.500", 500.0, 500.0),
        (".5", None, 0.5),
        ("ca. 12 kg", 12.0, 12.0),
        ("EUR -5", -5.0, -5.0),
        ("\u22125 €", -5.0, -5.0),
        ("1.5e3", None, 1500.0),
        ("-1,5E-3 kg", -0.0015, None),
        ("1e+16", 1e16, 1e16),
        ("1.299e3", None, 1299.0),
        *((text, None, None) for text in ("1e999", "1 299e2")),
        *((text, None, None) for text in ("A-5", "5-", "10-20", "2 for 10", "M", "1,2,3", "", "9" * 400)),
    ],
)
def test_a_number_with_either_sign(text: str, with_comma: float | None, with_point: float | None) -> None:
    assert (parse_number(text, ","), parse_number(text, ".")) == (with_comma, with_point)


@given(st.integers(-(10**12), 10**12), st.integers(0, 99), st.sampled_from(["{} €", "$ {}", "{}", "EUR {}"]))
def test_every_amount_is_read_as_it_was_written(cents: int, fraction: int, form: str) -> None:
    number = cents + fraction / 100 if cents >= 0 else cents - fraction / 100
    english = f"{cents:,}.{fraction:02}"
    german = english.translate({ord("."): ",", ord(","): "."})
    assert parse_number(form.format(english), ".") == parse_number(form.format(german), ",") == pytest.approx(number)


def test_the_sign_is_the_one_that_all_values_allow() -> None:
    assert decide_sign(["1.299", "5", "12,50"]) == ","
    assert decide_sign(["1,299", "12.50", "many"]) == "."
    assert decide_sign(["5", "1 200"]) == "."
    assert decide_sign(["5", "1.299"]) is None


PRICES = ["1.299,00 €", "12,5", None, "5 €", "49,90", " "]


def prepare(output: Path, prices: list[str | None], **settings: Any) -> Catalogue:
    rows = [
        row(number, split="train", tags={"brand": f"brand {number}", "price": price})
        for number, price in enumerate(prices)
    ]
    config = Preparation(**{"numbers": ["price"], "val_fraction": 0.0, **settings})
    return prepare_catalogue(PricedSource(rows), output, config, progress=False)


def test_a_column_of_numbers(tmp_path: Path) -> None:
    catalogue = prepare(tmp_path / "out", PRICES)
    rows = catalogue.split("train")
    assert rows["price"][:] == [1299.0, 12.5, None, 5.0, 49.9, None]
    assert rows.features["price"].dtype == "float64"
    assert (catalogue.tag_columns, catalogue.number_columns) == (("brand",), ("price",))
    assert catalogue.manifest.notes == ["'price' holds numbers, written with a decimal comma"]
    assert next(catalogue.samples("train")).tags == {"brand": "brand 0"}
    again = Catalogue.load(tmp_path / "out")
    assert (again.number_columns, again.fingerprint) == (("price",), catalogue.fingerprint)
    assert prepare(tmp_path / "out", PRICES).fingerprint == catalogue.fingerprint, "the same request is answered"
    with pytest.raises(E2FashionError, match="holds another catalogue"):
        prepare(tmp_path / "out", PRICES, numbers=[])
    cheaper = prepare(tmp_path / "cheaper", ["1.298,00 €", *PRICES[1:]])
    assert cheaper.fingerprint != catalogue.fingerprint


def test_a_catalogue_of_before_has_no_numbers_and_keeps_its_fingerprint(tmp_path: Path) -> None:
    catalogue = prepare(tmp_path / "out", PRICES, numbers=[])
    file = tmp_path / "out" / "manifest.json"
    values = json.loads(file.read_text())
    assert not {"numbers", "decimal"} & values["settings"].keys()
    del values["number_columns"]
    file.write_text(json.dumps(seal(values)))
    loaded = Catalogue.load(tmp_path / "out")
    assert (loaded.number_columns, loaded.fingerprint) == ((), catalogue.fingerprint)
    assert loaded.split("train")["price"][0] == "1.299,00 €"


def test_values_that_are_no_numbers_are_listed_with_their_rows(tmp_path: Path) -> None:
    prices = ["12,5", "on request", "7.5", "9,99"]
    with pytest.raises(ProductError, match=r"line 1 .*not a number in field 'price': 'on request'\. Remedy: correct"):
        prepare(tmp_path / "out", prices)
    catalogue = prepare(tmp_path / "out", prices, on_error="skip")
    assert catalogue.split("train")["price"][:] == [12.5, 9.99]
    with (tmp_path / "out" / "skipped.csv").open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert (first["row"], first["field"], first["value"]) == ("table line 1", "price", "'on request'")
    assert second["value"] == "'7.5' has no decimal comma, as in table line 0"
    assert second["remedy"] == "write all numbers of the column alike, or give decimal=comma or decimal=point"


def test_what_may_be_a_fraction_or_thousands_is_not_guessed(tmp_path: Path) -> None:
    message = r"'1\.299 €' \(table line 1\) of 'price' may be a fraction or thousands.*decimal=comma or decimal=point"
    with pytest.raises(E2FashionError, match=message):
        prepare(tmp_path / "out", ["5", "1.299 €"])
    assert prepare(tmp_path / "comma", ["5", "1.299 €"], decimal="comma").split("train")["price"][:] == [5.0, 1299.0]
    assert prepare(tmp_path / "point", ["5", "1.299 €"], decimal="point").split("train")["price"][:] == [5.0, 1.299]
    with pytest.raises(ProductError, match=r"'12,5' has no decimal point, by decimal=point"):
        prepare(tmp_path / "other", ["12,5"], decimal="point")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numbers": ["prize"]}, "numbers names the tag 'prize', which the source lacks. Its tags: brand, price"),
        ({"numbers": [], "decimal": "comma"}, r"decimal=comma needs columns of numbers: name them, as in numbers="),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=message):
        prepare(tmp_path / "out", PRICES, **settings)


def test_type_coverage_and_range_are_described(tmp_path: Path) -> None:
    catalogue = prepare(tmp_path / "out", PRICES)
    described = describe_catalogue(catalogue)
    assert described.splits["train"].numbers == {"price": NumberRange(6, 4, 5.0, 1299.0)}
    assert "price: number, coverage, range" in described.as_text()
    checked = check_catalogue(catalogue, progress=False)
    assert as_text(checked).endswith("price: number, 66.7%, 5 to 1299")
    assert as_json(checked, "leak")["numbers"]["price"]["high"] == 1299.0
    assert NumberRange.of([None]).words() == "0.0%, no value"


def test_a_table_of_a_shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    records = [[str(n), f"{n}.jpg", f"Hemd {n}", preis] for n, preis in enumerate(["1.299,00 €", "12,5", ""])]
    table = write_csv(tmp_path / "shop.csv", ["product_id", "image", "description", "Preis"], records, delimiter=";")
    out = tmp_path / "out"
    assert (
        main(["data", "prepare", "folder", f"path={table}", "tags.price=Preis", "numbers=price", f"output={out}"]) == 0
    )
    capsys.readouterr()
    assert main(["data", "describe", str(out)]) == 0
    assert "price: number" in capsys.readouterr().out
    catalogue = Catalogue.load(out)
    prices = pa.concat_arrays([catalogue.split(name).data["price"].combine_chunks() for name in catalogue.split_names])
    assert sorted(prices.drop_null().to_pylist()) == [12.5, 1299.0]
