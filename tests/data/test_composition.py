"""Compositions as shops write them: parts, fibres and percentages, what is kept, and what is not understood."""

import csv
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2fashion.data.composition import FILLERS, PARTS, Composition, Part, Share, dominant_fibre, parse_composition
from e2fashion.data.fibres import find_material, mended
from e2fashion.data.synthfashion.fabrics import FABRICS


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("Body: 87% wool, 13% nylon. Lining: 100% cupro.", "body: 87% wool, 13% nylon; lining: 100% cupro"),
        ("Fabric 1: 100% viscose. Fabric 2: 100% cotton.", "fabric 1: 100% viscose; fabric 2: 100% cotton"),
        ("94% cotton, 6% elastane", "94% cotton, 6% elastane"),
        ("99% cotton. 1% elastene.", "99% cotton, 1% elastane"),
        ("Shell 90% woolm 10% poylester; lining 100 % rayon", "shell: 90% wool, 10% polyester; lining: 100% viscose"),
        ("12.5% silk, 87,5% virgin wool", "12.5% silk, 87.5% wool"),
        ("Cotton 60%, polyester 40%", "60% cotton, 40% polyester"),
        ("Cotton (60%) / Polyester (40%)", "60% cotton, 40% polyester"),
        ("Cotton: 60 percent\nPolyester: 40 percent", "60% cotton, 40% polyester"),
        ("Body: cotton 95% lycra 5%", "body: 95% cotton, 5% elastane"),
        ("100% leather Lining: 100% cotton", "100% leather; lining: 100% cotton"),
        ("Composition: 98% cotton 2% spandex", "98% cotton, 2% elastane"),
        ("Mesh: 100% polyester", "mesh: 100% polyester"),
        ("100% nylon, 100% polyester", "100% nylon; 100% polyester"),
        ("33% wool, 33% silk, 33% linen. 100% cotton", "33% wool, 33% silk, 33% linen; 100% cotton"),
        ("100% organic cotton mesh", "100% cotton"),
        ("100% faux leather", "100% synthetic leather"),
        ("Made of 70% viscose and 30% lana wool, with a 100% silk lining", "70% viscose, 30% wool; lining: 100% silk"),
        ("80% nylon and 20% lycra shell with 100% silk lining", "shell: 80% nylon, 20% elastane; lining: 100% silk"),
        ("Top made of100% Cotton?", "100% cotton"),
        ("Shirt made of 100% cotton. Not valid with more than 20% discount", "100% cotton"),
        ("Jersey with mesh made of Dri-Fit 100% recycled polyester", "100% polyester"),
    ],
)  # fmt: skip
def test_percentages(text: str, reading: str) -> None:
    result = parse_composition(text)
    assert str(result) == reading
    assert result.text == text
    assert result.kind == "percentages"
    assert result.is_understood


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("Cotton", "cotton"),
        ("stainless steel", "stainless steel"),
        ("Wool / Acrylic", "wool, acrylic"),
        ("Upper: leather. Sole: rubber.", "upper: leather; sole: rubber"),
        ("Cottton twill", "cotton"),
        ("Slacks made of a polyester-lycra blend, has an elasticated waist", "polyester, elastane"),
        ("Pullover, made of a blend of acrylic and wool, ribbing around the neck", "acrylic, wool"),
        ("Bra made of Dri-Fit polyester fabric, with mesh panels and back", "polyester"),
    ],
)
def test_names_without_percentages(text: str, reading: str) -> None:
    assert str(parse_composition(text)) == reading
    assert parse_composition(text).kind == "names"


@pytest.mark.parametrize(
    ("text", "kind", "reading"),
    [
        ("52% polyester and 42% cotton", "wrong total", "52% polyester, 42% cotton"),
        ("Body: 100% wool. Trim: 70% silk.", "wrong total", "body: 100% wool; trim: 70% silk"),
        ("80% cotton, 30% silk", "wrong total", "80% cotton, 30% silk"),
        ("55% kidassia, 45% silk", "unknown fibre", "55% kidassia, 45% silk"),
        ("shiny stuff", "unknown fibre", "shiny stuff"),
        ("80% cotton, polyester", "incomplete", "80% cotton, polyester"),
        ("100%", "incomplete", "100%"),
        ("Dry clean. Do not bleach", "care", ""),
        ("Machine wash cold with like colours", "care", ""),
        ("Black knitted scarf, with horizontal ribs and a hemline", "nothing", ""),
        ("Navy denim shorts with two side pockets and a floral cotton fabric belt", "nothing", ""),
        ("", "nothing", ""),
        (None, "nothing", ""),
    ],
)
def test_what_is_not_understood_says_so(text: str | None, kind: str, reading: str) -> None:
    result = parse_composition(text)
    assert (result.kind, str(result)) == (kind, reading)
    assert not result.is_understood


def test_everything_that_was_said_is_kept() -> None:
    result = parse_composition("Grey skirt: 90% Merino wool, 10% spandex. Dry clean. Lining: 100% cupro.")
    assert [part.name for part in result.parts] == ["grey skirt", "lining"]
    assert result.parts[0].shares == (Share("wool", 90.0, "merino"), Share("elastane", 10.0, "spandex"))
    assert result.parts[0].total == 100
    assert result.notes == ("dry clean",)
    assert parse_composition("White tee 100% cotton").unread == ("white tee",)
    twice = Part("", (Share("wool", 60.0, "wool"), Share("silk", 30.0, "silk"), Share("wool", 10.0, "merino")))
    assert twice.fibres() == {"wool": 70.0, "silk": 30.0}


@pytest.mark.parametrize(
    ("text", "fibre"),
    [
        ("Body: 8% nylon, 87% wool, 5% elastane. Lining: 100% cupro.", "wool"),
        ("30% cotton; 70% polyester", "polyester"),
        ("50% linen and 50% silk", "linen"),
        ("Dry clean. 100% silk.", "silk"),
        ("cotton; polyester", "cotton"),
        ("98% spandex", "elastane"),
        ("60% kidassia, 40% silk", "kidassia"),
        ("raphia weave, rope", "raffia"),
        ("Dry clean.", None),
        ("100%", None),
        ("  ", None),
        (None, None),
    ],
)
def test_dominant_fibre(text: str | None, fibre: str | None) -> None:
    assert dominant_fibre(text) == fibre


def test_drawn_fabrics_are_understood() -> None:
    compositions = [fabric.composition for fabric in FABRICS.values()]
    assert all(parse_composition(text).kind in ("names", "percentages") for text in compositions)


FIBRES = ("cotton", "wool", "stainless steel", "elastane", "silk", "other fibres", "kidassia", "mesh")
PART_NAMES = ("body", "lining", "fabric 1", "outer shell", "trim")


@st.composite
def parts(draw: st.DrawFn, name: str) -> Part:
    """A part whose percentages add up to 100, in tenths."""
    names = draw(st.lists(st.sampled_from(FIBRES), min_size=1, max_size=4, unique=True))
    tenths = st.integers(1, 999)
    cuts = sorted(draw(st.lists(tenths, min_size=len(names) - 1, max_size=len(names) - 1, unique=True)))
    amounts = [(after - before) / 10 for before, after in pairwise((0, *cuts, 1000))]
    shares = (Share(fibre, amount, fibre, fibre != "kidassia") for fibre, amount in zip(names, amounts, strict=True))
    return Part(name, tuple(shares))


@st.composite
def garments(draw: st.DrawFn) -> tuple[Part, ...]:
    names = draw(st.lists(st.sampled_from(PART_NAMES), min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        names[0] = ""
    return tuple(draw(parts(name)) for name in names)


@given(garments())
@settings(max_examples=80)
def test_a_reading_is_read_the_same_again(garment: tuple[Part, ...]) -> None:
    written = str(Composition("", garment))
    again = parse_composition(written)
    assert again.parts == garment
    assert str(again) == written


@given(
    garments(),
    st.sampled_from([", ", ",", "; ", ". ", " and ", " / ", "\n", " + "]),
    st.sampled_from(
        ["{percent:g}% {fibre}", "{percent:g} % {fibre}", "{fibre} {percent:g}%", "{fibre} ({percent:g}%)"]
    ),
    st.sampled_from([str.upper, str.title, str.lower]),
    st.sampled_from([". ", "; ", "\n"]),
)
@settings(max_examples=80)
def test_the_way_of_writing_does_not_matter(
    garment: tuple[Part, ...], between: str, share: str, case: type[str], behind: str
) -> None:
    lines = []
    for part in garment:
        shares = between.join(share.format(percent=own.percent, fibre=own.fibre) for own in part.shares)
        lines.append(f"{part.name}: {shares}" if part.name else shares)
    assert parse_composition(case(behind.join(lines))).parts == garment  # type: ignore[call-arg]


@given(
    st.text()
    | st.lists(st.sampled_from([*FIBRES, *PART_NAMES, "100%", "40", "%", ":", ".", ",", "and", "-"])).map(" ".join)
)
@settings(max_examples=120)
def test_any_text_has_a_reading(text: str) -> None:
    result = parse_composition(text)
    assert result.text == text
    assert all(part.shares for part in result.parts)
    fibres = {share.fibre for part in result.parts for share in part.shares} - {None}
    assert result.dominant_fibre in (fibres or {None})
    percentages = [share.percent for part in result.parts for share in part.shares if share.percent is not None]
    assert len(percentages) <= len(re.findall(r"\d+", text))


@given(
    st.sampled_from(["cotton", "cashmere", "viscose", "lyocell", "polyester", "elastane", "polyamide", "leather"]),
    st.integers(1, 4),
    st.sampled_from(["swap", "drop", "double"]),
)
def test_one_slip_of_a_longer_name_is_mended(name: str, place: int, slip: str) -> None:
    middle = {
        "swap": name[place + 1] + name[place],
        "drop": name[place + 1],
        "double": name[place] + name[place : place + 2],
    }
    assert mended(name[:place] + middle[slip] + name[place + 2 :]) == ("nylon" if name == "polyamide" else name)


def test_other_words_are_not_mended_into_materials() -> None:
    words = [
        "lined",
        "liner",
        "model",
        "heather",
        "button",
        "woollens",
        "short",
        "sleeves",
        "stripes",
        "discount",
        "silver",
    ]
    assert {word: mended(word) for word in words} == {**dict.fromkeys(words), "woollens": "wool", "silver": "silver"}
    assert not [word for word in PARTS | FILLERS if find_material([word])]


@pytest.mark.real_data
def test_most_of_the_real_ones_are_understood(real_data: Path) -> None:
    with (real_data / "fashion-product-images" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {}
    for column, count in (("composition_pct", 500), ("composition_text", 505), ("composition", 1249)):
        result = [parse_composition(row[column]) for row in rows if row[column]]
        assert len(result) == count
        kinds[column] = Counter(own.kind for own in result)
    assert kinds["composition_pct"]["percentages"] >= 490
    assert kinds["composition_text"]["percentages"] >= 444
    assert kinds["composition_text"]["names"] >= 42
    assert kinds["composition"] == {"names": 1249}
