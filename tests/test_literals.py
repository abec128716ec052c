"""Text on a command line, in a list or in a YAML file is what was written, whatever YAML would make of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2fashion.commands import COMMANDS
from e2fashion.commands.registry import sort_arguments
from e2fashion.config import load_config
from e2fashion.data.config import build_source, load_prepare_config
from e2fashion.literals import TEXT_VALUES, is_text, join_texts, locate, split_texts
from e2fashion.tasks.search.config import IndexBuildConfig, SearchConfig
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError

#: What YAML, OmegaConf or a shell would make something else of.
TRAPS = [
    *("010", "1e3", "0x1F", "1_000", "12:30:45", ".5", "1.", "-0", "+1", ".inf", ".nan", "NaN", "1999-12-31"),
    *("no", "No", "NO", "off", "on", "yes", "y", "n", "true", "False", "~", "Null", "NULL", "none", "None", "NA"),
    *("Line #9", "#9", "a: b", "a:", "- a", "{a}", "{a: b}", "{}", "a, b", "[a", "a]", "a=b", "=", "==", "a & b"),
    *("'47", "47'", '"x', "Levi's", "'47 Brand'", '"Line"', "''", '"', "'", "`a`", "@a", "%a", "!a", "!!int 1"),
    *("&a", "*a", "? a", "| a", "> a", "${name}", "${oc.env:HOME}", "\\${name}", "\\\\${name}", "${", "$", "???"),
    *("?", "\\n", "\\", "a\\tb", " a ", " ", "", "a  b", "\ue0f5", "\ue0f5d", "été", "日本", "😀", "a\u200bb"),
]
PREPARE = ["source=folder", "output=out", "path=here"]


def where(word: str) -> Any:
    return load_config(SearchConfig, None, ["index=here", word]).where


def options(*words: str) -> dict[str, Any]:
    return load_prepare_config(None, [*PREPARE, *words])[1]


def traps(function: Any) -> Any:
    """Every trap as an example of a property."""
    for text in TRAPS:
        function = example(text)(function)
    return function


def as_item(text: str) -> str:
    """An item of a list in quotation marks: what holds any text."""
    return '"' + text.replace('"', '""') + '"'


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@settings(max_examples=100)
@given(texts.filter(lambda text: text != "null" and not (text.startswith("[") and text.endswith("]"))))
@traps
def test_a_tag_s_value_arrives_as_written(text: str) -> None:
    assert where(f"where.brand={text}") == {"brand": text}


@settings(max_examples=60)
@given(texts)
@traps
@example("null")
@example("[a, b]")
@example("[]")
def test_a_list_of_one_holds_every_value(text: str) -> None:
    assert where(f"where.brand=[{as_item(text)}]") == {"brand": [text]}
    assert options(f"missing_values=[{as_item(text)}, b]")["missing_values"] == [text, "b"]
    assert options(f"only.size=[{as_item(text)}]")["only"] == {"size": [text]}


@settings(max_examples=60)
@given(texts.filter(lambda text: text not in ("null", "") and text[0] not in "'\""))
@example("47'")
@example("a=b.jpg")
@example("${name}")
@example("???")
@example("010")
def test_a_text_arrives_as_written(text: str) -> None:
    """A key that is text or null; a whole text in quotation marks is what they enclose."""
    assert load_config(SearchConfig, None, ["index=here", f"text={text}"]).text == text
    assert load_config(SearchConfig, None, ["index=here", f"text={as_item(text)}"]).text == text
    assert load_config(IndexBuildConfig, None, ["model=m", "output=o", f"source={text}"]).source == text
    assert options(f"columns.product_id={text}")["columns"] == {"product_id": text}


def test_what_null_quotes_and_brackets_say() -> None:
    assert where("where.brand=null") == {"brand": None}
    assert where("where.brand=[null]") == {"brand": ["null"]}
    assert where("where.brand=[Puma, 010,no]") == {"brand": ["Puma", "010", "no"]}
    assert where("where.brand=['47, Levi's, 'a, b', \"\"]") == {"brand": ["'47", "Levi's", "a, b", ""]}
    assert where("where.brand=[]") == {"brand": []}
    assert where("where={brand: 010, size: [no, 1e3]}") == {"brand": "010", "size": ["no", "1e3"]}
    assert where("where.sub.category=a") == {"sub.category": "a"}
    assert load_config(SearchConfig, None, ["index=here", "text=null"]).text is None
    assert load_config(SearchConfig, None, ["index=here", "text='null'"]).text == "null"
    assert load_config(SearchConfig, None, ["index=here", "text='47 cap"]).text == "'47 cap"
    assert load_config(SearchConfig, None, ["index=null"]).index == "null"


def test_lists_on_the_command_line() -> None:
    assert options("missing_values=[no,NA,none]")["missing_values"] == ["no", "NA", "none"]
    assert options("missing_values=no")["missing_values"] == ["no"]
    assert options("missing_values=no,~")["missing_values"] == ["no", "~"]
    assert options("only={size: [010, ~, 2020-01-01]}")["only"] == {"size": ["010", "~", "2020-01-01"]}
    assert options("tags={brand: no, 1: off}")["tags"] == {"brand": "no", "1": "off"}
    assert split_texts("010, 'a, b',no") == ["010", "a, b", "no"]


@settings(max_examples=200)
@given(st.lists(texts))
@example(TRAPS)
def test_joined_texts_are_split_again(items: list[str]) -> None:
    assert split_texts(join_texts(items)) == items


def test_a_source_gets_its_texts_as_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("product_id,image,description\n")
    given = ["${name}", "???", "\ue0f5d", "010"]
    source: Any = build_source("folder", {"path": str(tmp_path), "missing_values": given})
    assert source.missing_values == given


def test_numbers_and_mappings_are_still_yaml() -> None:
    config = load_config(RunConfig, None, ["data=d", "seed=3", "image.flip=yes", "model.entities={brand: {tokens: 3}}"])
    assert (config.seed, config.image.flip, config.model.entities["brand"].tokens) == (3, True, 3)


def test_text_in_a_yaml_file_is_as_written(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(
        "source: folder\noutput: 010\npath: no\nmissing_values: [no, NA, ~, 1e3, 'on', null]\n"
        "only: {size: [010, 2020-01-01], no: [off]}\ntags:\n  brand: 0o7\n  year: 2020\n"
    )
    config, result = load_prepare_config(file, [])
    assert config.output == "010"
    assert result == {
        "path": "no",
        "missing_values": ["no", "NA", "~", "1e3", "on", "null"],
        "only": {"size": ["010", "2020-01-01"], "no": ["off"]},
        "tags": {"brand": "0o7", "year": "2020"},
    }
    run = tmp_path / "run.yaml"
    run.write_text("data: 007\nname: no\nseed: 010\noutput: runs/${name}\n")
    loaded = load_config(RunConfig, run)
    assert (loaded.data, loaded.name, loaded.output) == ("007", "no", "runs/no")


@pytest.mark.parametrize(("key", "value"), [("text.template", 10), ("name", True), ("logging.to", [True])])
def test_a_change_that_yaml_has_typed_asks_for_quotation_marks(key: str, value: Any) -> None:
    with pytest.raises(
        E2FashionError, match=rf"row 'a', key '{key}': {value if key != 'logging.to' else True} is not text"
    ):
        load_config(RunConfig, None, ["data=d"], {key: value}, "row 'a'")


def test_every_text_of_every_schema_is_found() -> None:
    """Each field of each configuration whose type is text is taken as written: none is forgotten."""

    @dataclass
    class Inner:
        word: str = ""

    @dataclass
    class Outer:
        one: str | None = None
        choice: Literal["a", "b"] = "a"
        number: int | None = None
        some: list[str] = field(default_factory=list)
        inner: Inner = field(default_factory=Inner)
        named: dict[str, Inner | None] = field(default_factory=dict)
        free: dict[str, Any] = field(default_factory=dict)
        tags: dict[str, Any] = field(default_factory=dict, metadata={TEXT_VALUES: True})

    keys = ("one", "choice", "some", "inner.word", "named.x.word", "tags.a.b")
    assert all(is_text(result[1]) for key in keys if (result := locate([Outer], key)))
    assert not any(is_text(result[1]) for key in ("number", "free.x", "inner") if (result := locate([Outer], key)))
    assert locate([Outer], "nowhere") is None
    assert locate([Outer], "inner.nowhere") is None


@pytest.mark.parametrize("verb", ["search", "index build", "evaluate", "data prepare"])
def test_a_path_with_an_equals_sign_is_an_argument(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.jpg", "output=b.jpg"):
        (tmp_path / name).touch()
    command = COMMANDS[verb]
    known = next(iter(command.config.__dataclass_fields__))
    paths = ["a=b.jpg", str(tmp_path / "a=b.jpg"), "./output=b.jpg", "photos/no=where.jpg", "plain"]
    overrides = ["c=d.jpg", f"{known}=a/b.jpg", *(["output=b.jpg"] if verb != "search" else [])]
    assert sort_arguments(command, [*overrides, *paths]) == (paths, overrides)
