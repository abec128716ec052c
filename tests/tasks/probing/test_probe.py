"""Probes of a tiny encoder: what is left out and counted, the cache, few shots, and refusals before work starts."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import save_random_clip
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceRow
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.features import cached_features, extract_features
from e2fashion.options import Inference
from e2fashion.records import append_records, latest_records, read_records
from e2fashion.report import write_tables
from e2fashion.tables import to_markdown
from e2fashion.tasks.probing.config import ProbeConfig
from e2fashion.tasks.probing.linear import LogisticProblem
from e2fashion.tasks.probing.probe import draw_shots, measure_probe
from e2fashion.tasks.probing.tables import probe_tables
from e2fashion.types import E2FashionError, ResultRecord

pytestmark = pytest.mark.filterwarnings("ignore:.*at the edge of the grid")


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def probe(encoder: Encoder, catalogue: Catalogue, folder: Path, *entities: str, **changes: Any) -> list[ResultRecord]:
    values: dict[str, Any] = {"strengths": [0.1, 0.01], "min_examples": 3, "resamples": 50}
    config = ProbeConfig(entity=list(entities), **values | changes)
    return measure_probe(encoder, catalogue, config, folder, progress=False)


def test_a_record_per_metric_with_everything_that_made_it(
    encoder: Encoder, synth_catalogue: Catalogue, cache: Path
) -> None:
    records = probe(encoder, synth_catalogue, cache, "season")
    assert [record.metric for record in records] == ["accuracy", "macro_f1", "weighted_f1"]
    record = records[0]
    assert (record.task, record.model, record.split) == ("probe", "tiny", "test")
    assert record.low is not None
    assert record.high is not None
    assert record.low <= record.value <= record.high
    tags = [tag for tag in synth_catalogue.split("test")["season"][::2] if tag]
    assert record.queries == len(tags)
    extra = record.extra
    assert extra["untagged_products"] == synth_catalogue.manifest.splits["test"]["products"] - len(tags)
    assert (extra["entity"], extra["features"], extra["shots"], extra["converged"]) == ("season", "global", "all", True)
    assert extra["strength"] in (0.1, 0.01)
    most = max(set(tags), key=list(synth_catalogue.split("train")["season"]).count)
    assert extra["majority"]["accuracy"] == pytest.approx(100 * tags.count(most) / len(tags))


def test_twice_is_equal(encoder: Encoder, synth_catalogue: Catalogue, cache: Path) -> None:
    assert probe(encoder, synth_catalogue, cache, "brand", shots=(1,), draws=2) == probe(
        encoder, synth_catalogue, cache, "brand", shots=(1,), draws=2
    )


def test_the_second_time_the_encoder_is_not_called(
    encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = probe(encoder, synth_catalogue, tmp_path, "brand", features=("global", "region"))
    assert len(list(tmp_path.glob("*.safetensors"))) == 3

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the encoder was called")

    monkeypatch.setattr(encoder.model, "get_image_features", refuse)
    assert probe(encoder, synth_catalogue, tmp_path, "brand", features=("global", "region")) == first
    with pytest.raises(AssertionError, match="the encoder was called"):
        probe(encoder, synth_catalogue, tmp_path / "other", "brand")


def test_other_weights_are_another_file(encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path) -> None:
    before = encoder.fingerprint
    cached_features(encoder, synth_catalogue, "val", tmp_path, progress=False)
    weight = encoder.model.visual_projection.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] += 1.0
    try:
        assert encoder.fingerprint != before
        cached_features(encoder, synth_catalogue, "val", tmp_path, progress=False)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert encoder.fingerprint == before
    assert len(list(tmp_path.glob("val_*.safetensors"))) == 2


def test_a_broken_file_of_features_is_named_and_made_again(
    encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = cached_features(encoder, synth_catalogue, "val", tmp_path, progress=False)
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    for damaged in (whole[:100], whole[:-4] + b"\0\0\0\0"):
        file.write_bytes(damaged)
        caplog.clear()
        result = cached_features(encoder, synth_catalogue, "val", tmp_path, progress=False)
        assert torch.equal(result.image, first.image)
        assert f"{file} " in caplog.text
        assert "damaged" in caplog.text
        assert "It is extracted again." in caplog.text


def test_features_are_those_of_the_encoder(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    result = extract_features(encoder, synth_catalogue, "val", progress=False)
    assert set(result.regions) == {"brand"}
    again = extract_features(encoder, synth_catalogue, "val", Inference(batch_size=3), progress=False)
    torch.testing.assert_close(result.image, again.image)
    torch.testing.assert_close(result.image.norm(dim=1), torch.ones(len(result.image)))
    both = result.of("both", "brand")
    assert torch.equal(both, torch.cat([result.image, result.regions["brand"]], dim=1))


def test_kinds_of_features_are_rows_of_their_own(encoder: Encoder, synth_catalogue: Catalogue, cache: Path) -> None:
    records = probe(encoder, synth_catalogue, cache, "brand", features=("global", "region", "both"))
    assert [record.extra["features"] for record in records[::3]] == ["global", "region", "both"]
    assert latest_records(records) == records


Tag = str | None


class TaggedSource:
    """Images of noise in given splits with given tags."""

    name: ClassVar[str] = "tagged"

    def __init__(self, column: str, products: Sequence[tuple[str, Tag]]) -> None:
        self.products = products
        self.tag_columns = (column,)

    def __len__(self) -> int:
        return len(self.products)

    def rows(self) -> Iterator[SourceRow]:
        generator = np.random.default_rng(0)
        for place, (split, tag) in enumerate(self.products):
            stream = io.BytesIO()
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(stream, "PNG")
            tags = {self.tag_columns[0]: tag}
            yield SourceRow(f"row {place}", f"p{place}", stream.getvalue(), f"garment {place}", tags, split=split)


def tagged(folder: Path, train: dict[str, int], val: list[Tag], test: list[Tag], column: str = "brand") -> Catalogue:
    """A catalogue whose splits hold these tags."""
    products: list[tuple[str, Tag]] = [("train", name) for name, count in train.items() for _ in range(count)]
    products += [("val", tag) for tag in val] + [("test", tag) for tag in test]
    return prepare_catalogue(TaggedSource(column, products), folder, Preparation(val_fraction=0.0), progress=False)


def test_rare_and_unseen_classes_are_left_out_and_counted(encoder: Encoder, tmp_path: Path) -> None:
    train = {"A": 5, "B": 5, "single": 1, "two": 2}
    catalogue = tagged(tmp_path / "c", train, ["A", "B"], ["A", "B", "B", "single", "two", "two", "new", "newer", None])
    (record, *_) = probe(encoder, catalogue, tmp_path, "brand")
    assert (record.queries, record.candidates) == (3, 2)
    expected = {"classes": 2, "train_products": 10, "rare_classes": 2, "rare_train_products": 3, "rare_products": 3}
    expected |= {"unseen_classes": 2, "unseen_products": 2, "untagged_products": 1}
    assert {name: record.extra[name] for name in expected} == expected
    caption = probe_tables([record, *_])[0].caption
    assert (
        "brand: 2 classes with fewer than 3 products in train left out (3 products there, 3 here), 2 classes that "
        "train lacks (2 products), 1 products without a tag." in caption
    )


def test_a_class_with_one_example_takes_part_when_asked(encoder: Encoder, tmp_path: Path) -> None:
    catalogue = tagged(tmp_path / "c", {"A": 5, "B": 5, "single": 1}, ["A", "B"], ["A", "single"])
    (record, *_) = probe(encoder, catalogue, tmp_path, "brand", min_examples=1, shots=(4,), draws=2)
    assert record.candidates == 3
    assert _[-1].extra["short_classes"] == 1


def test_composition_goes_by_its_dominant_fibre(encoder: Encoder, tmp_path: Path) -> None:
    texts = ["70% wool, 30% silk", "Wool", "60% silk, 40% wool", "Body: 100% silk. Lining: 100% wool", "Dry clean."]
    train = dict.fromkeys(texts, 3)
    catalogue = tagged(tmp_path / "c", train, [*texts], [*texts], "composition")
    (record, *_) = probe(encoder, catalogue, tmp_path, "composition", min_examples=6)
    assert (record.candidates, record.queries, record.extra["untagged_products"]) == (2, 4, 1)
    with pytest.raises(E2FashionError, match=r"'composition' has 0 class\(es\) with at least 6 products in train"):
        probe(encoder, catalogue, tmp_path, "composition", min_examples=6, fibre_columns=())


def test_few_shots(encoder: Encoder, synth_catalogue: Catalogue, cache: Path) -> None:
    records = probe(encoder, synth_catalogue, cache, "season", shots=(1, 4), draws=3)
    few = [record for record in records if record.metric == "accuracy"]
    assert [record.extra["shots"] for record in few] == ["all", "1", "4"]
    assert few[1].extra["draws"] == 3
    assert few[1].extra["deviation"]["accuracy"] >= 0
    printed = "\n".join(map(to_markdown, probe_tables(records)))
    assert "| entity | model | features | 1 a class | 4 a class | all of train |" in printed
    assert "over 3 draws" in printed


def test_drawn_shots() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
    drawn = draw_shots(labels, 2, seed=0)
    assert torch.bincount(labels[drawn]).tolist() == [2, 2, 1]
    assert torch.equal(drawn, draw_shots(labels, 2, seed=0))
    assert any(not torch.equal(drawn, draw_shots(labels, 2, seed)) for seed in range(1, 6))


def test_a_fit_that_did_not_converge_is_recorded(encoder: Encoder, synth_catalogue: Catalogue, cache: Path) -> None:
    with pytest.warns(UserWarning, match="did not converge"):
        records = probe(encoder, synth_catalogue, cache, "season", max_iterations=1)
    assert not records[0].extra["converged"]
    assert records[0].extra["unconverged_fits"] == 2
    assert "NOT converged" in to_markdown(probe_tables(records)[0])


def test_val_chooses_and_test_is_not_asked(
    encoder: Encoder, synth_catalogue: Catalogue, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = LogisticProblem.__init__

    def remember(self: LogisticProblem, features: Any, labels: Any, classes: int) -> None:
        sizes.append(len(labels))
        original(self, features, labels, classes)

    monkeypatch.setattr(LogisticProblem, "__init__", remember)
    records = probe(encoder, synth_catalogue, cache, "season")
    assert sizes == [records[0].extra["train_products"]]


def test_records_of_two_probes_do_not_replace_each_other(
    encoder: Encoder, synth_catalogue: Catalogue, cache: Path, tmp_path: Path
) -> None:
    file = tmp_path / "results.jsonl"
    for changes in ({}, {"strengths": (0.5, 0.05)}, {"min_examples": 2}, {"shots": (1,), "draws": 2}):
        append_records(file, probe(encoder, synth_catalogue, cache, "season", **changes))
    # The fourth holds a few-shot row and the first one's over again.
    assert len(read_records(file)) == 12
    assert "| season | tiny | global |" in write_tables(read_records(file))


def test_what_the_model_or_the_catalogue_lacks_is_left_out_with_a_note(
    encoder: Encoder, synth_catalogue: Catalogue, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("material", "season", "brand")
    records = probe(encoder, synth_catalogue, cache, *names, features=("global", "region"))
    assert {(record.extra["entity"], record.extra["features"]) for record in records} == {
        ("season", "global"),
        ("brand", "global"),
        ("brand", "region"),
    }
    assert [line.partition(": ")[0] for line in caplog.messages if line.startswith("no probe")] == [
        "no probe of 'material'",
        "no probe of 'season' from region features",
    ]


@pytest.mark.parametrize(
    ("entities", "changes", "message"),
    [
        (["material"], {}, "has no entity 'material'. Its tag columns: brand, season, sub_category, composition"),
        ([], {}, "entity is empty"),
        (["brand"], {"features": ("regional",)}, "features is 'regional'; choose from global, region, both"),
        (["season"], {"features": ("region",)}, "'tiny' has no region features of 'season': its entities are brand"),
        (["brand"], {"split": "holdout"}, "no split 'holdout'; it has: train, val, test"),
        (["brand"], {"min_examples": 1000}, r"'brand' has 0 class\(es\) with at least 1000 products in train"),
        (["brand"], {"min_examples": 0}, "min_examples is 0"),
        (["brand"], {"strengths": (0.0,)}, r"strengths is \[0.0\]; give numbers above 0"),
        (["brand"], {"shots": (0,)}, "shots is 0"),
        (["brand"], {"tolerance": 0.0}, "both must be above 0"),
    ],
)
def test_mistakes_are_named_before_the_encoder_runs(
    entities: list[str],
    changes: dict[str, Any],
    message: str,
    encoder: Encoder,
    synth_catalogue: Catalogue,
    tmp_path: Path,
) -> None:
    with pytest.raises(E2FashionError, match=message):
        probe(encoder, synth_catalogue, tmp_path, *entities, **changes)
    assert not list(tmp_path.iterdir())


def test_an_entity_with_a_single_class_left(encoder: Encoder, tmp_path: Path) -> None:
    catalogue = tagged(tmp_path / "c", {"A": 5, "single": 1}, ["A"], ["A"])
    with pytest.raises(E2FashionError, match=r"'brand' has 1 class\(es\) with at least 3 products in train, of 2"):
        probe(encoder, catalogue, tmp_path, "brand")


def test_a_catalogue_without_val(encoder: Encoder, tmp_path: Path) -> None:
    catalogue = tagged(tmp_path / "c", {"A": 5, "B": 5}, [], ["A", "B"])
    with pytest.raises(E2FashionError, match=r"has no split 'val'.*Its splits: train, test.*val_fraction above 0"):
        probe(encoder, catalogue, tmp_path, "brand")


def test_a_split_without_any_of_the_classes(encoder: Encoder, tmp_path: Path) -> None:
    catalogue = tagged(tmp_path / "c", {"A": 5, "B": 5}, ["A", "B"], ["new"])
    with pytest.raises(E2FashionError, match="No product of test has one of the 2 classes of 'brand'"):
        probe(encoder, catalogue, tmp_path, "brand")


def test_a_plain_clip_has_no_regions(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    folder = save_random_clip(tmp_path / "some-clip", list(synth_catalogue.split("train")["description"]))
    clip = load_encoder(str(folder))
    with pytest.raises(E2FashionError, match="'some-clip' has no region features of 'brand': it was trained without"):
        probe(clip, synth_catalogue, tmp_path / "f", "brand", features=("region",))
    assert len(probe(clip, synth_catalogue, tmp_path / "f", "brand")) == 3
