"""Interrupted and resumed fits against uninterrupted ones, and a loss that is not finite."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from tiny import TINY, same_weights

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.dataset import Augmentation
from e2fashion.data.loader import EpochSampler
from e2fashion.data.stream import StreamSampler, open_stream
from e2fashion.models import E2Model
from e2fashion.training.build import (
    build_datamodule,
    build_loss,
    build_model,
    build_template,
    build_tokenizer,
    build_transform,
    training_texts,
)
from e2fashion.training.callbacks import BestModel, RunInterruptedError
from e2fashion.training.config import RunConfig
from e2fashion.training.fit import fit_stage
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import E2FashionError


class StopAfter(pl.Callback):
    """Do something once ``step`` optimizer steps are done: what a person or a scheduler does from outside."""

    def __init__(self, step: int, action: Callable[[pl.Trainer], None]) -> None:
        self.step = step
        self.action = action

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, index: int) -> None:
        if trainer.global_step == self.step:
            self.action(trainer)


def fit(catalogue: Catalogue, folder: Path, overrides: tuple[str, ...] = (), stop: StopAfter | None = None) -> E2Model:
    config = load_config(RunConfig, None, [f"data={catalogue.path}", *TINY, *overrides])
    folder.mkdir(exist_ok=True)
    template, transform = build_template(config, catalogue), build_transform(config)
    tokenizer = build_tokenizer(config, training_texts(config, catalogue, template))
    pl.seed_everything(0, verbose=False)
    model = build_model(config, tokenizer)
    stage = config.train.stages["main"]
    assert stage is not None
    module = ContrastiveModule(
        model,
        build_loss(config),
        stage.learning_rate,
        config.train,
        transform,
        nonfinite_report=folder / "nonfinite_batch.json",
        temperature_end=stage.temperature_end,
    )
    data = build_datamodule(config, catalogue, template, transform, tokenizer)
    best = BestModel(folder / "best", model.save_pretrained, "SumR")
    stops = [stop] if stop else []
    fit_stage(module, data, config.train, stage.epochs, folder, "main", best, stops, progress=False)
    return model


@pytest.fixture(scope="module")
def uninterrupted(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> E2Model:
    return fit(synth_catalogue, tmp_path_factory.mktemp("run") / "whole")


def raise_signal(trainer: pl.Trainer) -> None:
    import signal

    signal.raise_signal(signal.SIGINT)


def die(trainer: pl.Trainer) -> None:
    raise RuntimeError("the machine went away")


@pytest.mark.parametrize("step", [3, 6, 8], ids=["mid_epoch", "end_of_epoch", "second_epoch"])
def test_a_run_stopped_by_ctrl_c_ends_with_the_weights_of_an_uninterrupted_one(
    synth_catalogue: Catalogue, uninterrupted: E2Model, tmp_path: Path, step: int
) -> None:
    with pytest.raises(RunInterruptedError):
        fit(synth_catalogue, tmp_path / "run", stop=StopAfter(step - 1, raise_signal))
    assert same_weights(fit(synth_catalogue, tmp_path / "run"), uninterrupted)


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    synth_catalogue: Catalogue, uninterrupted: E2Model, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="went away"):
        fit(synth_catalogue, tmp_path / "run", stop=StopAfter(5, die))
    assert same_weights(fit(synth_catalogue, tmp_path / "run"), uninterrupted)


def test_two_runs_are_bit_equal_and_another_seed_is_not(
    synth_catalogue: Catalogue, uninterrupted: E2Model, tmp_path: Path
) -> None:
    assert same_weights(fit(synth_catalogue, tmp_path / "again"), uninterrupted)
    assert not same_weights(fit(synth_catalogue, tmp_path / "other", ("seed=1",)), uninterrupted)


def test_loader_processes_do_not_change_the_weights(
    synth_catalogue: Catalogue, uninterrupted: E2Model, tmp_path: Path
) -> None:
    assert same_weights(fit(synth_catalogue, tmp_path / "workers", ("loader.workers=1",)), uninterrupted)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")
def test_a_stream_trains_as_its_split_does_in_the_same_order(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(synth_catalogue.path)
    streamed = fit(synth_catalogue, tmp_path / "stream", (f"stream=[{path}]", "loader.shuffle_buffer=20"))
    stream = StreamSampler(open_stream(path), ["product_id"], Augmentation(), 16, buffer=20, open_files=8)
    numbers = {
        product: number for number, product in enumerate(dict.fromkeys(synth_catalogue.split("train")["product_id"]))
    }
    plain = EpochSampler.order

    def order(sampler: EpochSampler, epoch: int) -> list[int]:
        stream.set_epoch(epoch)
        ids = [product for table, _ in stream for product in table.column("product_id").to_pylist()]
        return [numbers[product] for product in ids] if sampler.shuffle else plain(sampler, epoch)

    monkeypatch.setattr(EpochSampler, "order", order)
    assert same_weights(streamed, fit(synth_catalogue, tmp_path / "split"))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_products(
    synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    def spoil(trainer: pl.Trainer) -> None:
        with torch.no_grad():
            trainer.lightning_module.model.logit_scale.fill_(float("nan"))

    with pytest.raises(E2FashionError, match=r"loss became nan at step 3.*nonfinite_batch\.json"):
        fit(synth_catalogue, tmp_path / "run", stop=StopAfter(3, spoil))
    report = json.loads((tmp_path / "run" / "nonfinite_batch.json").read_text())
    train_ids = set(synth_catalogue.split("train")["product_id"])
    assert len(report["product_ids"]) == 16
    assert set(report["product_ids"]) <= train_ids


def test_bf16_trains_and_keeps_fp32_weights(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    model = fit(synth_catalogue, tmp_path / "run", ("train.precision=bf16",))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_temperature_is_bounded_after_each_step(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    def heat(trainer: pl.Trainer) -> None:
        with torch.no_grad():
            trainer.lightning_module.model.logit_scale.fill_(9.0)

    model = fit(synth_catalogue, tmp_path / "run", stop=StopAfter(3, heat))
    assert float(model.logit_scale.detach().exp()) <= 100.0 + 1e-4


def test_the_temperature_of_the_selection_is_annealed_and_saved(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    overrides = (
        "model.selection=soft",
        "model.noise=none",
        "model.temperature=2",
        "train.stages.main.temperature_end=0.1",
    )
    seen: list[float] = []

    def look(trainer: pl.Trainer) -> None:
        seen.append(trainer.lightning_module.model.vision_model.fusion_blocks["1"].temperature)

    whole = fit(synth_catalogue, tmp_path / "whole", overrides, StopAfter(6, look))
    steps = 2 * 6
    assert seen == [pytest.approx(2 * 0.05 ** (5 / (steps - 1)))]  # that of the step before
    assert whole.config.vision_config.selection_temperature == pytest.approx(0.1)
    with pytest.raises(RunInterruptedError):
        fit(synth_catalogue, tmp_path / "run", overrides, StopAfter(8, raise_signal))
    assert same_weights(fit(synth_catalogue, tmp_path / "run", overrides), whole)
    saved = E2Model.from_pretrained(tmp_path / "run" / "best")
    epochs = [pytest.approx(2 * 0.05 ** (last / (steps - 1))) for last in (5, 11)]
    temperature = saved.config.vision_config.selection_temperature
    assert temperature in epochs
    assert saved.vision_model.fusion_blocks["1"].temperature == temperature
