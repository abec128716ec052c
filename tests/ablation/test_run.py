"""Runs end to end: two stages, what the folder holds, a repeated and an interrupted command, a loss that is NaN."""

import json
import logging
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import interrupted_by
from tiny import TINY, same_weights, saved_weights
from transformers import AutoModel, AutoProcessor, CLIPProcessor

from e2fashion.ablation.run import train as train_run
from e2fashion.config import config_of_path, load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.models import added_parameters
from e2fashion.records import read_records
from e2fashion.report import report
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.retrieval.measure import REGION_SCORE_WEIGHTS
from e2fashion.training import stages as training
from e2fashion.training.build import resolve_arithmetic
from e2fashion.training.callbacks import RunInterruptedError
from e2fashion.training.config import RunConfig
from e2fashion.training.fit import fit_stage
from e2fashion.types import E2FashionError

FIRST, SECOND = "new_parameters", "everything"
STAGES = [
    "train.stages.main=null",
    f"train.stages.{FIRST}={{epochs: 1, learning_rate: 0.01, parameters: new}}",
    f"train.stages.{SECOND}={{epochs: 1, learning_rate: 0.01}}",
]
State = dict[str, torch.Tensor]


def run_config(catalogue: Catalogue, output: Path, *overrides: str) -> RunConfig:
    return load_config(RunConfig, None, [f"data={catalogue.path}", f"output={output}", *TINY, *overrides])


def copied(folder: RunFolder, target: Path) -> RunFolder:
    shutil.copytree(folder.path, target)
    return RunFolder(target)


class Starts:
    """Remembers the weights with which every stage begins."""

    def __init__(self) -> None:
        self.weights: dict[str, State] = {}
        self.noisy: dict[str, bool] = {}

    def __call__(
        self, module: Any, data: Any, config: Any, epochs: int, folder: Path, stage: str, best: Any, **options: Any
    ) -> None:
        self.weights[stage] = {name: value.clone() for name, value in module.model.state_dict().items()}
        self.noisy[stage] = all(part.training for part in module.model.modules())
        fit_stage(module, data, config, epochs, folder, stage, best, **options)


@pytest.fixture(scope="module")
def starts() -> Starts:
    return Starts()


@pytest.fixture(scope="module")
def trained(synth_catalogue: Catalogue, starts: Starts, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two stages that nothing disturbed."""
    output = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_stage", starts)
        return train_run(run_config(synth_catalogue, output, *STAGES), progress=False)


def test_the_folder_holds_the_resolved_configuration(synth_catalogue: Catalogue, trained: RunFolder) -> None:
    resolved, _ = resolve_arithmetic(run_config(synth_catalogue, trained.path, *STAGES))
    assert load_config(RunConfig, trained.config) == resolved


def test_the_record_says_what_made_the_model(synth_catalogue: Catalogue, trained: RunFolder) -> None:
    record = trained.read_record()
    model = saved_weights(trained.model)
    added = added_parameters(model)
    assert record["added_parameters"] == added
    assert record["added_percent"] == pytest.approx(100 * added / (model.num_parameters() - added), abs=0.01)
    assert 0 < added < record["parameters"] == model.num_parameters()
    assert record["data_fingerprint"] == synth_catalogue.fingerprint
    assert {"commit", "identity", "versions", "device", "threads", "command"} <= set(record)
    assert record["seed"] == 0
    assert record["peak_memory_mb"] > 100
    assert record["parameters"] == sum(p.numel() for p in saved_weights(trained.model).parameters())
    stages = record["stages"]
    assert [stages[name]["done"] for name in (FIRST, SECOND)] == [True, True]
    assert all(stages[name]["seconds"] > 0 for name in (FIRST, SECOND))
    assert 0 < stages[FIRST]["trained_parameters"] < stages[SECOND]["trained_parameters"] == record["parameters"]


def test_the_log_tells_the_epochs(trained: RunFolder) -> None:
    assert trained.log.read_text(encoding="utf-8").count("epoch 1: SumR") == 2


def test_no_pickle_is_left_behind(trained: RunFolder) -> None:
    assert not [path.name for path in trained.path.rglob("*") if path.suffix in {".ckpt", ".pt", ".bin", ".pkl"}]
    assert (trained.model / "model.safetensors").is_file()


def test_transformers_reads_the_model_folder(trained: RunFolder) -> None:
    model = AutoModel.from_pretrained(trained.model)
    assert type(model).__name__ == "E2Model"
    assert same_weights(model, load_encoder(str(trained.path)).model)
    assert isinstance(AutoProcessor.from_pretrained(trained.model), CLIPProcessor)


def test_evaluation_uses_the_text_that_training_used(trained: RunFolder) -> None:
    assert load_encoder(str(trained.path)).template.template == "{brand} . {description}"
    retrieval = [record for record in read_records(trained.results) if record.task == "retrieval"]
    assert {record.text for record in retrieval} == {"{brand} . {description}"}


def test_a_run_says_whether_its_tokens_select_the_true_regions(trained: RunFolder) -> None:
    result = [record for record in read_records(trained.results) if record.task == "selection"]
    assert {(record.split, record.protocol, record.extra["layer"]) for record in result} == {("val", "tokens", 1)}
    assert {record.extra["entity"] for record in result} == {"brand", "season", "(all)"}
    assert "| lift over chance |" in report([trained.path])


def test_the_record_of_val_is_what_chose_the_model(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    # In bf16 the epoch is chosen by features of that precision, and its record is measured in fp32.
    trained = train_run(run_config(synth_catalogue, tmp_path / "run", "train.precision=fp32"), progress=False)
    (record,) = [r for r in read_records(trained.results) if r.metric == "SumR" and r.positives == "text"]
    best = max(stage["best"] for stage in trained.read_record()["stages"].values())
    assert record.split == "val"
    assert record.value == pytest.approx(best, abs=1e-3)


def test_the_first_stage_trains_new_parameters_only(trained: RunFolder, starts: Starts) -> None:
    changed = {
        name.split(".")[1 if name.startswith("vision_model") else 0]
        for name, value in saved_weights(trained.checkpoints / FIRST / "best").state_dict().items()
        if not torch.equal(value, starts.weights[FIRST][name])
    }
    assert changed == {"selection_tokens", "fusion_blocks", "region_heads"}


def test_the_second_stage_starts_from_the_best_of_the_first(trained: RunFolder, starts: Starts) -> None:
    best = saved_weights(trained.checkpoints / FIRST / "best").state_dict()
    assert all(torch.equal(value, starts.weights[SECOND][name]) for name, value in best.items())


@pytest.mark.usefixtures("trained")
def test_every_stage_trains_in_training_mode(starts: Starts) -> None:
    assert starts.noisy == {FIRST: True, SECOND: True}


def test_a_repeated_command_trains_nothing_and_adds_no_record(
    synth_catalogue: Catalogue, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit_stage", refuse)
    before = trained.results.read_bytes()
    train_run(run_config(synth_catalogue, trained.path, *STAGES, "threads=1"), progress=False)
    assert trained.results.read_bytes() == before


def test_a_protocol_that_is_asked_for_later_is_measured_alone(
    synth_catalogue: Catalogue, trained: RunFolder, tmp_path: Path
) -> None:
    folder = copied(trained, tmp_path / "run")
    before = len(read_records(folder.results))
    train_run(run_config(synth_catalogue, folder.path, *STAGES, "protocols=full,full_multiview"), progress=False)
    added = read_records(folder.results)[before:]
    assert {record.protocol for record in added} == {"full_multiview"}


def test_another_configuration_in_the_same_folder_is_refused(synth_catalogue: Catalogue, trained: RunFolder) -> None:
    identity = trained.read_record()["identity"]
    other = run_config(synth_catalogue, trained.path, *STAGES, "seed=3", "train.weight_decay=0.5")
    with pytest.raises(E2FashionError, match=rf"{identity}.*seed is 0 there and 3 here; train.weight_decay is"):
        train_run(other, progress=False)
    assert load_config(RunConfig, trained.config).seed == 0


def test_clip_ft_skips_the_stage_of_new_parameters_and_says_so(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    off = ["model.entities={brand: null, season: null}", "model.fusion_layers=[]", "loss.region_weight=0"]
    folder = train_run(run_config(synth_catalogue, tmp_path / "clip", *STAGES, *off), progress=False)
    stages = folder.read_record()["stages"]
    assert stages[FIRST] == {"done": True, "skipped": "nothing to train"}
    assert stages[SECOND]["best_epoch"] == 1
    assert load_encoder(str(folder.path)).entities == ()


@pytest.mark.parametrize("at", [(FIRST, 2), (SECOND, 3)], ids=["first_stage", "second_stage"])
def test_ctrl_c_and_train_with_the_folder_end_with_the_same_model(
    synth_catalogue: Catalogue, trained: RunFolder, tmp_path: Path, at: tuple[str, int]
) -> None:
    output = tmp_path / "run"
    config = run_config(synth_catalogue, output, *STAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_stage", interrupted_by(lambda: signal.raise_signal(signal.SIGINT), at))
        with pytest.raises(RunInterruptedError, match=rf"Resume with: e2fashion train {output}"):
            train_run(config, progress=False)
    checkpoint = output / "checkpoints" / at[0] / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == at[1] + 1
    assert "Resume with" in RunFolder(output).log.read_text(encoding="utf-8")
    assert train_run(config_of_path(RunConfig, output, []), progress=False).results.is_file()
    assert same_weights(saved_weights(output / "model"), saved_weights(trained.model))
    assert not checkpoint.exists()
    log = RunFolder(output).log.read_text(encoding="utf-8").splitlines()
    reasons = [line.partition(" INFO ")[2] for line in log if " INFO precision " in line]
    assert len(reasons) == 2
    assert len(set(reasons)) == 1
    assert "as configured" not in reasons[0]


@pytest.mark.parametrize("at", [(FIRST, 3), (SECOND, 3)], ids=["first_stage", "second_stage"])
def test_a_damaged_checkpoint_lets_its_stage_begin_again_and_changes_no_result(
    synth_catalogue: Catalogue,
    trained: RunFolder,
    tmp_path: Path,
    at: tuple[str, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A flipped bit in a weight: before, the run went on with it, or said that the learning rate is too high."""
    folder = RunFolder(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_stage", interrupted_by(lambda: signal.raise_signal(signal.SIGINT), at))
        with pytest.raises(RunInterruptedError):
            train_run(run_config(synth_catalogue, folder.path, *STAGES), progress=False)
    checkpoint = folder.path / "checkpoints" / at[0] / "last.ckpt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0x40
    checkpoint.write_bytes(content)
    train_run(config_of_path(RunConfig, folder.path, []), progress=False)
    assert same_weights(saved_weights(folder.model), saved_weights(trained.model))
    assert "last.ckpt is damaged (the checksum of its part" in caplog.text
    assert f"stage {at[0]} begins again from its start" in folder.log.read_text(encoding="utf-8")
    (entry,) = folder.read_record()["damaged_checkpoints"]
    assert (entry["stage"], entry["went_on_from"]) == (at[0], "the stage's start")
    assert list(checkpoint.parent.glob("last.ckpt*")) == []


def test_a_loss_that_is_nan_stops_the_run_with_the_products_in_a_file(
    synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    config = run_config(synth_catalogue, tmp_path / "run", "train.stages.main.learning_rate=1e30")
    with pytest.raises(E2FashionError, match=r"loss became nan at step \d+.*nonfinite_batch\.json"):
        train_run(config, progress=False)
    report = json.loads((tmp_path / "run" / "nonfinite_batch.json").read_text(encoding="utf-8"))
    assert set(report["product_ids"]) <= set(synth_catalogue.split("train")["product_id"])
    assert "ERROR The loss became nan" in RunFolder(tmp_path / "run").log.read_text(encoding="utf-8")


def test_frozen_parameters_keep_their_values(synth_catalogue: Catalogue, starts: Starts, tmp_path: Path) -> None:
    frozen = ["train.stages.main={epochs: 1, freeze: [text_model.*, logit_scale]}", "train.gradient_clip=1.0"]
    own = Starts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_stage", own)
        folder = train_run(run_config(synth_catalogue, tmp_path / "run", *frozen), progress=False)
    kept = {
        name.split(".")[0]
        for name, value in saved_weights(folder.model).state_dict().items()
        if torch.equal(value, own.weights["main"][name])
    }
    assert kept == {"text_model", "logit_scale"}


def test_sigmoid_same_value_targets_and_a_clipped_gradient_change_the_result(
    synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    def weights(name: str, *overrides: str) -> torch.nn.Module:
        short = ["train.stages.main.epochs=1", *overrides]
        return saved_weights(train_run(run_config(synth_catalogue, tmp_path / name, *short), progress=False).model)

    usual = weights("usual")
    sigmoid = weights("sigmoid", "loss.kind=sigmoid")
    # With softmax both targets have the same gradients: tests/losses/test_functional.py.
    targets = weights("same_value", "loss.kind=sigmoid", "loss.region_targets=same_value")
    assert not same_weights(usual, sigmoid)
    assert not same_weights(sigmoid, targets)
    assert not same_weights(usual, weights("clipped", "train.gradient_clip=0.01", "train.optimizer=adamw"))


def test_a_batch_larger_than_the_training_set_is_one_step(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    config = run_config(synth_catalogue, tmp_path / "run", "loader.batch_size=1000", "train.stages.main.epochs=1")
    folder = train_run(config, progress=False)
    assert folder.read_record()["stages"]["main"]["best_epoch"] == 1


def test_a_run_without_epochs_saves_and_measures_the_untrained_model(
    synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    folder = train_run(run_config(synth_catalogue, tmp_path / "run", "train.stages.main.epochs=0"), False)
    assert folder.read_record()["stages"]["main"] == {"done": True, "skipped": "no epochs"}
    assert read_records(folder.results)


def test_a_mistake_can_be_corrected_in_the_same_folder(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    short = "train.stages.main.epochs=1"
    with pytest.raises(E2FashionError, match="heads"):
        train_run(run_config(synth_catalogue, tmp_path / "run", short, "model.scratch.vision.heads=3"), False)
    assert train_run(run_config(synth_catalogue, tmp_path / "run", short), False).model.is_dir()


def test_the_log_handler_is_given_back(trained: RunFolder) -> None:
    handlers = logging.getLogger("e2fashion").handlers
    assert not [handler for handler in handlers if isinstance(handler, logging.FileHandler)]


def test_records_of_another_model_are_not_taken_for_ours(
    synth_catalogue: Catalogue, trained: RunFolder, tmp_path: Path
) -> None:
    folder = copied(trained, tmp_path / "run")
    config = replace(run_config(synth_catalogue, folder.path, *STAGES), name="renamed")
    before = len(read_records(folder.results))
    train_run(config, progress=False)
    assert {record.model for record in read_records(folder.results)[before:]} == {"renamed"}


def test_the_weight_of_the_regional_score_is_chosen_on_val_and_kept_with_the_model(
    synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    template = "text.template='{brand} . {description}'"
    config = run_config(synth_catalogue, tmp_path / "run", template, "protocols=full,full_regions")
    folder = train_run(config, progress=False)
    stored = load_encoder(str(folder.model)).model.config.region_score_weight
    assert stored in REGION_SCORE_WEIGHTS
    records = [record for record in read_records(folder.results) if record.protocol == "full_regions"]
    assert {record.extra["region_score_weight"] for record in records} == {stored}
    before = {file.name: file.stat().st_mtime_ns for file in folder.model.iterdir()}
    train_run(config, progress=False)
    assert {file.name: file.stat().st_mtime_ns for file in folder.model.iterdir()} == before
