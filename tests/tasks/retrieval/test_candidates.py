"""Candidate lists: right members, seeded, stored, and refused when they belong to something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from e2fashion.tasks.retrieval.config import Sampling
from e2fashion.tasks.retrieval.protocols import CandidateLists, draw_candidates, stored_candidates
from e2fashion.types import E2FashionError

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
