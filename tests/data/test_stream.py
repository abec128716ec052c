"""Training products that are read file by file, against the same products from a catalogue's split."""

from itertools import chain
from pathlib import Path
from typing import Any

import fsspec
import pytest
from raw_products import ListSource, row
from test_datamodule import TOKENIZER, Recorder, StoppedError, contents, every_steps, fit

from e2fashion.ablation.run import train
from e2fashion.config import load_config
from e2fashion.data import storage
from e2fashion.data.catalogue import MANIFEST_FILE, Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.dataset import Augmentation, ProductDataset
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.stream import Stream, StreamSampler, open_stream
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.disk import read_json, seal, write_json
from e2fashion.records import read_records
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import run_identity
from e2fashion.types import E2FashionError
from tests.tiny import TINY

#: 37 products: the second part has several views of each.
PRODUCTS = {"one": 14, "two": 9, "three": 14}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Catalogue]:
    """Catalogues of several small files each, and ``val``, which has other splits as well."""
    folder, result = tmp_path_factory.mktemp("parts"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "BATCH_ROWS", 3)
        patch.setattr(storage, "FILE_BYTES", 3000)
        for part, (name, products) in enumerate(PRODUCTS.items()):
            numbers = [(product, view) for product in range(products) for view in range(3 if name == "two" else 1)]
            rows = [
                row(100 * part + 3 * product + view, product_id=f"{name}{product}", view=view, split="train")
                for product, view in numbers
            ]
            result[name] = prepare_catalogue(ListSource(rows), folder / name, Preparation(val_fraction=0.0), False)
    rows = [row(900 + number, split="val" if number < 4 else "test") for number in range(8)]
    return result | {"val": prepare_catalogue(ListSource(rows), folder / "val", Preparation(), False)}


def stream_of(parts: dict[str, Catalogue]) -> Stream:
    return open_stream(*(str(parts[name].path) for name in PRODUCTS))


def data(parts: dict[str, Catalogue], **options: Any) -> CatalogueDataModule:
    given = {"stream": stream_of(parts), "batch_size": 4, "shuffle_buffer": 6, "open_files": 2, "flip": True, "seed": 1}
    columns, template = ["brand", "season"], TextTemplate("{brand} . {description}")
    transform, length = ImageTransform(size=8), {"context_length": 20}
    return CatalogueDataModule(parts["val"], TOKENIZER, columns, template, transform, **{**given, **length, **options})


def epoch(datamodule: CatalogueDataModule, number: int) -> list[Any]:
    loader = datamodule.train_dataloader()
    loader.epoch_sampler.set_epoch(number)
    return [contents(batch) for batch in loader]


def ids(batches: list[Any]) -> list[str]:
    return list(chain.from_iterable(batch[0] for batch in batches))


def test_files_end_between_products_and_are_counted(parts: dict[str, Catalogue]) -> None:
    counts = parts["two"].manifest.shards["train"]
    assert len(counts) > 2
    assert sum(counts) == PRODUCTS["two"]
    assert len(stream_of(parts)) == sum(PRODUCTS.values())
    for shard in stream_of(parts).shards:
        assert len(list(shard.rows(["product_id"]))) == shard.products


def test_every_product_comes_once_an_epoch_in_another_order(parts: dict[str, Catalogue]) -> None:
    first, second = (ids(epoch(data(parts), number)) for number in (0, 1))
    assert len(first) == len(set(first)) == 36  # the 37th fills no batch
    assert first != second
    assert {name.rstrip("0123456789") for name in first} == PRODUCTS.keys()


def test_one_seed_gives_one_order_with_any_workers(parts: dict[str, Catalogue]) -> None:
    assert epoch(data(parts, workers=2), 3) == epoch(data(parts), 3)
    assert epoch(data(parts, seed=2), 3) != epoch(data(parts), 3)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_products_out(parts: dict[str, Catalogue], world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        sampler = StreamSampler(stream_of(parts), ["product_id"], Augmentation(), 3, 8, 3, rank, world_size)
        batches = [table.column("product_id").to_pylist() for table, _ in sampler]
        assert [len(batch) for batch in batches] == [3] * len(sampler)
        seen += chain.from_iterable(batches)
    assert len(seen) == len(set(seen)) == 36


@pytest.mark.parametrize(("buffer", "open_files"), [(1, 1), (6, 2), (7, 5), (1000, 8)])
def test_a_resumed_epoch_goes_on_in_the_buffer(parts: dict[str, Catalogue], buffer: int, open_files: int) -> None:
    def order(start: int) -> list[list[str]]:
        sampler = StreamSampler(stream_of(parts), ["product_id"], Augmentation(), 2, buffer, open_files)
        sampler.start_batch = start
        return [table.column("product_id").to_pylist() for table, _ in sampler]

    whole = order(0)
    assert len(whole) == 18
    for start in range(19):
        assert order(start) == whole[start:]


def test_batches_are_those_of_the_split_in_the_same_order(parts: dict[str, Catalogue]) -> None:
    """Views, flips, texts and tags of the same products from memory-mapped splits, to the bit."""
    datamodule = data(parts, crop_scale=0.7)
    items = {}
    for name in PRODUCTS:
        mapped = CatalogueDataModule(
            parts[name], TOKENIZER, datamodule.entity_columns, datamodule.template, datamodule.transform
        )
        products = ProductDataset(mapped.rows("train"), datamodule.augmentation)
        items |= {products[index, 5].product_id: products[index, 5] for index in range(len(products))}
    for batch in epoch(datamodule, 5):
        assert batch == contents(datamodule.collate([items[product] for product in batch[0]]))


def test_no_batch_is_hashed(parts: dict[str, Catalogue], monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr("datasets.arrow_dataset.generate_fingerprint", lambda *_: hashed.append("rows") or "0")
    assert len(epoch(data(parts), 0)) == 9
    assert not hashed


def test_an_interrupted_fit_goes_on_with_the_same_batches(parts: dict[str, Catalogue], tmp_path: Path) -> None:
    whole, first, second = Recorder(), Recorder(stop_at=13), Recorder()
    fit(whole, data(parts), [])
    with pytest.raises(StoppedError):
        fit(first, data(parts), [every_steps(tmp_path, 4)])
    fit(second, data(parts, workers=1), [], tmp_path / "step=12.ckpt")
    assert len(whole.seen) == 27
    assert (first.seen, second.seen) == (whole.seen[:13], whole.seen[12:])


def test_any_file_system_of_fsspec_is_read(parts: dict[str, Catalogue]) -> None:
    memory = fsspec.filesystem("memory")
    for name in PRODUCTS:
        memory.put(str(parts[name].path), f"/shop/{name}", recursive=True)
    remote = open_stream(*(f"memory://shop/{name}" for name in PRODUCTS))
    assert remote.fingerprint == stream_of(parts).fingerprint
    assert epoch(data(parts, stream=remote), 0) == epoch(data(parts), 0)


def edit_manifest(folder: Path, **values: Any) -> None:
    file = folder / MANIFEST_FILE
    write_json(file, seal(read_json(file, "") | values))


def test_what_cannot_be_streamed_is_refused_before_training(parts: dict[str, Catalogue], tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        source = fsspec.filesystem("file")
        source.put(str(parts["one"].path), str(tmp_path / name), recursive=True)
        return tmp_path / name

    def check(*streamed: object, **settings: object) -> None:
        words = [*TINY, f"data={parts['val'].path}", f"stream=[{','.join(map(str, streamed))}]", "loader.batch_size=4"]
        check_run(load_config(RunConfig, None, [*words, *(f"{k}={v}" for k, v in settings.items())]), parts["val"])

    check(*(parts[name].path for name in PRODUCTS))
    edit_manifest(old := copy("old"), shards={})
    with pytest.raises(E2FashionError, match=r"old does not say how many products .* an epoch has no length"):
        check(parts["two"].path, old)
    with pytest.raises(E2FashionError, match="val has no split 'train'; it has: val, test"):
        check(parts["val"].path)
    with pytest.raises(E2FashionError, match=r"same holds the same products as .*one"):
        check(parts["one"].path, copy("same"))
    with pytest.raises(E2FashionError, match="there is not a catalogue: it does not exist"):
        check(tmp_path / "there")
    with pytest.raises(E2FashionError, match=r"memory://there/manifest.json cannot be read \(FileNotFoundError"):
        check("memory://there")
    with pytest.raises(
        E2FashionError, match=r"s4://there/manifest.json cannot be read \(ValueError: Protocol not known"
    ):
        check("s4://there")
    edit_manifest(plain := copy("plain"), columns=[*storage.BASE_COLUMNS], fingerprint="")
    with pytest.raises(E2FashionError, match="plain lacks the column 'brand'"):
        check(plain)
    with pytest.raises(E2FashionError, match=r"it has 9 products, and a step takes 10\. Lower loader.batch_size"):
        check(parts["two"].path, **{"loader.batch_size": 10})
    with pytest.raises(E2FashionError, match=r"loader.open_files is 0; give a number from 1"):
        check(parts["two"].path, **{"loader.open_files": 0})


def test_a_file_that_was_cut_is_reported(parts: dict[str, Catalogue], tmp_path: Path) -> None:
    fsspec.filesystem("file").put(str(parts["one"].path), str(tmp_path / "cut"), recursive=True)
    counts = [*parts["one"].manifest.shards["train"][:-1], 9]
    edit_manifest(tmp_path / "cut", fingerprint="cut", shards={"train": counts})
    cut = open_stream(str(tmp_path / "cut"))
    with pytest.raises(E2FashionError, match=r"arrow has \d products where 9 were written"):
        epoch(data(parts, stream=cut), 0)
    for shard in cut.shards:
        Path(shard.url).write_bytes(Path(shard.url).read_bytes()[:200])
    with pytest.raises(E2FashionError, match="arrow cannot be read"):
        epoch(data(parts, stream=cut), 0)


def test_content_and_order_of_the_stream_identify_a_run(parts: dict[str, Catalogue]) -> None:
    def identity(*names: str, **settings: int) -> str:
        words = [f"{key}={value}" for key, value in settings.items()]
        words.append(f"stream=[{','.join(str(parts[name].path) for name in names)}]")
        return run_identity(load_config(RunConfig, None, ["data=catalogue", *TINY, *words]), "fingerprint")

    several = {identity("one", "two"), identity("two", "one"), identity("one"), identity()}
    several |= {identity("one", **{"loader.shuffle_buffer": 9}), identity("one", **{"loader.open_files": 2})}
    assert len(several) == 6


def test_a_run_streams_its_training_products(parts: dict[str, Catalogue], tmp_path: Path) -> None:
    """Also the tokenizer's; ``data`` needs no train split."""
    streamed = [str(parts[name].path) for name in PRODUCTS]
    words = [*TINY, f"data={parts['val'].path}", f"stream=[{','.join(streamed)}]", f"output={tmp_path / 'run'}"]
    words += ["model.entities.season=null", "train.stages.main.epochs=1"]
    folder = train(load_config(RunConfig, None, words), progress=False)
    facts = {"files": len(stream_of(parts).shards), "products": 37, "fingerprint": stream_of(parts).fingerprint}
    assert folder.read_record()["stream"] == facts
    assert {record.split for record in read_records(folder.results)} == {"val"}
