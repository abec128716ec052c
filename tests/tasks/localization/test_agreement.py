"""The agreement of maps with occlusion: correlations against SciPy's, records, and what cannot be compared."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from tiny_encoder import SETTINGS, build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.options import Inference
from e2fashion.records import RunIdentity, append_records, latest_records, read_records
from e2fashion.tables import to_markdown
from e2fashion.tasks.localization.agreement import (
    ANOTHER,
    SAME,
    agreement_table,
    measure_agreement,
    patch_maps,
    rank_correlation,
)
from e2fashion.tasks.localization.measure import ALL_ENTITIES
from e2fashion.types import E2FashionError, Entity

SMALL = Inference(batch_size=7)


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return replace(build_tiny_encoder(synth_catalogue), name="regional")


def test_correlations_are_spearmans_with_ties() -> None:
    torch.manual_seed(0)
    first, second = torch.randint(0, 4, (2, 6, 16)).float()
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected, abs=1e-6)
    assert rank_correlation(first[:1], second[:1]).tolist() == pytest.approx(expected[:1], abs=1e-6)
    assert rank_correlation(first, torch.zeros(6, 16)).tolist() == [0.0] * 6
    assert rank_correlation(first, first**3).tolist() == pytest.approx([1.0] * 6, abs=1e-6)


def test_records_are_the_means_over_products_with_heat(
    encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    run = RunIdentity("abc", "commit", 5)
    records = measure_agreement(encoder, synth_catalogue, "test", config=SMALL, run=run, progress=False)
    assert latest_records(records) == records
    append_records(tmp_path / "r.jsonl", records)
    assert read_records(tmp_path / "r.jsonl") == records
    assert {(r.protocol, r.extra["entity"], r.extra["against"]) for r in records} == {
        (method, entity, against)
        for method in ("tokens", "attention")
        for entity in ("brand", ALL_ENTITIES)
        for against in (SAME, ANOTHER)
    }
    found = patch_maps(encoder, synth_catalogue, "test", encoder.entities, ["tokens", "occlusion"], config=SMALL)
    maps, heat = (found.maps[key][:, 0] for key in (("tokens", 1), ("occlusion", 0)))
    kept = [row for row in range(len(heat)) if found.known[row, 0] and heat[row].any()]
    pairs = {SAME: [(row, row) for row in kept], ANOTHER: [*pairwise(kept[::-1]), (kept[0], kept[-1])]}
    for record in records:
        if record.protocol == "tokens":
            expected = [spearmanr(maps[one], heat[other]).statistic for one, other in pairs[record.extra["against"]]]
            assert record.value == pytest.approx(sum(expected) / len(expected))
            assert record.low <= record.value <= record.high  # type: ignore[operator]
            assert record.queries + record.extra["unknown"] + record.extra["flat"] == len(heat)
    text = to_markdown(agreement_table(records))
    assert "| regional: tokens, layer 1 | the same image |" in text
    assert "| regional: attention, layer 1 | another image |" in text


def test_fewer_products_are_taken_at_equal_distances(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    every, few = (
        patch_maps(encoder, synth_catalogue, "train", encoder.entities, ["tokens"], number, progress=False)
        for number in (None, 3)
    )
    number = len(every.known)
    chosen = [0, number // 3, 2 * number // 3]
    assert torch.equal(few.known, every.known[chosen])
    torch.testing.assert_close(few.maps["tokens", 1], every.maps["tokens", 1][chosen])


def test_what_cannot_be_compared_is_named(encoder: Encoder, synth_catalogue: Catalogue) -> None:
    plain = build_tiny_encoder(
        synth_catalogue, [word for word in SETTINGS if "entities" not in word and "fusion" not in word]
    )
    with pytest.raises(E2FashionError, match="'tiny' has no selection tokens: name the entities"):
        measure_agreement(plain, synth_catalogue, "test")
    records = measure_agreement(plain, synth_catalogue, "test", entities=[Entity("season", "season")], progress=False)
    assert {record.protocol for record in records} == {"attention"}
    with pytest.raises(E2FashionError, match=r"fewer than 2 products have an occlusion map .* take more products"):
        measure_agreement(encoder, synth_catalogue, "test", products=1, progress=False)
    with pytest.raises(E2FashionError, match="methods is 'gaze'; choose among tokens"):
        measure_agreement(encoder, synth_catalogue, "test", ["gaze"])
