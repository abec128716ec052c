"""Others' evaluations on small local data: equal to ours, with the real packages where they are installed."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.export.harnesses import MtebEncoder, load_clip_benchmark, register_clip_benchmark
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import measure_retrieval
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


def recall(encoder: Encoder, catalogue: Catalogue, direction: str) -> float:
    records = measure_retrieval(encoder, catalogue, "test", EvaluateConfig(protocol=["full"]), progress=False)
    (found,) = (
        record.value
        for record in records
        if (record.metric, record.direction, record.positives) == ("R@10", direction, "product")
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


def test_our_models_join_the_table_of_clip_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    models = SimpleNamespace(TYPE2FUNC={"open_clip": None}, MODEL_TYPES=["open_clip"])
    monkeypatch.setitem(sys.modules, "clip_benchmark", SimpleNamespace(models=models))
    for _ in range(2):
        register_clip_benchmark()
    assert models.MODEL_TYPES == ["open_clip", "e2fashion"]
    assert models.TYPE2FUNC["e2fashion"] is load_clip_benchmark
