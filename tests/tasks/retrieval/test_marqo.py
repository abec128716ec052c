"""Marqo's tasks against trec_eval on written-out lists."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.retrieval.marqo import marqo_tasks
from e2fashion.types import E2FashionError


def trec_eval(
    judged: Mapping[str, set[str]], queries: torch.Tensor, items: torch.Tensor, ids: list[str]
) -> list[float]:
    """Means of P@1, P@10, recall@1, recall@10 and the reciprocal rank of the top ten."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    best = (queries @ items.T).topk(10)
    run = {
        query: {ids[item]: float(score) for item, score in zip(best.indices[number], best.values[number], strict=True)}
        for number, query in enumerate(judged)
    }
    qrels = {query: dict.fromkeys(right, 1) for query, right in judged.items()}
    evaluated = pytrec_eval.RelevanceEvaluator(qrels, {"P.1,10", "recall.1,10", "recip_rank"}).evaluate(run)
    names = ("P_1", "P_10", "recall_1", "recall_10", "recip_rank")
    return [sum(scores[name] for scores in evaluated.values()) / len(judged) for name in names]


def test_metrics_are_those_of_trec_eval(synth_catalogue: Catalogue) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    found = marqo_tasks(encoder, synth_catalogue, categories={"category-to-product": "sub_category"}, progress=False)
    rows = [sample for sample in synth_catalogue.samples("test") if sample.view == 0]
    ids = [row.product_id for row in rows]
    images = encoder.embed_images([row.image for row in rows if isinstance(row.image, bytes)])
    texts = encoder.embed_texts([row.description for row in rows])

    def expected(values: list[str | None], items: torch.Tensor) -> list[float]:
        distinct = list(dict.fromkeys(value for value in values if value))
        judged = {one: {name for name, value in zip(ids, values, strict=True) if value == one} for one in distinct}
        return trec_eval(judged, encoder.embed_texts(distinct), items, ids)

    _, _, first, ten, mrr = expected([row.description for row in rows], images)
    wanted = {"AvgRecall": (first + ten) / 2, "Recall@1": first, "Recall@10": ten, "MRR": mrr}
    assert found["text-to-image"] == pytest.approx(wanted, abs=1e-6)
    both = torch.nn.functional.normalize(0.9 * images + 0.1 * texts, dim=-1)
    first, ten, _, _, mrr = expected([row.tags["sub_category"] for row in rows], both)
    wanted = {"AvgP": (first + ten) / 2, "P@1": first, "P@10": ten, "MRR": mrr}
    assert found["category-to-product"] == pytest.approx(wanted, abs=1e-6)


def test_a_tag_that_the_catalogue_lacks_is_named(synth_catalogue: Catalogue) -> None:
    encoder: Encoder = build_tiny_encoder(synth_catalogue)
    with pytest.raises(E2FashionError, match="has no tag column 'category'"):
        marqo_tasks(encoder, synth_catalogue, progress=False)
