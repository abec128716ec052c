"""Keys that join the schema of a run later leave finished runs what they were."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2fashion.config import load_config, save_config
from e2fashion.options import formerly_text, identity_values, joined_later, renamed
from e2fashion.training.config import EntityConfig, ModelConfig, RunConfig, TextConfig
from e2fashion.training.identity import differences, run_identity

WORDS = [
    "train.precision=fp32",
    "model.attention=sdpa",
    "data=catalogue",
    "model.entities={brand: {}}",
    "train.stages.main={epochs: 2, learning_rate: 0.1}",
]


@dataclass
class LaterText(TextConfig):
    case: str = joined_later("kept")


@dataclass
class LaterEntity(EntityConfig):
    weight: float = joined_later(1.0)


@dataclass
class LaterModel(ModelConfig):
    entities: dict[str, LaterEntity | None] = field(default_factory=dict)  # type: ignore[assignment]


@dataclass
class Diary:
    to: list[str] = field(default_factory=lambda: ["csv"])


@dataclass
class LaterRun(RunConfig):
    text: LaterText = field(default_factory=LaterText)
    model: LaterModel = field(default_factory=LaterModel)
    notes: list[str] = joined_later(default_factory=list)
    diary: Diary = joined_later(default_factory=Diary)


def identity(schema: type[RunConfig], *overrides: str) -> str:
    return run_identity(load_config(schema, None, [*WORDS, *overrides]), "fingerprint")


def test_a_key_that_joined_later_counts_only_where_it_differs_from_what_was_done_before() -> None:
    before = identity(RunConfig)
    assert identity(LaterRun) == identity(LaterRun, "text.case=kept", "notes=[]", "diary.to=[csv]") == before
    others = [
        "text.case=lower",
        "model.entities.brand.weight=2",
        "notes=[mine]",
        "diary.to=[csv,wandb]",
    ]
    assert len({before, *(identity(LaterRun, other) for other in others)}) == 1 + len(others)
    # Neither does it count for a plain CLIP, whose keys of the selection count as their defaults.
    assert identity(LaterRun, "model.entities={}") == identity(RunConfig, "model.entities={}")


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        ([], "fe40e2f01aa9"),
        (["model.entities={}"], "6b98021c37b3"),
        (["model.text_entities={season: {}}", "devices=2"], "ff4f6b1dc45a"),
    ],
)
def test_the_schema_gives_runs_the_identity_that_finished_ones_have(overrides: list[str], known: str) -> None:
    """A key that joins without ``joined_later`` changes them, and no finished run would be found again."""
    assert identity(RunConfig, *overrides) == known


def test_a_difference_names_the_key_with_both_values() -> None:
    one, other = (load_config(LaterRun, None, [*WORDS, *more]) for more in ([], ["text.case=lower"]))
    assert differences(one, one) == {}
    assert differences(one, other) == {"text.case": ("kept", "lower")}


def test_a_saved_configuration_without_the_key_is_read_and_with_it_says_so(tmp_path: Path) -> None:
    save_config(load_config(RunConfig, None, WORDS), tmp_path / "earlier.yaml")
    earlier = load_config(LaterRun, tmp_path / "earlier.yaml")
    assert earlier.text.case == "kept"
    save_config(earlier, tmp_path / "config.yaml")
    assert "case: kept" in (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert run_identity(load_config(LaterRun, tmp_path / "config.yaml"), "fingerprint") == identity(RunConfig)


def test_values_keep_what_did_not_join_later() -> None:
    assert "overflow" not in identity_values(TextConfig())
    assert identity_values(TextConfig(overflow="stretch"))["overflow"] == "stretch"
    assert identity_values(TextConfig()) == {"template": "{description}", "context_length": 77}
    assert identity_values(LaterText(case="lower"))["case"] == "lower"


def test_a_key_that_joins_later_needs_a_default() -> None:
    with pytest.raises(TypeError, match="the behavior of runs before"):
        joined_later()


def test_a_list_that_was_a_text_counts_as_that_text() -> None:
    @dataclass
    class Before:
        names: str = "a,b"
        one: str = "x"
        arms: str = "image,text"

    @dataclass
    class After:
        names: list[str] = formerly_text("a", "b")
        one: list[str] = formerly_text("x")
        modes: list[str] = renamed("arms", "image", "text")

    assert identity_values(After()) == identity_values(Before())
    changed = identity_values(After(names=[]))
    assert changed == {"names": "", "one": "x", "arms": "image,text"}
    assert identity_values(After(one=["it's", "a, b"]))["one"] == "it's,'a, b'"
