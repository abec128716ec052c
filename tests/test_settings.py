"""What a field means is read from its dataclass, and every field of ours says what it means."""

import dataclasses
import importlib
import inspect
import linecache
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from e2fashion.commands import COMMANDS
from e2fashion.data.sources import SOURCES
from e2fashion.settings import REQUIRED, SECTION, FieldDoc, class_doc, field_docs, settings_of

EXAMPLE = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n    'Found.'\n"


@dataclass
class Inner:
    size: int = 3
    """Its size.

    In pixels. Source: paper."""


@dataclass
class Base:
    shared: str = "a"
    """Shared by all."""
    needed: str = "???"
    """Must be given."""


@dataclass
class Outer(Base):
    """An example."""

    kind: Literal["one", "two"] | None = None
    """Which of the two, say ``one``. Source: official code."""
    silent: float = 0.5
    inner: Inner = field(default_factory=lambda: Inner(size=4))
    """The inner part."""
    parts: dict[str, Inner | None] = field(default_factory=dict)
    """Named parts."""


def test_a_field_means_what_the_string_after_it_says() -> None:
    docs = field_docs(Outer)
    assert docs["kind"] == FieldDoc("Which of the two, say ``one``.", "official code")
    assert field_docs(Inner)["size"] == FieldDoc("Its size. In pixels.", "paper")
    assert docs["shared"] == FieldDoc("Shared by all.")
    assert "silent" not in docs


def test_settings_are_listed_by_dotted_path_with_what_is_inherited_and_optional_last() -> None:
    result = {item.path: item for item in settings_of(Outer)}
    assert list(result) == ["needed", "kind", "silent", "inner", "inner.size", "parts", "parts.<name>.size", "shared"]
    assert (result["needed"].default, result["kind"].default) == (REQUIRED, "`null`")
    assert result["kind"].type == "`one` / `two` or null"
    assert (result["inner"].type, result["inner.size"].default, result["parts.<name>.size"].default) == (
        SECTION,
        "`4`",
        "`3`",
    )
    assert [item.section for item in result.values()] == ["", "", "", "", "inner", "", "parts.<name>", ""]
    assert result["silent"].meaning == ""


def test_a_class_in_a_function_has_meanings_too() -> None:
    @dataclass
    class Local:
        size: int = 1
        """Here."""

    assert field_docs(Local) == {"size": FieldDoc("Here.")}
    assert class_doc(Local) == ""  # Python generated its docstring


def test_a_class_without_source_has_no_meanings(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("without_source")
    monkeypatch.setitem(sys.modules, "without_source", module)
    exec(EXAMPLE, vars(module))
    assert field_docs(module.A) == {}
    assert [item.path for item in settings_of(module.A)] == ["x"]


def test_meanings_are_read_from_a_zipped_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as wheel:
        wheel.writestr("zipped_options.py", EXAMPLE)
    monkeypatch.syspath_prepend(str(tmp_path / "wheel.whl"))
    linecache.clearcache()
    module = importlib.import_module("zipped_options")
    assert field_docs(module.A) == {"x": FieldDoc("Found.")}


def schema_classes() -> list[type]:
    """Every dataclass that a configuration consists of, its bases included, and every source."""
    roots: list[Any] = [*SOURCES.values()]
    for config in {config for command in COMMANDS.values() for config in (command.config, command.passed) if config}:
        roots += [config, *(item.owner for item in settings_of(config))]
    result = {base for root in roots for base in root.__mro__ if dataclasses.is_dataclass(base)}
    return sorted(result, key=lambda owner: (owner.__module__, owner.__qualname__))


@pytest.mark.parametrize("owner", schema_classes(), ids=lambda owner: owner.__name__)
def test_every_field_has_a_docstring_of_its_own(owner: Any) -> None:
    docs = field_docs(owner)
    silent = [item.name for item in dataclasses.fields(owner) if not docs.get(item.name, FieldDoc("")).meaning]
    assert not silent, f"{owner.__name__}: say what these mean in a string right after the field"
    assert all(doc.meaning.endswith(".") or doc.meaning.endswith("...") for doc in docs.values())


@pytest.mark.parametrize("owner", schema_classes(), ids=lambda owner: owner.__name__)
def test_a_class_docstring_leaves_the_fields_to_themselves(owner: Any) -> None:
    lines = class_doc(owner)
    own = set(inspect.get_annotations(owner))
    assert not [name for name in own if f"``{name}`` is" in lines or f"``{name}`` null" in lines]
