"""Names and actions that wait for an import."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from e2fashion.lazy import lazy_names, when_imported


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package ``waiting`` whose function ``walk`` is in a module of the same name, and a module ``late``."""
    (tmp_path / "waiting").mkdir()
    (tmp_path / "waiting" / "__init__.py").write_text(
        "from e2fashion.lazy import lazy_names\n"
        "__getattr__ = lazy_names(__name__, {'waiting.walk': ('step', 'walk')})\n",
        encoding="utf-8",
    )
    (tmp_path / "waiting" / "walk.py").write_text("def walk(): return 1\ndef step(): return 2\n", encoding="utf-8")
    (tmp_path / "waiting" / "late.py").write_text("value = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "waiting"
    for name in [name for name in sys.modules if name.partition(".")[0] == "waiting"]:
        del sys.modules[name]


def test_a_name_is_imported_when_it_is_used_and_is_no_module_of_its_name(package: str) -> None:
    waiting = __import__(package)
    assert "waiting.walk" not in sys.modules
    assert waiting.step() == 2
    assert waiting.walk() == 1  # though the import system has set the module
    with pytest.raises(AttributeError, match="module 'waiting' has no attribute 'run'"):
        _ = waiting.run


def test_an_unknown_module_of_a_name_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        lazy_names("here", {"no_such_module": ("a",)})("a")


def test_an_action_waits_for_its_module_and_happens_once(package: str) -> None:
    __import__(package)
    seen: list[ModuleType] = []
    before = list(sys.meta_path)
    when_imported("waiting.late", seen.append)
    assert not seen
    __import__("waiting.late")
    assert [module.value for module in seen] == [1]
    assert sys.meta_path == before
    del sys.modules["waiting.late"]
    __import__("waiting.late")
    assert len(seen) == 1


def test_an_action_happens_at_once_where_the_module_is_there() -> None:
    seen: list[ModuleType] = []
    when_imported("json", seen.append)
    assert seen == [sys.modules["json"]]
