"""Two processes that each keep a part of the model (FSDP), and what is left when one of them is killed."""

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from forked import e2fashion, on_two_machines
from tiny import TINY, saved_weights

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.run_folder import RunFolder
from e2fashion.training import sharding
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import run_identity
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch, E2FashionError

pytest.importorskip("peft")

#: What differs from the usual run: 24 steps of two products on each process, a sharded layer in each tower, clipped
#: gradients, and adapters in one tower; in fp32 on processors that multiply bf16 as well, whose rounding would differ.
OTHER = {
    "model.scratch.text": "{layers: 2, width: 16, heads: 2}",
    "model.lora": "{vision: 0, text: 2}",
    "train.gradient_clip": "1.0",
    "train.precision": "fp32",
    "train.stages.main": "{epochs: 1, learning_rate: 0.01}",
    "train.checkpoint_every_steps": "6",
    "loader.batch_size": "2",
    "nodes": "2",
}
USUAL = [word for word in TINY if word.split("=")[0] not in OTHER]
USUAL += [f"{key}={value}" for key, value in OTHER.items()]
LESS_MEMORY = ["train.chunk_size=2", "train.gradient_checkpointing=true"]


def train(rank: int, runs: dict[str, list[str]], *words: str) -> int:
    """All ``runs`` in one process, one after the other."""
    del rank
    return max(e2fashion(["train", "run.yaml", f"output={name}", *words, *own]) for name, own in runs.items())


def losses(folder: Path) -> list[float]:
    """Of every logged step, with the values of the epoch."""
    (file,) = (folder / "logs").rglob("metrics.csv")
    return pd.read_csv(file)["train/loss/total"].dropna().tolist()


def assert_alike(found: Path, expected: Path) -> None:
    """Two saved models have the same weights up to rounding."""
    weights = saved_weights(expected).state_dict()
    for name, value in saved_weights(found).state_dict().items():
        if name.endswith("k_proj.bias"):
            continue  # attention does not depend on it: its gradient is rounding, which Adam makes large
        assert torch.allclose(value, weights[name], atol=1e-3), name


@pytest.fixture(scope="module")
def runs(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs ``ddp`` and ``fsdp``, the latter in chunks, whose numbers differ between processes."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "run.yaml").write_text("name: together\n", encoding="utf-8")
    each = {"ddp": [], "fsdp": ["train.strategy=fsdp", *LESS_MEMORY]}
    ended = on_two_machines(train, each, f"data={synth_catalogue.path}", *USUAL, "--quiet", folder=folder)
    assert [process.code for process in ended] == [0, 0], [process.error for process in ended]
    return folder


def test_parts_of_the_weights_train_as_whole_ones(runs: Path) -> None:
    expected = losses(runs / "ddp")
    assert len(expected) > 1
    assert losses(runs / "fsdp") == pytest.approx(expected, abs=1e-4)
    assert_alike(runs / "fsdp" / "model", runs / "ddp" / "model")


def killed(rank: int, step: int, words: list[str]) -> int:
    """A run whose second process is killed before a step."""

    def die(self: Any, batch: object, batch_idx: int) -> None:
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    if rank == 1:
        ContrastiveModule.on_train_batch_start = die  # type: ignore[method-assign]
    return e2fashion(words)


def test_a_killed_process_ends_the_run_which_goes_on_with_another_strategy(
    synth_catalogue: Catalogue, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("name: together\n", encoding="utf-8")
    words = [f"data={synth_catalogue.path}", *USUAL, "--quiet"]
    for step, strategy in ((7, "fsdp"), (13, "ddp")):
        command = ["train", "run.yaml", "output=run", *words, f"train.strategy={strategy}"]
        first, second = on_two_machines(killed, step, command, folder=tmp_path)
        assert (first.code, second.code) == (1, -signal.SIGKILL), first.error
        assert first.error.splitlines()[-1].startswith("error: Another process of the run has ended"), first.error
        assert "Traceback" not in first.error
    ended = on_two_machines(train, {"run": ["train.strategy=fsdp"]}, *words, folder=tmp_path)
    assert [process.code for process in ended] == [0, 0], [process.error for process in ended]
    run = RunFolder(tmp_path / "run")
    log = run.log.read_text(encoding="utf-8")
    assert log.count("Another process of the run has ended") == 2
    assert log.count("stage main resumes from") == 2
    assert_alike(run.model, runs / "ddp" / "model")


@pytest.mark.parametrize(
    ("tags", "chunk_size", "chunks", "wanted"),
    [(0, None, 1, 1), (0, 2, 2, 3), (3, 2, 4, 7), (3, 2, 2, 3), (3, None, 1, 3)],
)
def test_tags_fill_as_many_chunks_as_on_other_processes(
    tags: int, chunk_size: int | None, chunks: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "largest_over_ranks", lambda number, device: max(number, chunks))
    texts, ids = torch.arange(10).reshape(2, 5), torch.arange(3 * tags).reshape(tags, 3)
    absent = torch.zeros(2, 2, dtype=torch.bool)
    given = Batch(texts, texts, texts + 1, ids, ids + 1, absent.long(), absent, absent.long(), texts[:, 0])
    filled = sharding.with_equal_tags(given, chunk_size)
    assert len(filled.tag_input_ids) == wanted
    assert filled.tag_input_ids[:tags].tolist() == ids.tolist()
    assert torch.equal(filled.tag_attention_mask, filled.tag_input_ids + 1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"train.strategy is fsdp, .* devices=1 and nodes=1 are one process. Set devices or nodes"),
        (["devices=2", "train.compile=true"], r"cannot be compiled here. Set train.compile=false"),
        (["devices=2", "train.precision=fp16"], r"gradients of fp16 are not scaled here. Set train.precision=bf16"),
    ],
)
def test_what_cannot_be_sharded_is_refused(synth_catalogue: Catalogue, overrides: list[str], message: str) -> None:
    words = [f"data={synth_catalogue.path}", *TINY, "train.strategy=fsdp", *overrides]
    with pytest.raises(E2FashionError, match=message):
        check_run(load_config(RunConfig, None, words), synth_catalogue)


def test_the_strategy_is_not_part_of_a_run_s_identity(synth_catalogue: Catalogue) -> None:
    plain, sharded = (
        load_config(RunConfig, None, [f"data={synth_catalogue.path}", *TINY, "devices=2", f"train.strategy={strategy}"])
        for strategy in ("auto", "fsdp")
    )
    assert run_identity(plain, "") == run_identity(sharded, "")
