"""The protocols on hand-made splits: who asks, among whom, and what is a hit; candidate lists and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from e2fashion.embedding import EmbeddedSplit
from e2fashion.metrics.retrieval import summarize
from e2fashion.records import RecordContext
from e2fashion.tasks.retrieval.config import Sampling
from e2fashion.tasks.retrieval.measure import REGION_SCORE_WEIGHTS, choose_region_score_weight
from e2fashion.tasks.retrieval.protocols import (
    CandidateLists,
    FullGallery,
    FullMultiview,
    FullWithRegions,
    RetrievalProtocol,
    SampledCandidates,
    draw_candidates,
    equal_text_ceilings,
    protocol_named,
    stored_candidates,
)
from e2fashion.tasks.retrieval.rankings import load_rankings, records_of, save_rankings
from e2fashion.types import E2FashionError, ResultRecord

CONTEXT = RecordContext(run="run", model="E2", split="val", seed=3, config_hash="c", commit="d", data_fingerprint="f")


def evaluate_retrieval(
    protocol: RetrievalProtocol, embedded: EmbeddedSplit, context: RecordContext, resamples: int = 1000
) -> list[ResultRecord]:
    """The records of one protocol."""
    return records_of(protocol.rank(embedded, context), context, protocol.name, resamples=resamples)


def make_split(products: int = 30, views: int = 1, noise: float = 0.5, equal_texts: int = 0) -> EmbeddedSplit:
    """Products with random embeddings; the first ``equal_texts`` of them share one text."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(products, 6, generator=generator)
    centre[:equal_texts] = centre[:1].clone()
    image = centre.repeat_interleave(views, 0) + noise * torch.randn(products * views, 6, generator=generator)
    text = centre + noise * torch.randn(products, 6, generator=generator)
    text[:equal_texts] = text[:1].clone()
    group = torch.arange(products)
    group[:equal_texts] = 0
    return EmbeddedSplit(
        image_embeds=F.normalize(image, dim=1),
        text_embeds=F.normalize(text, dim=1),
        image_product=torch.arange(products).repeat_interleave(views),
        text_product=torch.arange(products),
        image_view=torch.arange(views).repeat(products),
        text_group=group,
        product_ids=tuple(f"p{i:03d}" for i in range(products)),
        categories=tuple("shirt" if i % 3 else "hat" for i in range(products)),
    )


def value_of(records: list[ResultRecord], metric: str, direction: str = "i2t", positives: str = "product") -> float:
    [result] = [r for r in records if (r.metric, r.direction, r.positives) == (metric, direction, positives)]
    return result.value


def test_full_is_the_square_of_first_views() -> None:
    split = make_split(views=3)
    first, [i2t, t2i, *_] = split.image_embeds[::3], FullGallery().rank(split, CONTEXT)
    scores = first @ split.text_embeds.T
    assert torch.equal(i2t.ranks, (scores >= scores.diagonal()[:, None]).sum(1))
    assert torch.equal(t2i.ranks, (scores >= scores.diagonal()).sum(0))
    assert i2t.candidates.tolist() == [30] * 30


def test_full_reports_both_notions_of_a_hit() -> None:
    records = evaluate_retrieval(FullGallery(), make_split(noise=0.0, equal_texts=4), CONTEXT, resamples=0)
    assert value_of(records, "R@1", "i2t", "product") == pytest.approx(100 * 26 / 30)
    assert value_of(records, "R@1", "i2t", "text") == 100.0


def test_records_say_everything() -> None:
    [record] = [
        r
        for r in evaluate_retrieval(FullGallery(), make_split(), CONTEXT, resamples=100)
        if (r.metric, r.direction, r.positives) == ("R@5", "t2i", "text")
    ]
    assert (record.run, record.model, record.split, record.protocol) == ("run", "E2", "val", "full")
    assert (record.task, record.queries, record.candidates, record.seed) == ("retrieval", 30, 30.0, 3)
    assert (record.config_hash, record.commit, record.data_fingerprint) == ("c", "d", "f")
    assert record.low <= record.value <= record.high


def test_sum_r_is_the_sum_of_six() -> None:
    records = evaluate_retrieval(FullGallery(), make_split(), CONTEXT, resamples=0)
    six = [r.value for r in records if r.metric.startswith("R@") and r.positives == "product"]
    assert len(six) == 6
    assert value_of(records, "SumR", "both") == pytest.approx(sum(six))


def test_a_perfect_encoder_reaches_the_ceiling_of_pictures() -> None:
    records = evaluate_retrieval(FullGallery(), make_split(noise=0.0, equal_texts=4), CONTEXT, resamples=0)
    for record in records:
        if record.positives == "product" and record.direction == "i2t" and record.metric.startswith("R@"):
            assert record.value == pytest.approx(record.extra["ceiling"])


def test_ceilings_of_hand_made_groups() -> None:
    result = equal_text_ceilings(torch.tensor([7, 7, 7, 8, 9, 9]))
    assert result["i2t"]["R@1"]["ceiling"] == pytest.approx(100 / 6)
    assert result["t2i"]["R@1"]["ceiling"] == pytest.approx(100 * 3 / 6)
    assert result["i2t"]["R@5"]["ceiling"] == result["t2i"]["R@5"]["ceiling"] == 100.0


def test_multiview_counts_any_picture_of_the_product() -> None:
    split = make_split(views=3)
    i2t, t2i, *_ = FullMultiview().rank(split, CONTEXT)
    assert (len(i2t.ranks), len(t2i.ranks)) == (90, 30)
    scores = split.text_embeds @ split.image_embeds.T
    for product in range(30):
        best = scores[product, 3 * product : 3 * product + 3].max()
        rivals = (scores[product] >= best).sum() - (scores[product, 3 * product : 3 * product + 3] >= best).sum()
        assert int(t2i.ranks[product]) == 1 + int(rivals)


def test_multiview_equals_full_for_one_view() -> None:
    split = make_split(equal_texts=5)
    for one, other in zip(FullGallery().rank(split, CONTEXT), FullMultiview().rank(split, CONTEXT), strict=True):
        assert (one.direction, one.positives) == (other.direction, other.positives)
        assert torch.equal(one.ranks, other.ranks)


def test_multiview_draws_a_products_views_together() -> None:
    once = evaluate_retrieval(FullMultiview(), make_split(noise=0.0), CONTEXT, resamples=50)
    thrice = evaluate_retrieval(FullMultiview(), make_split(noise=0.0, views=3), CONTEXT, resamples=50)
    assert [r.low for r in once] == [r.low for r in thrice]


def test_several_texts_of_a_product_leave_out_equal_text() -> None:
    split = make_split(products=4)
    doubled = EmbeddedSplit(
        **{
            **vars(split),
            "text_embeds": split.text_embeds.repeat(2, 1),
            "text_product": split.text_product.repeat(2),
            "text_group": torch.arange(8),
        }
    )
    assert {ranking.positives for ranking in FullMultiview().rank(doubled, CONTEXT)} == {"product"}


def test_sampled_lists_of_everybody_equal_the_full_gallery() -> None:
    split = make_split()
    split = EmbeddedSplit(**{**vars(split), "categories": ("shirt",) * 30})
    full = FullGallery().rank(split, CONTEXT)
    for one, other in zip(SampledCandidates(count=29).rank(split, CONTEXT), full[:2], strict=True):
        assert torch.equal(one.ranks, other.ranks[one.product])


def test_sampled_records_tell_the_number_of_candidates() -> None:
    records = evaluate_retrieval(SampledCandidates(count=15), make_split(), CONTEXT, resamples=0)
    assert records[0].candidates == pytest.approx((20 * 16 + 10 * 10) / 30)
    assert records[0].extra["fewest_candidates"] == 10
    assert records[0].extra["short_lists"] == 10


def test_sampled_lists_are_kept_in_their_folder(tmp_path: Path) -> None:
    protocol = protocol_named("sample_100", folder=tmp_path, count=5, queries=8, draws=2)
    first = evaluate_retrieval(protocol, make_split(), CONTEXT, resamples=0)
    assert first == evaluate_retrieval(protocol, make_split(), CONTEXT, resamples=0)
    assert len(list(tmp_path.iterdir())) == 1
    assert first[0].queries == 16


@pytest.mark.parametrize("name", ["full", "full_multiview", "sample_100"])
def test_a_collapsed_encoder_finds_nothing(name: str) -> None:
    split = make_split()
    same = torch.full((30, 4), 0.5)
    split = EmbeddedSplit(**{**vars(split), "image_embeds": same, "text_embeds": same})
    records = evaluate_retrieval(protocol_named(name), split, CONTEXT, resamples=0)
    assert value_of(records, "R@1") == value_of(records, "R@1", "t2i") == 0.0


@pytest.mark.parametrize("name", ["full", "full_multiview", "sample_100"])
def test_twice_is_the_same(name: str) -> None:
    first, second = (evaluate_retrieval(protocol_named(name), make_split(), CONTEXT) for _ in range(2))
    assert first == second


def test_options_of_other_protocols_are_passed_over() -> None:
    assert protocol_named("full", draws=5, fill="top_up") == FullGallery()


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(E2FashionError, match=r"protocol 'sample100' does not exist.* did you mean 'sample_100'\?"):
        protocol_named("sample100")


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(E2FashionError, match="no protocol has the option 'drwas'"):
        protocol_named("sample_100", drwas=5)


def test_rankings_survive_their_file(tmp_path: Path) -> None:
    split = make_split()
    rankings = FullGallery().rank(split, CONTEXT)
    save_rankings(tmp_path / "ranks.safetensors", rankings, split.product_ids)
    loaded, product_ids = load_rankings(tmp_path / "ranks.safetensors")
    assert product_ids == list(split.product_ids)
    result = {(r.positives, r.direction): r for r in loaded}
    for ranking in rankings:
        assert torch.equal(result[ranking.positives, ranking.direction].ranks, ranking.ranks)


def test_records_equal_the_summary_of_ranks() -> None:
    rankings = FullGallery().rank(make_split(), CONTEXT)[:2]
    expected = summarize({r.direction: r.ranks for r in rankings}, resamples=200)
    for record in records_of(rankings, CONTEXT, "full", resamples=200):
        name = record.metric if record.direction == "both" else f"{record.direction}/{record.metric}"
        assert (record.value, record.low, record.high) == (
            expected[name].value,
            expected[name].low,
            expected[name].high,
        )


def with_regions(split: EmbeddedSplit, quality: float) -> EmbeddedSplit:
    """One region and one tag per product, equal but for noise; the last product states no tag."""
    generator = torch.Generator().manual_seed(1)
    tags = F.normalize(torch.randn(len(split.product_ids), 1, 6, generator=generator), dim=-1)
    noise = torch.randn(len(split.image_product), 1, 6, generator=generator)
    tags[-1] = 0
    regions = F.normalize(quality * tags[split.image_product] + noise, dim=-1)
    return replace(split, region_embeds=regions, tag_embeds=tags)


def test_faithful_regions_raise_recall_and_their_weight_is_recorded() -> None:
    split = with_regions(make_split(noise=1.5), quality=10.0)
    plain = value_of(evaluate_retrieval(FullGallery(), split, CONTEXT), "R@1")
    records = evaluate_retrieval(FullWithRegions(1.0, "val"), split, CONTEXT)
    assert value_of(records, "R@1") > plain + 20
    assert {(r.extra["region_score_weight"], r.extra["weight_chosen_on"]) for r in records} == {(1.0, "val")}


def test_weight_zero_and_a_model_without_regions_are_the_full_gallery() -> None:
    split = make_split()
    expected = [ranking.ranks for ranking in FullGallery().rank(split, CONTEXT)]
    for weight, asked in ((0.0, with_regions(split, 1.0)), (1.0, split)):
        rankings = FullWithRegions(weight).rank(asked, CONTEXT)
        assert all(torch.equal(a, b.ranks) for a, b in zip(expected, rankings, strict=True))
        assert {ranking.extra["region_score_weight"] for ranking in rankings} == {0.0}


def test_the_weight_with_the_best_val_is_chosen() -> None:
    split = make_split(noise=1.5)
    assert choose_region_score_weight(with_regions(split, quality=-10.0)) == 0.0
    chosen = choose_region_score_weight(with_regions(split, quality=10.0))
    assert chosen > 0
    values = {
        weight: value_of(
            evaluate_retrieval(FullWithRegions(weight), with_regions(split, 10.0), CONTEXT), "SumR", "both", "text"
        )
        for weight in REGION_SCORE_WEIGHTS
    }
    assert values[chosen] == max(values.values())


IDS = [f"p{i:02d}" for i in range(40)]
CATEGORIES: list[str | None] = ["shirt"] * 25 + ["hat"] * 10 + ["scarf"] + [None] * 4


def by_name(lists: CandidateLists, ids: list[str]) -> dict[str, list[str]]:
    rows = zip(lists.query.tolist(), lists.candidates.tolist(), strict=True)
    return {ids[query]: [ids[i] for i in row if i >= 0] for query, row in rows}


def test_rivals_are_others_of_the_same_category() -> None:
    lists = draw_candidates(IDS, CATEGORIES, Sampling(), 12)
    category = dict(zip(IDS, CATEGORIES, strict=True))
    for query, row in by_name(lists, IDS).items():
        assert row[0] == query
        assert len(set(row)) == len(row)
        assert {category[name] for name in row} == {category[query]}


def test_short_categories_are_reported() -> None:
    lists = draw_candidates(IDS, CATEGORIES, Sampling(), 12)
    sizes = {query: len(row) for query, row in by_name(lists, IDS).items()}
    assert (sizes["p00"], sizes["p30"], sizes["p35"]) == (13, 10, 1)


def test_unknown_categories_are_left_out_and_counted() -> None:
    lists = draw_candidates(IDS, CATEGORIES, Sampling(), 12)
    assert len(lists.query) == 36
    assert lists.left_out == 4


def test_top_up_takes_from_other_categories_last() -> None:
    lists = draw_candidates(IDS, CATEGORIES, Sampling(fill="top_up"), 12)
    rows = by_name(lists, IDS)
    assert {len(row) for row in rows.values()} == {13}
    assert set(rows["p30"][:10]) == set(IDS[25:35])
    assert not set(rows["p30"][10:]) & set(IDS[25:35])
    assert all(len(set(row)) == 13 for row in rows.values())
    assert lists.left_out == 0


def test_the_seed_decides() -> None:
    first, again, other = (draw_candidates(IDS, CATEGORIES, Sampling(seed=seed), 12) for seed in (1, 1, 2))
    assert torch.equal(first.candidates, again.candidates)
    assert not torch.equal(first.candidates, other.candidates)


def test_the_order_of_products_does_not_matter() -> None:
    backwards = draw_candidates(IDS[::-1], CATEGORIES[::-1], Sampling(), 12)
    assert by_name(backwards, IDS[::-1]) == by_name(draw_candidates(IDS, CATEGORIES, Sampling(), 12), IDS)


def test_several_draws_of_some_queries() -> None:
    lists = draw_candidates(IDS, CATEGORIES, Sampling(queries=20, draws=3), 5)
    rounds = lists.query.reshape(3, 20)
    assert all(len(set(row)) == 20 for row in rounds.tolist())
    assert len({tuple(row) for row in rounds.tolist()}) == 3


def test_too_many_queries_are_refused() -> None:
    with pytest.raises(E2FashionError, match="queries=37, draws=1, count=100 with 36 products"):
        draw_candidates(IDS, CATEGORIES, Sampling(queries=37))


def test_products_without_any_category_are_refused() -> None:
    with pytest.raises(E2FashionError, match="none of 40 products has a sub-category"):
        draw_candidates(IDS, [None] * 40, Sampling())


def test_lists_are_written_once_and_read_again(tmp_path: Path) -> None:
    rule = Sampling()
    drawn = stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, rule, 12)
    [path] = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    again = stored_candidates(tmp_path, "val", "f", IDS[::-1], CATEGORIES[::-1], rule, 12)
    assert path.stat().st_mtime_ns == written
    assert by_name(again, IDS[::-1]) == by_name(drawn, IDS)
    assert again.left_out == drawn.left_out


def test_stored_lists_equal_drawn_ones(tmp_path: Path) -> None:
    rule = Sampling(queries=20, draws=2, fill="top_up", seed=3)
    drawn = draw_candidates(IDS, CATEGORIES, rule, 12)
    for _ in ("written", "read"):
        stored = stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, rule, 12)
        assert torch.equal(stored.query, drawn.query)
        assert torch.equal(stored.candidates, drawn.candidates)
        assert stored.left_out == drawn.left_out


def test_lists_of_other_folders_are_read_and_not_copied(tmp_path: Path) -> None:
    catalogue, results = tmp_path / "catalogue", tmp_path / "results"
    there = stored_candidates(catalogue, "val", "f", IDS, CATEGORIES, Sampling(), 12)
    result = stored_candidates(results, "val", "f", IDS, CATEGORIES, Sampling(), 12, [tmp_path / "no", catalogue])
    assert torch.equal(result.candidates, there.candidates)
    assert not results.exists()
    stored_candidates(results, "val", "f", IDS, CATEGORIES, Sampling(), 11, [catalogue])
    assert len(list(results.iterdir())) == len(list(catalogue.iterdir())) == 1


@pytest.mark.parametrize(
    ("rule", "count"),
    [(Sampling(seed=1), 12), (Sampling(fill="top_up"), 12), (Sampling(draws=2), 12), (Sampling(), 11)],
)
def test_another_rule_has_another_file(tmp_path: Path, rule: Sampling, count: int) -> None:
    stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, Sampling(), 12)
    stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, rule, count)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_catalogue_has_another_file(tmp_path: Path) -> None:
    stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, Sampling(), 12)
    stored_candidates(tmp_path, "val", "g", IDS, CATEGORIES, Sampling(), 12)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, Sampling(), 12)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(E2FashionError, match=r"cannot be read .*: delete the file"):
        stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, Sampling(), 12)


def test_a_renamed_file_is_refused(tmp_path: Path) -> None:
    stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, Sampling(), 12)
    [path] = tmp_path.iterdir()
    path.rename(tmp_path / path.name.replace("seed0", "seed1"))
    with pytest.raises(E2FashionError, match="were drawn by"):
        stored_candidates(tmp_path, "val", "f", IDS, CATEGORIES, Sampling(seed=1), 12)
