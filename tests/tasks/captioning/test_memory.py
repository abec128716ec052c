"""The support memory, the projection onto it, and its captions as baselines."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.encoder import EncoderIdentity
from e2fashion.tasks.captioning.captioner import NearestCaption
from e2fashion.tasks.captioning.measure import most_frequent_caption
from e2fashion.tasks.captioning.memory import MemoryEntry, distinct_entries, load_memory, nearest, open_memory, project
from e2fashion.types import E2FashionError

ENCODER = EncoderIdentity("tiny", "a" * 64, 4)
ENTRIES = [MemoryEntry(f"Nike . {word}", word) for word in ("shirt", "shoe", "bag")]


class Words:
    """A text's letters as a vector; ``asked`` keeps the texts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Tensor:
        self.asked += texts
        return torch.tensor([[text.count(letter) + 0.1 for letter in "aeis"] for text in texts])


def unit(rows: int, seed: int, dimension: int = 4) -> Tensor:
    return F.normalize(torch.randn(rows, dimension, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_memory_is_embedded_once_and_mapped_afterwards(tmp_path: Path) -> None:
    words = Words()
    entries = [*ENTRIES, MemoryEntry("Nike . bag", "another bag")]
    first = open_memory(tmp_path, entries, ENCODER, words)
    assert words.asked == ["Nike . shirt", "Nike . shoe", "Nike . bag"]
    again = open_memory(tmp_path, entries, ENCODER, words)
    assert len(words.asked) == 3
    assert again.captions == ("shirt", "shoe", "bag", "another bag")
    assert torch.equal(first.embeds, again.embeds)
    assert torch.allclose(again.embeds, F.normalize(Words()([entry.text for entry in entries]), dim=-1))
    open_memory(tmp_path, ENTRIES, ENCODER, words)  # other texts are another memory
    assert len(list(tmp_path.iterdir())) == 2


def test_a_memory_of_another_encoder_is_refused_with_both_names(tmp_path: Path) -> None:
    open_memory(tmp_path, ENTRIES, ENCODER, Words())
    other = EncoderIdentity("other", "b" * 64, 4)
    with pytest.raises(E2FashionError, match=r"made with the encoder 'tiny' .*not with 'other'"):
        load_memory(next(tmp_path.iterdir()), other)


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    open_memory(tmp_path, ENTRIES, ENCODER, Words())
    place = next(tmp_path.iterdir())
    (place / "captions.json").write_text(json.dumps(["shirt"]))
    with pytest.raises(E2FashionError, match="is damaged"):
        load_memory(place, ENCODER)
    about = json.loads((place / "memory.json").read_text())
    del about["files"], about["checksum"]  # as an earlier version wrote it
    (place / "memory.json").write_text(json.dumps(about))
    with pytest.raises(E2FashionError, match="is damaged"):
        load_memory(place, ENCODER)
    (place / "embeds.npy").write_bytes(b"")
    with pytest.raises(E2FashionError, match="cannot be read"):
        load_memory(place, ENCODER)
    assert open_memory(tmp_path, ENTRIES, ENCODER, Words()).captions  # embedded again


def test_an_encoder_that_compares_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="'tiny' compares tokens"):
        open_memory(tmp_path, ENTRIES, ENCODER, lambda texts: torch.ones(len(texts), 3, 4))
    assert not list(tmp_path.iterdir())


def test_entries_are_distinct_filled_and_at_most_so_many() -> None:
    given = [*ENTRIES, ENTRIES[0], MemoryEntry("", "x"), MemoryEntry("x", " ")]
    assert distinct_entries(given) == ENTRIES
    assert len(distinct_entries(given, maximum=2)) == 2
    with pytest.raises(E2FashionError, match="There are no captions"):
        distinct_entries(given[-2:])
    with pytest.raises(E2FashionError, match="memory_size is 0"):
        distinct_entries(given, maximum=0)


@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_projection_is_the_formula(temperature: float) -> None:
    images, memory = unit(7, 0), unit(50, 1)
    weights = torch.softmax(temperature * images.double() @ memory.double().T, dim=1)
    expected = F.normalize(weights @ memory.double(), dim=-1)
    got = project(images, memory, temperature)
    assert torch.allclose(got.double(), expected, atol=1e-6)


def test_projection_far_from_everything_is_finite() -> None:
    memory = unit(5, 0)[:1]
    assert torch.allclose(project(-memory, memory), memory)


def test_the_nearest_row_of_a_memory() -> None:
    images, memory = unit(9, 2), unit(40, 3)
    expected = (images @ memory.T).argmax(1)
    assert torch.equal(nearest(images, memory, query_chunk=4, memory_chunk=7), expected)


def test_baselines_caption_every_image(tmp_path: Path) -> None:
    memory = open_memory(tmp_path, ENTRIES, ENCODER, Words())
    assert NearestCaption(memory).caption(3.0 * memory.embeds[[2, 0]]) == ["bag", "shirt"]
    assert NearestCaption(memory).caption(torch.empty(0, 4)) == []
    with pytest.raises(E2FashionError, match="compares tokens"):
        NearestCaption(memory).caption(torch.ones(1, 2, 4))
    assert most_frequent_caption(["a", "b", "b", ""]) == "b"
    with pytest.raises(E2FashionError, match="no captions to count"):
        most_frequent_caption([" "])
