"""The tokenizer, the text configuration and the weights of a model belong together, or loading it says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import save_random_clip
from tokenizers.processors import TemplateProcessing
from transformers import CLIPModel

from e2fashion.encoder import load_encoder
from e2fashion.models.tokenizer import check_token_ids, train_tokenizer, two_texts
from e2fashion.types import E2FashionError

TEXTS = [f"{colour} {kind} {number}" for colour in ("red", "blue") for kind in ("dress", "coat") for number in range(5)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(tmp_path_factory.mktemp("models") / "clip", TEXTS)


def changed(clip: Path, copy: Path, change: Callable[[dict[str, Any]], None]) -> str:
    shutil.copytree(clip, copy)
    content = json.loads((copy / "config.json").read_text())
    change(content["text_config"])
    (copy / "config.json").write_text(json.dumps(content))
    return str(copy)


@pytest.mark.parametrize("end", [None, 1, 7, 49407, [3, 4]])
def test_another_end_token_than_the_tokenizers_is_refused(end: Any, clip: Path, tmp_path: Path) -> None:
    """CLIP would read every text at its start token, where all are the same."""

    def change(text: dict[str, Any]) -> None:
        text["eos_token_id"] = end

    folder = changed(clip, tmp_path / "clip", change)
    if isinstance(end, int):  # the fault that is refused
        model, tokenizer = CLIPModel.from_pretrained(folder).eval(), load_encoder(str(clip)).tokenizer
        texts = [torch.tensor([tokenizer(text)["input_ids"]]) for text in ("blue", "a red dress")]
        with torch.no_grad():
            first, second = (model.get_text_features(ids).pooler_output for ids in texts)
        torch.testing.assert_close(first, second)
    with pytest.raises(E2FashionError, match=r"reads a text at the token .*\(eos_token_id\).*all texts would be equal"):
        load_encoder(folder)


def test_the_legacy_end_token_is_right_where_the_end_is_the_largest_id(clip: Path, tmp_path: Path) -> None:
    """As in OpenAI's own checkpoints on the hub: 2 means the largest id of a text."""

    def change(text: dict[str, Any]) -> None:
        text |= {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}

    texts = ["blue", "a red dress"]
    legacy = load_encoder(changed(clip, tmp_path / "clip", change)).embed_texts(texts)
    torch.testing.assert_close(legacy, load_encoder(str(clip)).embed_texts(texts))


def test_the_legacy_end_token_is_refused_of_another_tokenizer() -> None:
    words = train_tokenizer(TEXTS, kind="word")  # ends with id 1
    with pytest.raises(E2FashionError, match=r"read at its largest id, and the tokenizer ends it with 1"):
        check_token_ids(words, SimpleNamespace(vocab_size=100, eos_token_id=2), "the model")
    check_token_ids(words, SimpleNamespace(vocab_size=100, eos_token_id=1), "the model")


def test_more_tokens_than_the_model_embeds_are_refused() -> None:
    words = train_tokenizer(TEXTS, kind="word")
    with pytest.raises(E2FashionError, match=rf"ids up to {len(words) - 1}, and the text encoder embeds 3 tokens"):
        check_token_ids(words, SimpleNamespace(vocab_size=3, eos_token_id=1), "the model")
    check_token_ids(words, SimpleNamespace(vocab_size=len(words), eos_token_id=1), "the model")


def test_a_tokenizer_that_puts_no_end_behind_a_text_is_refused() -> None:
    words = train_tokenizer(TEXTS, kind="word")
    words.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(E2FashionError, match="without the start token"):
        check_token_ids(words, SimpleNamespace(vocab_size=100, eos_token_id=1), "the model")


def test_two_texts_differ_whatever_the_vocabulary() -> None:
    for texts in (["red"], ["ein rotes Kleid", "ein blauer Mantel"], ["x y"]):
        for kind in ("word", "bpe"):
            tokenizer = train_tokenizer([*texts, *texts], kind=kind)
            first, second = two_texts(tokenizer)
            assert tokenizer(first)["input_ids"] != tokenizer(second)["input_ids"]


def test_weights_that_make_all_texts_equal_are_refused(clip: Path, tmp_path: Path) -> None:
    """A training that diverged to the same vector for everything, with a tokenizer and a configuration that fit."""
    model = CLIPModel.from_pretrained(clip)
    with torch.no_grad():
        model.text_model.embeddings.token_embedding.weight.zero_()
        model.text_model.embeddings.position_embedding.weight.zero_()
    shutil.copytree(clip, tmp_path / "clip")
    model.save_pretrained(tmp_path / "clip")
    with pytest.raises(E2FashionError, match="equal embeddings: its training diverged"):
        load_encoder(str(tmp_path / "clip"))
