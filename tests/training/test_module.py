"""One step of the module: pixels, seeds, what is logged, and retrieval on val against the metric on everything."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import TINY

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD
from e2fashion.metrics.retrieval import CrossModalRecall
from e2fashion.training import build
from e2fashion.training.config import RunConfig
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch, E2FashionError


@pytest.fixture(scope="module")
def data(synth_catalogue: Catalogue) -> CatalogueDataModule:
    config = config_of(synth_catalogue)
    template = build.build_template(config, synth_catalogue)
    tokenizer = build.build_tokenizer(config, build.training_texts(config, synth_catalogue, template))
    return build.build_datamodule(config, synth_catalogue, template, build.build_transform(config), tokenizer)


def config_of(catalogue: Catalogue, *overrides: str) -> RunConfig:
    return load_config(RunConfig, None, [f"data={catalogue.path}", *TINY, *overrides])


@pytest.fixture
def module(synth_catalogue: Catalogue, data: CatalogueDataModule, tmp_path: Path) -> ContrastiveModule:
    config = config_of(synth_catalogue)
    torch.manual_seed(0)
    stage = config.train.stages["main"]
    assert stage is not None
    made = ContrastiveModule(
        model=build.build_model(config, data.collate.fit.tokenizer),
        loss=build.build_loss(config),
        learning_rate=stage.learning_rate,
        config=config.train,
        transform=data.transform,
        nonfinite_report=tmp_path / "nonfinite_batch.json",
    )
    made.log = made.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    return made


@pytest.fixture
def batch(data: CatalogueDataModule) -> Batch:
    return next(iter(data.train_dataloader()))


def test_uint8_pixels_are_normalized_once(module: ContrastiveModule, batch: Batch) -> None:
    raw = batch.pixel_values.clone()
    prepared = module.on_after_batch_transfer(batch, 0).pixel_values
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    torch.testing.assert_close(prepared, (raw / 255.0 - mean) / std, atol=1e-5, rtol=1e-5)
    assert module.on_after_batch_transfer(batch, 0).pixel_values is prepared


def test_a_step_depends_on_seed_and_step_alone(module: ContrastiveModule, batch: Batch) -> None:
    batch = module.on_after_batch_transfer(batch, 0)
    module.train()
    torch.manual_seed(1)
    first = module.training_step(batch, 0)
    torch.manual_seed(2)
    assert torch.equal(module.training_step(batch, 0), first)
    module.seed = 1
    assert not torch.equal(module.training_step(batch, 0), first)


def test_terms_are_named_by_entity(module: ContrastiveModule, batch: Batch) -> None:
    terms = module.compute_loss(module.on_after_batch_transfer(batch, 0)).terms
    assert list(terms) == ["global", "region/brand", "region/season"]


def test_val_retrieval_over_batches_is_that_over_all(
    module: ContrastiveModule, data: CatalogueDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    module.eval()
    whole = CrossModalRecall()
    monkeypatch.setattr(data, "evaluation_batch_size", 5)
    with torch.no_grad():
        for number, small in enumerate(data.val_dataloader()):
            module.validation_step(module.on_after_batch_transfer(small, 0), number)
        monkeypatch.setattr(data, "evaluation_batch_size", 128)
        (everything,) = data.val_dataloader()
        output = module(module.on_after_batch_transfer(everything, 0))
    whole.update(output.image_embeds, output.text_embeds, everything.text_group, everything.text_group)
    module.on_validation_epoch_end()
    assert logged["SumR"] == pytest.approx(float(whole.compute()["SumR"]))


@pytest.mark.parametrize(("rank", "name"), [(0, "nonfinite_batch.json"), (1, "nonfinite_batch_rank1.json")])
def test_a_loss_that_is_not_finite_names_its_products(
    module: ContrastiveModule, batch: Batch, tmp_path: Path, rank: int, name: str
) -> None:
    module._trainer = SimpleNamespace(global_rank=rank, global_step=7, current_epoch=1, is_global_zero=rank == 0)  # type: ignore[assignment]
    batch = module.on_after_batch_transfer(batch, 0)
    batch.pixel_values[0] = float("nan")
    with pytest.raises(E2FashionError, match=rf"The loss became nan at step 7.*{name}.*learning_rate"):
        module.training_step(batch, 0)
    report = json.loads((tmp_path / name).read_text(encoding="utf-8"))
    assert report["product_ids"] == batch.product_ids
    assert report["step"] == 7
