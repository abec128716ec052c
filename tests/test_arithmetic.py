"""``auto``: what it means on which device, what is asked for and kept, and what the log says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from e2fashion import arithmetic
from e2fashion.arithmetic import (
    Choice,
    log_arithmetic,
    multiplies_bf16,
    resolve_attention,
    resolve_precision,
    with_recorded_reasons,
)

CPU = torch.device("cpu")
NATIVE = {"avx512_bf16": True}


def processor(monkeypatch: pytest.MonkeyPatch, limit: str | None = None, **instructions: bool) -> None:
    """Let this processor have just these instructions, and oneDNN this limit."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16", "bf16"])
def test_auto_is_bf16_where_the_processor_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, instruction: str
) -> None:
    processor(monkeypatch, **{instruction: True})
    assert resolve_precision("auto", CPU) == Choice("bf16", "this CPU multiplies bf16 natively")


def test_auto_is_fp32_where_bf16_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, avx2=True, avx512_f=True)
    assert resolve_precision("auto", CPU) == Choice("fp32", "this CPU has no bf16 instructions")


@pytest.mark.parametrize(
    ("limit", "native"),
    [("AVX2", False), ("avx2", False), ("AVX512_CORE", False), ("AVX512_CORE_BF16", True), ("ALL", True)],
)
def test_a_limit_of_onednn_is_respected(monkeypatch: pytest.MonkeyPatch, limit: str, native: bool) -> None:
    processor(monkeypatch, limit, **NATIVE)
    assert multiplies_bf16(CPU) is native


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_on_a_gpu_follows_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    assert resolve_precision("auto", torch.device("cuda")).value == precision


@pytest.mark.parametrize("asked", ["fp32", "bf16", "fp16"])
def test_what_is_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    processor(monkeypatch, **NATIVE)
    assert resolve_precision(asked, CPU) == Choice(asked)  # type: ignore[arg-type]


def test_emulated_bf16_is_kept_with_a_warning_that_says_what_it_costs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    processor(monkeypatch)
    monkeypatch.setattr(arithmetic, "bf16_slowdown", lambda: 29.2)
    choice = resolve_precision("bf16", CPU)
    assert choice.value == "bf16"
    with caplog.at_level(logging.INFO):
        log_arithmetic({"precision": choice})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "this CPU emulates it, 29 times slower than fp32: use precision=auto" in record.getMessage()


def test_a_resumed_run_says_what_auto_meant_when_it_began() -> None:
    first = {"precision": Choice("fp32", "this CPU has no bf16 instructions"), "attention": Choice("sdpa", "faster")}
    recorded = {name: str(choice) for name, choice in first.items()}
    resumed: dict[str, Choice] = {"precision": Choice("fp32"), "attention": Choice("sdpa")}
    assert with_recorded_reasons(resumed, recorded) == first
    assert with_recorded_reasons(resumed, {}) == resumed
    other: dict[str, Choice] = {"precision": Choice("bf16", "as configured, but emulated", emulated=True)}
    assert with_recorded_reasons(other, recorded) == other
    assert with_recorded_reasons({"precision": Choice("bf16")}, recorded) == {"precision": Choice("bf16")}


@pytest.mark.parametrize(
    ("device", "precision", "attention"),
    [("cpu", "bf16", "eager"), ("cpu", "fp32", "sdpa"), ("cuda", "bf16", "sdpa"), ("cuda", "fp16", "sdpa")],
)
def test_auto_attention_is_what_was_measured_to_be_faster(device: str, precision: str, attention: str) -> None:
    assert resolve_attention("auto", precision, torch.device(device)).value == attention  # type: ignore[arg-type]


def test_the_slowdown_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arithmetic.bf16_slowdown(rows=64, width=32, columns=32) > 0


def test_configurations_name_no_precision_that_some_processors_emulate() -> None:
    configs = Path(__file__).resolve().parents[1] / "configs"
    named = [file.name for file in configs.rglob("*.yaml") if "precision: bf16" in file.read_text(encoding="utf-8")]
    assert not named
