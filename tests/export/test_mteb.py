"""MTEB's own evaluation of an encoder on local data gives our metrics' values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Image
from tiny import save_random_clip

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.export.mteb import MtebEncoder
from e2fashion.metrics import ndcg_at, ranks, recall_at

PRODUCTS = 12


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["i2t", "t2i", "it2i"])
def test_mteb_gives_our_values(synth_catalogue: Catalogue, tmp_path: Path, direction: str) -> None:
    mteb = pytest.importorskip("mteb")
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    rows = synth_catalogue.split("train").select(range(PRODUCTS))
    texts = [f"{row} {text}" for row, text in enumerate(rows["description"])]
    pictures = Dataset.from_dict({"image": [{"bytes": row["image"], "path": None} for row in rows]})
    images = pictures.cast_column("image", Image())["image"][:]
    columns = {"i": {"image": images}, "t": {"text": texts}, "it": {"image": images, "text": texts}}
    asked, found = direction.split("2")

    def data(kind: str, letter: str) -> Dataset:
        ids = [f"{letter}{number}" for number in range(PRODUCTS)]
        return Dataset.from_dict({"id": ids, **columns[kind]})

    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            type="Any2AnyRetrieval",
            name=f"Local{direction}",
            description="Rendered garments.",
            main_score="ndcg_at_10",
            category=direction,
            modalities=["image", "text"],
            eval_langs=["eng-Latn"],
            eval_splits=["test"],
            dataset={"path": "local/none", "revision": "none"},
        )

        def load_data(self, **options: Any) -> None:
            split = {
                "queries": data(asked, "q"),
                "corpus": data(found, "d"),
                "relevant_docs": {f"q{number}": {f"d{number}": 1} for number in range(PRODUCTS)},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    encoder = load_encoder(str(save_random_clip(tmp_path / "clip", texts)))
    torch.manual_seed(0)
    with torch.no_grad():  # the usual small initial weights would give nearly equal scores, which MTEB orders by chance
        for parameter in encoder.model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    result = mteb.evaluate(MtebEncoder(encoder), Task(), cache=None, co2_tracker=False, show_progress_bar=False)
    scores = result.task_results[0].scores["test"][0]
    image, text = encoder.embed_images(images), encoder.embed_texts(texts)
    both = torch.nn.functional.normalize(image + text, dim=-1)
    embeds = {"i": image, "t": text, "it": both}
    rank = ranks(embeds[asked], embeds[found])
    relevance = torch.zeros(PRODUCTS, PRODUCTS).scatter_(1, rank[:, None] - 1, 1.0)
    ours = ndcg_at(relevance, torch.ones(PRODUCTS, 1), 10).mean()
    # MTEB rounds to five digits.
    assert scores["ndcg_at_10"] == pytest.approx(float(ours), abs=1e-5)
    assert 100 * scores["recall_at_5"] == pytest.approx(float(recall_at(rank, 5)), abs=1e-3)
