"""The parts of a check against slow, obvious versions of themselves, and what they must not depend on."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import encoded, photograph, pixels_of
from PIL import Image

from e2fashion.data.audit.content import close_hashes, hash_images, near_images
from e2fashion.data.audit.findings import jaccard, near_sets, words_of
from e2fashion.data.audit.tags import OTHER, associate, letters_of, one_edit_apart, similar_values, size_traits

WORDS = st.frozensets(st.sampled_from("abcdefgh"), max_size=7)


def shot(seed: int = 0) -> Image.Image:
    return photograph(32, 24, seed).resize((96, 128), Image.Resampling.BICUBIC)


def look(picture: Image.Image) -> tuple[int, np.ndarray]:
    hashes, thumbs = hash_images(pixels_of(picture)[None])
    return int(hashes[0]), thumbs[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_hash_hardly_depends_on_size_shape_and_encoding(seed: int) -> None:
    picture = shot(seed)
    copies = [
        Image.open(io.BytesIO(encoded(picture, "JPEG", quality=60))).convert("RGB"),
        picture.resize((48, 64), Image.Resampling.BICUBIC),
        picture.resize((200, 200), Image.Resampling.BICUBIC),
        picture.resize((67, 71), Image.Resampling.BILINEAR),
    ]
    one = look(picture)[0]
    assert all((one ^ look(copy)[0]).bit_count() <= 4 for copy in copies)
    assert (one ^ look(shot(seed + 10))[0]).bit_count() > 10


def test_pictures_hashed_together_or_alone_are_hashed_alike() -> None:
    pictures = [shot(seed) for seed in range(4)]
    hashes, thumbs = hash_images(torch.stack([pixels_of(picture) for picture in pictures]))
    alone = [look(picture) for picture in pictures]
    assert hashes.tolist() == [one for one, _ in alone]
    assert np.abs(thumbs.astype(int) - np.stack([thumb for _, thumb in alone])).max() <= 1


def test_plain_pictures_hash_alike_and_differ_by_colour() -> None:
    grey, jpeg = Image.new("RGB", (40, 30), "grey"), encoded(Image.new("RGB", (60, 60), "grey"), "JPEG")
    (one, thumb), (other, same) = look(grey), look(Image.open(io.BytesIO(jpeg)))
    assert one == other
    red = look(Image.new("RGB", (40, 30), "red"))
    hashes = np.array([one, other, red[0]], dtype=np.uint64)
    pairs = near_images(hashes, np.stack([thumb, same, red[1]]), bits=2, difference=0.07)
    assert [pair[:2] for pair in pairs] == [(0, 1)]


@pytest.mark.parametrize("limit", [0, 1, 4, 6])
def test_close_hashes_are_those_of_every_pair(limit: int) -> None:
    generator = np.random.default_rng(limit)
    hashes = generator.integers(0, 2**64, 60, dtype=np.uint64)
    for place in range(40):  # flips of a few bits, and equal ones
        flipped = generator.choice(64, generator.integers(0, 9), replace=False).astype(np.uint64)
        hashes = np.append(hashes, hashes[place] ^ np.bitwise_or.reduce(np.uint64(1) << flipped, initial=np.uint64(0)))
    hashes = generator.permutation(hashes)
    slow = {
        (one, other)
        for other in range(len(hashes))
        for one in range(other)
        if (int(hashes[one]) ^ int(hashes[other])).bit_count() <= limit
    }
    result = {
        pair for block in close_hashes(hashes, limit) for pair in zip(*map(np.ndarray.tolist, block), strict=True)
    }
    assert result == slow
    assert slow


def test_near_images_are_those_of_every_pair() -> None:
    generator = np.random.default_rng(0)
    thumbs = generator.integers(0, 256, (12, 3, 16, 16)).astype(np.uint8)
    noise = generator.integers(-40, 41, thumbs.shape) * generator.random((12, 1, 1, 1))
    thumbs = np.concatenate([thumbs, np.clip(thumbs + noise, 0, 255).astype(np.uint8)])
    result = near_images(np.zeros(24, dtype=np.uint64), thumbs, bits=0, difference=0.2)
    slow = {}
    for other in range(24):
        for one in range(other):
            a, b = thumbs[one].astype(float), thumbs[other].astype(float)
            if (gap := np.sqrt(np.square(a - b).mean() / (a.std() * b.std()))) <= 0.2:
                slow[one, other] = pytest.approx(gap, rel=1e-3)
    assert {pair[:2]: pair[2] for pair in result} == slow
    assert 0 < len(slow) < 12
    assert [pair[2] for pair in result] == sorted(pair[2] for pair in result)


@settings(max_examples=60)
@given(st.lists(WORDS, max_size=12), st.sampled_from([0.3, 0.5, 0.75, 0.9, 1.0]))
def test_near_sets_are_those_of_every_pair(sets: list[frozenset[str]], limit: float) -> None:
    slow = {
        (one, other): jaccard(sets[one], sets[other])
        for other in range(len(sets))
        for one in range(other)
        if jaccard(sets[one], sets[other]) >= limit
    }
    assert {pair[:2]: pair[2] for pair in near_sets(sets, limit)} == slow


def test_words_are_those_of_any_script() -> None:
    assert words_of("Navy-blue  T-Shirt, navy") == {"navy", "blue", "t", "shirt"}
    assert words_of("...") == set()
    assert words_of("Чёрное платье") == {"чёрное", "платье"}


def edits(one: str, other: str) -> int:
    """Letters added, left out, changed or swapped with their neighbour: the slow table."""
    table = [[max(a, b) if not a or not b else 0 for b in range(len(other) + 1)] for a in range(len(one) + 1)]
    for a in range(1, len(one) + 1):
        for b in range(1, len(other) + 1):
            changed = table[a - 1][b - 1] + (one[a - 1] != other[b - 1])
            table[a][b] = min(table[a - 1][b] + 1, table[a][b - 1] + 1, changed)
            if a > 1 and b > 1 and one[a - 1] == other[b - 2] and one[a - 2] == other[b - 1]:
                table[a][b] = min(table[a][b], table[a - 2][b - 2] + 1)
    return table[-1][-1]


@settings(max_examples=60)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_one_edit_is_what_the_table_of_edits_says(one: str, other: str) -> None:
    assert one_edit_apart(one, other) == (edits(one, other) == 1) == one_edit_apart(other, one)


@settings(max_examples=60)
@given(st.dictionaries(st.text("ab1 ", min_size=1, max_size=7), st.integers(1, 9), max_size=12))
def test_similar_values_are_those_of_every_pair(counts: dict[str, int]) -> None:
    written = {letters_of(value) for value in counts} - {""}
    digits = {letters: letters.replace("a", " ").replace("b", " ").split() for letters in written}
    slow = {
        frozenset((one, other))
        for one in written
        for other in written
        if min(len(one), len(other)) >= 5
        and one[0] == other[0]
        and digits[one] == digits[other]
        and edits(one, other) == 1
    }
    result = similar_values("column", counts)
    assert {
        frozenset((letters_of(p.value), letters_of(p.other))) for p in result if p.difference == "one letter"
    } == slow
    assert all(pair.products >= pair.other_products for pair in result)


def test_similar_values_and_those_that_only_seem_so() -> None:
    counts = {"Levi's": 9, "LEVIS": 2, "Levi  s": 1, "Adidas": 20, "Addidas": 1, "Gini & Jony": 5, "Gini and Jony": 7}
    counts |= {"Size 36": 4, "Size 38": 4, "Fila": 3, "Fill": 3, "Été": 2, "ete": 1, "Puma": 1}
    result = {(pair.value, pair.other, pair.difference) for pair in similar_values("brand", counts)}
    written = "case, white space, punctuation or accents"
    assert result == {
        ("Levi's", "LEVIS", written),
        ("Levi's", "Levi  s", written),
        ("Gini and Jony", "Gini & Jony", written),
        ("Été", "ete", written),
        ("Adidas", "Addidas", "one letter"),
    }


def test_what_pictures_are_like_as_files() -> None:
    sizes = [(300, 400)] * 150 + [(511, 500), (20, 10)]
    traits = size_traits(sizes, ["JPEG"] * 152)
    assert traits["size"][0] == "300x400"
    assert traits["size"][-2:] == ["about 512", "about 16"]
    assert (traits["shape"][0], traits["shape"][-1]) == ("0.8", "2.0")


def test_cramer_s_v_of_what_determines_and_what_does_not() -> None:
    traits = ["large", "small"] * 60
    same = associate("size", traits, "shop", ["one" if trait == "large" else "two" for trait in traits])
    assert same is not None
    assert same.cramers_v == pytest.approx(1.0, abs=0.01)
    assert same.p_value == pytest.approx(1 / 200)
    assert (same.guessed, same.guessed_blind) == (1.0, 0.5)
    chance = associate("size", traits, "shop", ["a", "a", "b", "b"] * 30)
    assert chance is not None
    assert (chance.cramers_v, chance.p_value > 0.5) == (0.0, True)


def test_rare_values_count_as_one_and_unknown_ones_not_at_all() -> None:
    values = ["a"] * 20 + ["b"] * 12 + list("cdefg") + [None]
    result = associate("size", ["large", "small"] * 19, "brand", values)
    assert result is not None
    assert (set(result.values), result.products) == ({"a", "b", OTHER}, 37)
    assert dict(zip(result.values, result.table.sum(axis=1).tolist(), strict=True)) == {"a": 20, "b": 12, OTHER: 5}


def test_the_value_that_departs_most_comes_first() -> None:
    traits = ["large", "small"] * 30
    values = ["odd" if trait == "large" and n < 24 else "even" for n, trait in enumerate(traits)]
    result = associate("size", traits, "brand", values)
    assert result is not None
    assert result.values == ("odd", "even")


def test_a_trait_that_all_share_tells_nothing() -> None:
    values = ["a", "b"] * 19
    assert associate("size", ["large"] * 38, "brand", values) is None
