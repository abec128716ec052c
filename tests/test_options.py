"""A configuration that is made in Python is checked as strictly as a file, before work starts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from e2fashion.ablation.run import train
from e2fashion.evaluation import evaluate
from e2fashion.options import check_schema
from e2fashion.tasks.captioning.captioner import caption
from e2fashion.tasks.captioning.config import CaptionRunConfig
from e2fashion.tasks.localization.config import ExplainConfig
from e2fashion.tasks.localization.explain import explain
from e2fashion.tasks.probing.config import ProbeConfig
from e2fashion.tasks.probing.probe import probe
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.training.config import ModelConfig, RunConfig
from e2fashion.types import E2FashionError

COMPLETE = EvaluateConfig(model="m", data="d")


@pytest.mark.parametrize(
    ("function", "config", "key"),
    [
        (train, RunConfig(), "data"),
        (evaluate, EvaluateConfig(data="d"), "model"),
        (probe, ProbeConfig(model="m", data="d"), "entity"),
        (explain, ExplainConfig(image="i.jpg"), "model"),
        (caption, CaptionRunConfig(images=["i.jpg"]), "decoder"),
    ],
)
def test_a_missing_key_is_named(function: Callable[[Any], Any], config: Any, key: str) -> None:
    name = type(config).__name__
    with pytest.raises(E2FashionError, match=rf"{name}: '{key}' is not given and has no default: {name}\({key}="):
        function(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "test"}, r"split is 'test': give a list, as in \['test'\]"),
        ({"split": ["tst"]}, r"split\[0\].*expected one of \['train', 'val', 'test'\]"),
        ({"seed": "first"}, r"seed is 'first': .* could not be converted to Integer"),
        ({"queries": [1]}, r"queries is \[1\]"),
    ],
)
def test_a_value_of_another_type_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=f"EvaluateConfig: {message}"):
        check_schema(replace(COMPLETE, **changes))


def test_what_fits_is_accepted() -> None:
    pair: Any = ("val", "test")
    check_schema(COMPLETE)
    check_schema(replace(COMPLETE, split=pair, output="x"))
    check_schema(RunConfig(data="d", model=ModelConfig(checkpoint="c")))
