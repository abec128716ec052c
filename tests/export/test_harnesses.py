"""Others' evaluations on small local data: equal to ours, with the real packages where they are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.export.harnesses import MtebEncoder, load_clip_benchmark, register_clip_benchmark
from e2fashion.tasks.classification.classify import classify_split
from e2fashion.tasks.classification.config import ClassifyConfig
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import TEXT_TO_IMAGE, marqo_tasks, measure_retrieval
from e2fashion.types import E2FashionError, Sample
from tests.tiny import save_random_clip

#: An encoder, the products of test, their images and texts, and the encoder's folder.
Opened: TypeAlias = tuple[Encoder, list[Sample], list[Image.Image], list[str], Path]
TEXTS = ["a navy wool coat", "dress", "a red shirt"]


class Batches(list[dict[str, Any]]):
    """What MTEB reads of a ``DataLoader``."""

    @property
    def dataset(self) -> SimpleNamespace:
        return SimpleNamespace(features=dict.fromkeys(self[0]))


def test_batches_of_texts_images_and_both_are_embedded(encoder: Encoder, samples: list[Image.Image]) -> None:
    model = MtebEncoder(encoder)
    texts, images = encoder.embed_texts(TEXTS), encoder.embed_images(samples)
    torch.testing.assert_close(model.encode(Batches([{"text": TEXTS[:2]}, {"text": TEXTS[2:]}])), texts)
    torch.testing.assert_close(model.encode(Batches([{"image": samples[:1]}, {"image": samples[1:]}])), images)
    fused = model.encode(Batches([{"text": TEXTS, "image": samples}]))
    torch.testing.assert_close(fused, torch.nn.functional.normalize(texts + images, dim=-1))
    torch.testing.assert_close(model.similarity(texts.numpy(), images)[0, 1], texts[0] @ images[1])
    torch.testing.assert_close(model.similarity_pairwise(texts, images)[2], texts[2] @ images[2])
    with pytest.raises(E2FashionError, match=r"the columns audio: a CLIP reads 'text' and 'image'"):
        model.encode(Batches([{"audio": []}]))


def first_views(catalogue: Catalogue) -> list[Sample]:
    return [sample for sample in catalogue.samples("test") if sample.view == 0]


def recall(encoder: Encoder, catalogue: Catalogue, direction: str, k: int = 10) -> float:
    records = measure_retrieval(encoder, catalogue, "test", EvaluateConfig(protocol=["full"]), progress=False)
    (found,) = (
        record.value
        for record in records
        if (record.metric, record.direction, record.positives) == (f"R@{k}", direction, "product")
    )
    return found


@pytest.fixture
def opened(tmp_path: Path, synth_catalogue: Catalogue) -> Opened:
    """A plain CLIP, and images and texts of test as it reads them."""
    folder = save_random_clip(tmp_path / "clip", [sample.description for sample in first_views(synth_catalogue)])
    encoder = Encoder.from_pretrained(folder)
    rows = first_views(synth_catalogue)
    # Converted: an image of a file would be stored as a JPEG once more by `datasets`.
    images = [Image.open(BytesIO(row.image)).convert("RGB") for row in rows if isinstance(row.image, bytes)]
    return encoder, rows, images, [encoder.template.render(row.tags, row.description) for row in rows], folder


def test_mteb_ranks_as_we_do(opened: Opened, synth_catalogue: Catalogue) -> None:
    mteb = pytest.importorskip("mteb")
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata

    encoder, rows, images, texts, _ = opened

    class TextToImage(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="SynthFashionT2I",
            description="Texts of drawn garments and their images.",
            dataset={"path": "NA", "revision": "NA"},
            type="Any2AnyRetrieval",
            category="t2i",
            modalities=["text", "image"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *arguments: Any, **options: Any) -> None:
            split = RetrievalSplitData(
                queries=Dataset.from_dict({"id": [row.product_id for row in rows], "text": texts}),
                corpus=Dataset.from_dict({"id": [row.product_id for row in rows], "image": images}),
                relevant_docs={row.product_id: {row.product_id: 1} for row in rows},
                top_ranked=None,
            )
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    result = mteb.evaluate(MtebEncoder(encoder), TextToImage(), cache=None, show_progress_bar=False, co2_tracker=False)
    (scores,) = result.task_results[0].scores["test"]
    assert 100 * scores["recall_at_10"] == pytest.approx(recall(encoder, synth_catalogue, "t2i"), abs=1e-3)
    assert result.model_name == f"e2fashion/{encoder.name}"


@pytest.mark.slow
def test_mteb_runs_its_mock_tasks(opened: Opened) -> None:
    mteb = pytest.importorskip("mteb")
    results = mteb.mock_run(MtebEncoder(opened[0]))
    tried = {name: outcome for name, outcome in results.items() if outcome is not None}
    assert len(tried) > 10
    assert results.all_passed, results.to_markdown()


def test_clip_benchmark_measures_what_we_do(opened: Opened, synth_catalogue: Catalogue) -> None:
    encoder, _, images, texts, folder = opened
    model, transform, tokenizer = load_clip_benchmark(pretrained=folder)
    ours = encoder.embed_texts(texts)
    torch.testing.assert_close(torch.nn.functional.normalize(model.encode_text(tokenizer(texts)), dim=-1), ours)
    pytest.importorskip("clip_benchmark")
    from clip_benchmark.metrics import zeroshot_retrieval

    batches = DataLoader(
        [(transform(image), [text]) for image, text in zip(images, texts, strict=True)],
        batch_size=8,
        collate_fn=lambda items: (torch.stack([image for image, _ in items]), [text for _, text in items]),
    )
    scores = zeroshot_retrieval.evaluate(model, batches, tokenizer, "cpu", amp=False, recall_k_list=[10])
    for name, direction in (("image_retrieval_recall@10", "t2i"), ("text_retrieval_recall@10", "i2t")):
        assert 100 * scores[name] == pytest.approx(recall(encoder, synth_catalogue, direction), abs=1e-4)


def write_shard(folder: Path, images: list[Image.Image], name: str, values: list[str]) -> None:
    """A test set of CLIP_benchmark's WebDataset layout, of one shard: ``<number>.png`` and ``<number>.<name>``."""
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "nshards.txt").write_text("1", encoding="utf-8")
    with tarfile.open(folder / "test" / "0.tar", "w") as shard:
        for number, (image, value) in enumerate(zip(images, values, strict=True)):
            stored = BytesIO()
            image.save(stored, "png")
            for ending, content in (("png", stored.getvalue()), (name, value.encode())):
                entry = tarfile.TarInfo(f"{number:04}.{ending}")
                entry.size = len(content)
                shard.addfile(entry, BytesIO(content))


#: Metrics that CLIP_benchmark's program writes for a task on the test set in a folder, by a model's folder.
Program: TypeAlias = Callable[..., dict[str, float]]


@pytest.fixture
def clip_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    program = pytest.importorskip("clip_benchmark.cli", exc_type=ImportError)  # it needs torchvision
    register_clip_benchmark()

    def measured(task: str, folder: Path, model: Path, *words: str) -> dict[str, float]:
        output = tmp_path / "metrics.json"
        named = {"model_type": "e2fashion", "model": "random", "pretrained": model, "task": task, "output": output}
        named |= {"dataset": f"wds/{folder.name}", "dataset_root": folder, "num_workers": 0, "batch_size": 5}
        flags = [f"--{key}={value}" for key, value in named.items()]
        monkeypatch.setattr(sys, "argv", ["clip_benchmark", "eval", *flags, "--no_amp", *words])
        program.main()
        return json.loads(output.read_text(encoding="utf-8"))["metrics"]

    return measured


def test_the_program_of_clip_benchmark_retrieves_as_we_do(
    opened: Opened, synth_catalogue: Catalogue, tmp_path: Path, clip_benchmark: Program
) -> None:
    encoder, _, images, texts, model = opened
    write_shard(tmp_path / "data", images, "txt", texts)
    (tmp_path / "data" / "dataset_type.txt").write_text("retrieval", encoding="utf-8")
    found = clip_benchmark("zeroshot_retrieval", tmp_path / "data", model, "--recall_k", "1", "5", "10")
    for k in (1, 5, 10):
        for name, direction in (("image", "t2i"), ("text", "i2t")):
            expected = recall(encoder, synth_catalogue, direction, k) / 100
            assert found[f"{name}_retrieval_recall@{k}"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) >= "2.4.0", reason="CLIP_benchmark 1.6 needs NumPy below 2.4")
def test_the_program_of_clip_benchmark_classifies_as_we_do(
    opened: Opened, synth_catalogue: Catalogue, tmp_path: Path, clip_benchmark: Program
) -> None:
    encoder, rows, images, _, model = opened
    branded = [(image, brand) for image, row in zip(images, rows, strict=True) if (brand := row.tags["brand"])]
    classes = sorted({brand for _, brand in branded})
    labels = [str(classes.index(brand)) for _, brand in branded]
    write_shard(tmp_path / "data", [image for image, _ in branded], "cls", labels)
    (tmp_path / "data" / "classnames.txt").write_text("\n".join(classes), encoding="utf-8")
    templates = tmp_path / "data" / "zeroshot_classification_templates.txt"
    templates.write_text("a {c} dress\n{c}, worn", encoding="utf-8")
    config = ClassifyConfig(column="brand", templates=["a {} dress", "{}, worn"])
    (classified,) = classify_split(encoder, synth_catalogue, config, progress=False)
    assert len(classified.predicted.unique()) > 1
    (accuracy,) = (record.value for record in classified.records if record.metric == "accuracy")
    found = clip_benchmark("zeroshot_classification", tmp_path / "data", model)
    assert found["acc1"] == pytest.approx(accuracy / 100, abs=1e-6)


def test_our_models_join_the_table_of_clip_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    models = SimpleNamespace(TYPE2FUNC={"open_clip": None}, MODEL_TYPES=["open_clip"])
    monkeypatch.setitem(sys.modules, "clip_benchmark", SimpleNamespace(models=models))
    for _ in range(2):
        register_clip_benchmark()
    assert models.MODEL_TYPES == ["open_clip", "e2fashion"]
    assert models.TYPE2FUNC["e2fashion"] is load_clip_benchmark


#: The tag of each of Marqo's tasks but the first, in a catalogue without categories.
MARQO_TAGS = {"category-to-product": "sub_category", "sub-category-to-product": "brand"}
MARQO_SHARES = [0.9, 0.1]
"""Of image and text in a product's vector, as in Marqo's configurations."""
#: Products that are right by query.
Judged: TypeAlias = dict[str, dict[str, int]]


def judged(rows: list[Sample], values: list[str | None]) -> Judged:
    """Every distinct value as a query for the products that have it."""
    found: Judged = {}
    for row, value in zip(rows, values, strict=True):
        if value:
            found.setdefault(value, {})[row.product_id] = 1
    return found


def marqo_queries(rows: list[Sample]) -> dict[str, Judged]:
    """The queries of each of Marqo's tasks."""
    by_tag = {task: judged(rows, [row.tags[tag] for row in rows]) for task, tag in MARQO_TAGS.items()}
    return {TEXT_TO_IMAGE: judged(rows, [row.description for row in rows]), **by_tag}


def assert_marqo(ours: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    """Equal metrics; theirs are rounded to five digits."""
    average, *names = ours
    for name in names:
        assert round(ours[name], 5) == pytest.approx(theirs[name], abs=1e-6), name
    first, ten, _ = names
    assert ours[average] == pytest.approx((ours[first] + ours[ten]) / 2, abs=1e-12)
    assert 0 < ours["MRR"] < 1


def test_the_metrics_of_marqo_are_those_of_beir(opened: Opened, synth_catalogue: Catalogue) -> None:
    evaluation = pytest.importorskip("beir.retrieval.evaluation").EvaluateRetrieval
    encoder, rows, images, _, _ = opened
    found = marqo_tasks(encoder, synth_catalogue, categories=MARQO_TAGS, progress=False)
    pictures, texts = encoder.embed_images(images), encoder.embed_texts([row.description for row in rows])
    products = torch.nn.functional.normalize(MARQO_SHARES[0] * pictures + MARQO_SHARES[1] * texts, dim=-1)
    for task, right in marqo_queries(rows).items():
        scores = encoder.embed_texts(list(right)) @ (pictures if task == TEXT_TO_IMAGE else products).T
        best = scores.topk(10)
        run = {
            query: {rows[place].product_id: score for place, score in zip(places, values, strict=True)}
            for query, places, values in zip(right, best.indices.tolist(), best.values.tolist(), strict=True)
        }
        _, _, recall_of, precision_of = evaluation.evaluate(right, run, [1, 10])
        reciprocal = evaluation.evaluate_custom(right, run, [10], "mrr")["MRR@10"]
        assert_marqo(found[task], {**recall_of, **precision_of, "MRR": reciprocal})


#: Marqo's program with our models, as docs/plugins.md shows it; it changes logging, so it runs in a process of its own.
MARQO_PROGRAM = """
import runpy, sys
from types import SimpleNamespace
from e2fashion.export.harnesses import load_clip_benchmark

sys.modules["models"] = SimpleNamespace(load_model=lambda args: load_clip_benchmark(pretrained=args.pretrained))
runpy.run_path("eval.py", run_name="__main__")
"""


def test_the_program_of_marqo_measures_what_we_do(opened: Opened, synth_catalogue: Catalogue, tmp_path: Path) -> None:
    if not (clone := os.environ.get("E2FASHION_MARQO")):
        pytest.skip("E2FASHION_MARQO is not set: it names a clone of github.com/marqo-ai/marqo-FashionCLIP")
    pytest.importorskip("beir")
    encoder, rows, images, _, model = opened
    columns: dict[str, list[Any]] = {"item_ID": [row.product_id for row in rows], "image": images}
    columns |= {"text": [row.description for row in rows]}
    (tmp_path / "hub" / "data").mkdir(parents=True)
    Dataset.from_dict(columns).to_parquet(tmp_path / "hub" / "data" / "data-00000-of-00001.parquet")
    queries = tmp_path / "truth" / "Synth" / "gt_query_doc"
    queries.mkdir(parents=True)
    tasks: list[dict[str, Any]] = [{"name": TEXT_TO_IMAGE, "query_col": ["text"], "doc_col": ["image"]}]
    for task, tag in MARQO_TAGS.items():
        mixed = {"doc_col": ["image", "text"], "doc_weights": MARQO_SHARES}
        tasks.append({"name": task, "query_col": [tag], **mixed})
    for task, right in zip(tasks, marqo_queries(rows).values(), strict=True):
        name = f"ground_truth_{task['query_col'][0]}-{'+'.join(task['doc_col'])}.json"
        (queries / name).write_text(json.dumps(right), encoding="utf-8")
    config = {"name": "Synth", "hf_dataset": str(tmp_path / "hub"), "tasks": tasks}
    (tmp_path / "synth.json").write_text(json.dumps(config), encoding="utf-8")

    named = {"data-dir": tmp_path / "truth", "dataset-config": tmp_path / "synth.json", "batch-size": 16}
    named |= {"num-workers": 0, "pretrained": model, "run-name": "random", "device": "cpu"}
    named |= {"cache-dir": tmp_path / "cache", "output-dir": tmp_path / "results"}
    flags = [f"--{key}={value}" for key, value in named.items()]
    subprocess.run([sys.executable, "-c", MARQO_PROGRAM, *flags], cwd=clone, check=True)

    found = marqo_tasks(encoder, synth_catalogue, categories=MARQO_TAGS, progress=False)
    for task, scores in found.items():
        (file,) = (tmp_path / "results" / "synth" / "random" / task).glob("result_*.json")
        theirs = json.loads(file.read_text(encoding="utf-8"))
        assert_marqo(scores, {**theirs["recall"], **theirs["precision"], "MRR": theirs["MRR"]})
