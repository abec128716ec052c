from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from stub_catalogue import StubCatalogue, stub_catalogue

from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.types import Batch, E2FashionError

TOKENIZER = train_tokenizer(["a shirt number 1 2 3", "Brand 0 Summer"], kind="bpe", vocabulary=560)
CATALOGUE = stub_catalogue()


def data(catalogue: StubCatalogue = CATALOGUE, **options: Any) -> CatalogueDataModule:
    settings: dict[str, Any] = {"batch_size": 2, "evaluation_batch_size": 3, "seed": 1, "flip": True, "cache_gb": 1.0}
    settings["context_length"] = 20
    return CatalogueDataModule(
        catalogue,  # type: ignore[arg-type]
        TOKENIZER,
        ["brand", "season"],
        TextTemplate("{brand} . {description}"),
        ImageTransform(size=8),
        **{**settings, **options},
    )


def contents(batch: Batch) -> tuple[Any, ...]:
    return tuple(batch.product_ids), batch.pixel_values.tolist(), batch.input_ids.tolist(), batch.tag_value.tolist()


class StoppedError(Exception):
    pass


class Recorder(pl.LightningModule):
    """Notes what it is shown, and stops when it is told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.stop_at = stop_at
        self.seen: list[tuple[int, int, Any]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.stop_at:
            raise StoppedError
        self.seen.append((self.current_epoch, batch_idx, contents(batch)))
        return self.weight * batch.pixel_values.float().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert len(batch) > 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    module: Recorder, datamodule: CatalogueDataModule, callbacks: list[pl.Callback], checkpoint: Path | None = None
) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)


def every_steps(folder: Path, steps: int) -> pl.callbacks.ModelCheckpoint:
    return pl.callbacks.ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=steps, save_top_k=-1, enable_version_counter=False
    )


@pytest.fixture(scope="module")
def uninterrupted() -> list[tuple[int, int, Any]]:
    module = Recorder()
    fit(module, data(), [])
    assert len(module.seen) == 18
    return module.seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop_at", [3, 8, 15])
def test_interrupted_run_goes_on_with_the_same_batches(
    uninterrupted: list[tuple[int, int, Any]], tmp_path: Path, stop_at: int, workers: int
) -> None:
    first = Recorder(stop_at)
    with pytest.raises(StoppedError):
        fit(first, data(workers=workers), [every_steps(tmp_path, 2)])
    saved = stop_at - stop_at % 2
    second = Recorder()
    fit(second, data(workers=workers), [], tmp_path / f"step={saved}.ckpt")
    assert first.seen == uninterrupted[:stop_at]
    assert second.seen == uninterrupted[saved:]


def test_run_saved_at_an_epochs_end_goes_on_with_the_next(
    uninterrupted: list[tuple[int, int, Any]], tmp_path: Path
) -> None:
    save = pl.callbacks.ModelCheckpoint(
        tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1, save_on_train_epoch_end=True
    )
    with pytest.raises(StoppedError):
        fit(Recorder(stop_at=14), data(), [save])
    module = Recorder()
    fit(module, data(), [], tmp_path / "epoch=1.ckpt")
    assert module.seen == uninterrupted[12:]


def test_run_saved_behind_validation_goes_on_with_the_next_epoch(
    uninterrupted: list[tuple[int, int, Any]], tmp_path: Path
) -> None:
    save = pl.callbacks.ModelCheckpoint(
        tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1, save_on_train_epoch_end=False
    )
    with pytest.raises(StoppedError):
        fit(Recorder(stop_at=14), data(), [save])
    module = Recorder()
    fit(module, data(), [], tmp_path / "epoch=1.ckpt")
    assert module.seen == uninterrupted[12:]


def test_a_batch_that_was_interrupted_is_repeated(uninterrupted: list[tuple[int, int, Any]], tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        fit(Recorder(stop_at=9), data(), [pl.callbacks.OnExceptionCheckpoint(tmp_path, "interrupted")])
    module = Recorder()
    fit(module, data(), [], tmp_path / "interrupted.ckpt")
    assert module.seen == uninterrupted[9:]


def test_loader_is_whole_again_after_training() -> None:
    datamodule = data()
    with pytest.raises(StoppedError):
        fit(Recorder(stop_at=4), datamodule, [])
    assert len(list(datamodule.train_dataloader())) == 6


def test_batches_done_are_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoppedError):
        fit(Recorder(stop_at=5), data(), [every_steps(tmp_path, 4)])
    resumed = data(cache_gb=0.0)
    read: list[int] = []
    rows = resumed.rows("train")
    image = rows.image
    monkeypatch.setattr(rows, "image", lambda row: read.append(row) or image(row))
    module = Recorder(stop_at=6)
    with pytest.raises(StoppedError):
        fit(module, resumed, [], tmp_path / "step=4.ckpt")
    assert len(module.seen) == 2
    assert len(read) == 6


def test_resuming_with_another_batch_size_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        fit(Recorder(stop_at=5), data(), [every_steps(tmp_path, 4)])
    with pytest.raises(E2FashionError, match="batch_size was 2 and is 3"):
        fit(Recorder(), data(batch_size=3), [], tmp_path / "step=4.ckpt")


@pytest.mark.parametrize("options", [{"workers": 2}, {"cache_gb": 0.0}, {"cache_gb": 1e-6}])
def test_workers_and_cache_change_no_batch(options: dict[str, Any]) -> None:
    def epochs(datamodule: CatalogueDataModule) -> list[Any]:
        loader = datamodule.train_dataloader()
        result = []
        for epoch in (0, 1, 2):
            loader.epoch_sampler.set_epoch(epoch)
            result += [contents(batch) for batch in loader]
        return result

    assert epochs(data(**options)) == epochs(data())


def test_every_epoch_sees_every_product_in_another_order() -> None:
    loader = data().train_dataloader()
    orders = []
    for epoch in (0, 1):
        loader.epoch_sampler.set_epoch(epoch)
        orders.append([product for batch in loader for product in batch.product_ids])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(set(CATALOGUE.split("train")["product_id"]))


def test_val_shows_first_views_in_the_order_of_the_catalogue() -> None:
    batches = list(data().val_dataloader())
    assert [len(batch) for batch in batches] == [3, 2]
    assert [name for batch in batches for name in batch.product_ids] == [f"v{product}" for product in range(5)]


def test_evaluation_twice_is_equal() -> None:
    loader = data().loader("test")
    assert [contents(batch) for batch in loader] == [contents(batch) for batch in loader]


def test_all_views_on_request() -> None:
    loader = data().loader("test", views=True)
    assert [name for batch in loader for name in batch.product_ids] == CATALOGUE.split("test")["product_id"]


def test_splits_share_the_memory_for_images() -> None:
    datamodule = data(cache_gb=12.5 * 192 / 1e9)
    loaders: list[Any] = [datamodule.loader(split, views=True) for split in ("val", "train", "test")]
    assert [loader.dataset.cache.capacity for loader in loaders] == [9, 3, 0]


def test_fewer_products_than_a_batch_make_one() -> None:
    assert [len(batch) for batch in data(batch_size=64).train_dataloader()] == [12]


def test_truncated_texts_are_counted() -> None:
    fits, cut = data(context_length=30).text_counts("train"), data(context_length=5).text_counts("train", 4)
    assert (fits.distinct, fits.long, fits.truncated, fits.stretched) == (12, 0, 0, 0)
    assert (cut.distinct, cut.long, cut.truncated, cut.stretched) == (12, 12, 12, 12)
    assert cut.longest == fits.longest > 5


def test_the_description_alone_loses_sentences() -> None:
    """The place of the description within the text reaches the tokens, whatever the template puts around it."""
    catalogue = stub_catalogue()
    reading = data(catalogue, overflow="first_sentences", context_length=9)
    item = reading.rows("train").item(0, torch.zeros(3, 8, 8, dtype=torch.uint8))
    assert item.description is not None
    assert item.text[slice(*item.description)] == catalogue.split("train")[0]["description"]
    batch = next(iter(reading.loader("train")))
    assert batch.input_ids.shape[1] <= 9


def test_loader_matches_a_slow_reading_of_the_catalogue() -> None:
    split = CATALOGUE.split("val")
    firsts = [row for row in split if row["view"] == 0]
    texts = [f"{row['brand']} . {row['description']}" if row["brand"] else row["description"] for row in firsts]
    expected = TOKENIZER(texts)["input_ids"]
    shown = [
        ids[mask.bool()].tolist()
        for batch in data().val_dataloader()
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    assert shown == expected
