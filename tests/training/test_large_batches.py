"""Batches beyond memory and the sigmoid loss, from a run's configuration to its model folder."""

import math
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from tiny import TINY, save_random_clip

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.models import E2Model
from e2fashion.records import read_records
from e2fashion.training import build
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import run_identity
from e2fashion.training.module import ContrastiveModule
from e2fashion.training.optimization import scaled_to_batch
from e2fashion.types import E2FashionError


def config_of(catalogue: Catalogue, *overrides: str) -> RunConfig:
    return load_config(RunConfig, None, [f"data={catalogue.path}", *TINY, *overrides])


def losses(catalogue: Catalogue, folder: Path, *overrides: str) -> list[float]:
    """Of the steps that a run of one epoch logs."""
    # In bf16 a sum depends on the sizes of the operands by more than what is compared.
    words = [f"output={folder}", "train.precision=fp32", "train.stages.main.epochs=1", "evaluate_splits=[]", *overrides]
    run = train_run(config_of(catalogue, *words), progress=False)
    (file,) = (run.path / "logs").rglob("metrics.csv")
    return pd.read_csv(file)["train/loss/total"].dropna().tolist()


def test_chunks_and_checkpointing_train_alike(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    plain = losses(synth_catalogue, tmp_path / "plain")
    less = losses(synth_catalogue, tmp_path / "less", "train.chunk_size=5", "train.gradient_checkpointing=true")
    assert plain
    assert less == pytest.approx(plain, abs=1e-5)


def test_memory_is_not_part_of_a_run_s_identity(synth_catalogue: Catalogue) -> None:
    plain = run_identity(config_of(synth_catalogue), "")
    chunked = config_of(synth_catalogue, "train.chunk_size=4", "train.gradient_checkpointing=true")
    assert run_identity(chunked, "") == plain
    assert run_identity(config_of(synth_catalogue, "loss.kind=sigmoid"), "") != plain


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.chunk_size=17"], "train.chunk_size is 17, loader.batch_size is 16: give a part .* from 1 to 16"),
        (["train.chunk_size=0"], "train.chunk_size is 0"),
        (["train.accumulate_grad_batches=4"], "accumulate_grad_batches is 4: .* does not enlarge .* train.chunk_size"),
        (["train.accumulate_grad_batches=4", "train.chunk_size=8"], "accumulate_grad_batches is 4"),
    ],
)
def test_mistakes_are_refused_before_training(synth_catalogue: Catalogue, overrides: list[str], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        check_run(config_of(synth_catalogue, *overrides), synth_catalogue)


def test_accumulation_that_says_how_is_accepted(synth_catalogue: Catalogue) -> None:
    check_run(config_of(synth_catalogue, "train.accumulate_grad_batches=4", "train.chunk_size=4"), synth_catalogue)


def test_a_trainer_that_accumulates_is_refused(synth_catalogue: Catalogue) -> None:
    config = config_of(synth_catalogue)
    tokenizer = build.build_tokenizer(config, ["a red dress"])
    template = build.build_template(config, synth_catalogue)
    data = build.build_datamodule(config, synth_catalogue, template, build.build_transform(config), tokenizer)
    module = ContrastiveModule(build.build_model(config, tokenizer))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=2,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(E2FashionError, match=r"accumulate_grad_batches is 2: .* does not enlarge"):
        trainer.fit(module, datamodule=data)


def test_a_sigmoid_run_saves_its_bias(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    sigmoid = ["loss.kind=sigmoid", "train.chunk_size=6"]
    run = train_run(config_of(synth_catalogue, f"output={tmp_path / 'run'}", *sigmoid), progress=False)
    model = load_encoder(str(run.path)).model
    assert isinstance(model, E2Model)
    assert model.logit_bias is not None
    assert model.config.logit_bias_init_value == -10.0
    assert -10.5 < model.logit_bias.item() < -9.5
    assert model.logit_scale.item() == pytest.approx(math.log(10), abs=0.2)
    assert read_records(run.results)
    with pytest.raises(E2FashionError, match=r"trained with the sigmoid loss .* loss.kind is softmax"):
        train_run(
            config_of(synth_catalogue, f"output={tmp_path / 'softmax'}", f"model.checkpoint={run.model}"),
            progress=False,
        )


def test_a_clip_starts_the_sigmoid_loss_as_published(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    clip = save_random_clip(tmp_path / "clip", list(synth_catalogue.split("train")["description"]))
    config = config_of(synth_catalogue, f"model.checkpoint={clip}", "loss.kind=sigmoid")
    model = build.build_model(config, build.build_tokenizer(config, []))
    assert model.logit_bias is not None
    assert model.logit_bias.item() == -10.0
    assert model.logit_scale.item() == pytest.approx(math.log(10))


def test_the_learning_rate_fits_the_batch(
    synth_catalogue: Catalogue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert scaled_to_batch(1e-3, 100, batch=1024, reference=64) == (4e-3, 6)
    assert scaled_to_batch(1e-3, 0, batch=16, reference=64) == (5e-4, 0)
    words = [f"output={tmp_path / 'run'}", "evaluate_splits=[]", "train.scale_lr=true", "train.reference_batch=4"]
    with caplog.at_level("INFO", logger="e2fashion"):
        train_run(config_of(synth_catalogue, *words), progress=False)
    assert "batch of 16 products: learning rate 0.02, warm-up steps 1" in caplog.text


def test_compiled_layers_compute_the_same(synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not inductor, which takes a minute on a CPU.
    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: original(self, backend="aot_eager", **options)
    )
    tokenizer = build.build_tokenizer(config_of(synth_catalogue), ["a red dress", "a blue shirt"])
    configs = [config_of(synth_catalogue, f"train.compile={on}") for on in ("true", "false")]
    models = [build.build_model(item, tokenizer) for item in configs]
    models[1].load_state_dict(models[0].state_dict())
    pixels, ids = torch.randn(3, 3, 32, 32), torch.tensor(tokenizer(["a red dress", "a blue shirt"])["input_ids"])
    for compiled, plain in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(compiled, plain)
    found = []
    for model in models:
        model.seed_selection_noise(0)
        output = model(ids, pixels)
        output.logits_per_image.square().sum().backward()
        found.append((output.logits_per_image, model.visual_projection.weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
