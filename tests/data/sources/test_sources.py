"""Whatever a source raises while it is opened or read, the error names the source."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from e2fashion.data.config import Preparation, build_source
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.types import E2FashionError


@dataclass
class BrokenSource:
    """One that a library fails in at its second row."""

    path: str = ""
    name: ClassVar[str] = "broken"

    @property
    def tag_columns(self) -> tuple[str, ...]:
        return ()

    def __len__(self) -> int:
        return 2

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        yield SourceProblem("row 1", "", "image", "x", "mend it")
        raise RuntimeError("wrong chunk size\nmore")


def test_an_error_between_the_rows_names_the_source(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"source 'broken' cannot be read \(RuntimeError: wrong chunk size\)"):
        prepare_catalogue(BrokenSource(), tmp_path / "c", Preparation(on_error="skip"), progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"path": "a" * 300},
        {"path": "a\x00b"},
        {"path": ".", "table": "a" * 300},
        {"path": ".", "tags": [1]},
        {"path": ".", "tags": {"brand": {"x": "y"}}},
        {"path": ".", "only": {"part": {"x": ["y"]}}},
        {"path": {"x": 1}},
        {"path": ["x"]},
        {"path": ".", "columns": {"image": None}},
    ],
    ids=str,
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(E2FashionError):
        build_source("folder", options)
