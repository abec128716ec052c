"""An encoder on a catalogue: its records, stored candidate lists, and Marqo's tasks against trec_eval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.text import TextTemplate
from e2fashion.encoder import Encoder
from e2fashion.options import Inference
from e2fashion.records import RunIdentity
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import embed_catalogue, marqo_tasks, measure_retrieval, region_score_weight
from e2fashion.types import E2FashionError


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture
def embeddings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether all views were embedded, at every embedding."""
    calls: list[bool] = []
    loader = CatalogueDataModule.loader

    def counted(data: CatalogueDataModule, split: str, views: bool = False) -> Any:
        calls.append(views)
        return loader(data, split, views=views)

    monkeypatch.setattr(CatalogueDataModule, "loader", counted)
    return calls


def test_a_split_is_embedded_once_for_all_protocols(
    encoder: Encoder, synth_catalogue: Catalogue, embeddings: list[bool]
) -> None:
    config = EvaluateConfig(protocol=["full", "full_multiview", "sample_100"])
    records = measure_retrieval(encoder, synth_catalogue, "val", config, progress=False)
    assert embeddings == [True]
    assert {record.protocol for record in records} == {"full", "full_multiview", "sample_100"}


def test_only_the_first_views_are_embedded_where_no_protocol_reads_others(
    encoder: Encoder, synth_catalogue: Catalogue, embeddings: list[bool]
) -> None:
    measure_retrieval(encoder, synth_catalogue, "val", progress=False)
    assert embeddings == [False]


def test_records_say_what_was_measured_how_and_on_what(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    run = RunIdentity("abc", "commit", 5)
    records = measure_retrieval(encoder, synth_catalogue, "test", run=run, progress=False)
    assert {(r.run, r.config_hash, r.commit, r.seed) for r in records} == {("abc", "abc", "commit", 5)}
    assert {(r.model, r.split, r.text) for r in records} == {("tiny", "test", "{brand} . {description}")}
    assert {r.data_fingerprint for r in records} == {synth_catalogue.fingerprint}
    assert {(r.extra["image_size"], r.extra["resize"], r.extra["precision"]) for r in records} == {
        (32, "squeeze", "fp32")
    }


def test_two_measurements_are_equal_to_the_bit(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    first, second = (measure_retrieval(encoder, synth_catalogue, "val", progress=False) for _ in range(2))
    assert first == second


def test_an_unknown_protocol_is_refused_before_anything_is_embedded(
    encoder: Encoder, synth_catalogue: Catalogue, embeddings: list[bool]
) -> None:
    with pytest.raises(E2FashionError, match="did you mean 'full'"):
        measure_retrieval(encoder, synth_catalogue, "val", EvaluateConfig(protocol=["ful"]))
    assert embeddings == []


def test_a_template_that_the_catalogue_cannot_fill_is_refused(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"Did you mean '\{brand\}'"):
        embed_catalogue(encoder, synth_catalogue, "val", TextTemplate("{brnd}"), progress=False)


def test_candidate_lists_are_stored_in_the_given_folder(
    encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    config = EvaluateConfig(protocol=["sample_100"])
    first = measure_retrieval(encoder, synth_catalogue, "val", config, candidates=tmp_path, progress=False)
    (lists,) = tmp_path.iterdir()
    written = lists.stat().st_mtime_ns
    again = measure_retrieval(encoder, synth_catalogue, "val", config, candidates=tmp_path, progress=False)
    assert again == first
    assert lists.stat().st_mtime_ns == written


def test_loader_processes_and_batches_do_not_change_what_is_embedded(
    encoder: Encoder, synth_catalogue: Catalogue
) -> None:
    one = embed_catalogue(encoder, synth_catalogue, "val", progress=False)
    other = embed_catalogue(encoder, synth_catalogue, "val", config=Inference(batch_size=5), progress=False)
    assert one.product_ids == other.product_ids
    assert one.image_embeds.allclose(other.image_embeds, atol=1e-6)
    assert one.text_embeds.allclose(other.text_embeds, atol=1e-6)


def test_a_weight_that_is_not_stored_is_chosen_on_val(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    config = EvaluateConfig(protocol=["full_regions"])
    records = measure_retrieval(encoder, synth_catalogue, "test", config, progress=False)
    expected = region_score_weight(encoder, synth_catalogue, progress=False)
    assert {(r.extra["region_score_weight"], r.extra["weight_chosen_on"]) for r in records} == {expected}
    assert expected[1] == "val"


def test_a_weight_that_is_given_is_used(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    config = EvaluateConfig(protocol=["full_regions"], region_score_weight=0.3)
    records = measure_retrieval(encoder, synth_catalogue, "test", config, progress=False)
    assert {r.extra["region_score_weight"] for r in records} == {0.3}
    assert "weight_chosen_on" not in records[0].extra


def test_regions_count_only_where_the_text_states_their_tag(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    config = EvaluateConfig(protocol=["full", "full_regions"], region_score_weight=1.0, with_tags=False)
    records = measure_retrieval(encoder, synth_catalogue, "test", config, progress=False)
    values: dict[str, list[float]] = {}
    for record in records:
        values.setdefault(record.protocol, []).append(record.value)
    assert values["full"] == values["full_regions"]
    assert {r.extra["region_score_weight"] for r in records if r.protocol == "full_regions"} == {0.0}


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
