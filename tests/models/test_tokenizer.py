import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
)

from e2fashion.models.tokenizer import load_tokenizer, text_special_ids, train_tokenizer
from e2fashion.types import E2FashionError

WORDS = [
    "Red",
    "Cotton",
    "T-Shirt",
    ".",
    "Nike",
    "Summer",
    "2012",
    "Men's",
    "crew neck",
    "denim-jacket",
    "98% wool,",
    "2%",
]
CAPTIONS = [" ".join(random.Random(seed).choices(WORDS, k=8)) for seed in range(200)]
UNSEEN = ["", "Café crème — naïve 東京 👗", "an unseen   sentence with\nwhite space", "XXL!!! 100%"]
KINDS = ["bpe", "word"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return train_tokenizer(CAPTIONS, kind=request.param, vocabulary=700, context_length=16)


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerBase:
    return train_tokenizer(CAPTIONS, kind="bpe", vocabulary=700)


def test_every_text_is_wrapped_in_start_and_end(tokenizer: PreTrainedTokenizerBase) -> None:
    special = text_special_ids(tokenizer)
    for text in CAPTIONS[:5] + UNSEEN:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == special["bos_token_id"]
        assert ids.index(special["eos_token_id"]) == len(ids) - 1


def test_truncation_keeps_the_end_token(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("red cotton shirt " * 30, truncation=True, max_length=16)["input_ids"]
    assert len(ids) == 16
    assert ids[-1] == tokenizer.eos_token_id


def test_end_id_is_not_two_which_transformers_treats_specially(tokenizer: PreTrainedTokenizerBase) -> None:
    assert text_special_ids(tokenizer)["eos_token_id"] != 2


def test_case_does_not_matter(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer("RED Cotton")["input_ids"] == tokenizer("red cOTTON")["input_ids"]


def test_all_ids_are_below_the_vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(tokenizer) <= 700
    assert max(tokenizer.get_vocab().values()) == len(tokenizer) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_captions_does_not_matter(kind: str) -> None:
    shuffled = random.Random(1).sample(CAPTIONS, len(CAPTIONS))
    first = train_tokenizer(CAPTIONS, kind=kind, vocabulary=700)
    second = train_tokenizer(shuffled, kind=kind, vocabulary=700)
    assert first.get_vocab() == second.get_vocab()
    assert [first(text)["input_ids"] for text in UNSEEN] == [second(text)["input_ids"] for text in UNSEEN]


def test_training_repeats_exactly(bpe: PreTrainedTokenizerBase) -> None:
    states = {train_tokenizer(CAPTIONS, vocabulary=700).backend_tokenizer.to_str() for _ in range(5)}
    assert states == {bpe.backend_tokenizer.to_str()}


def test_bpe_is_clips_own_class_and_merges_frequent_words(bpe: PreTrainedTokenizerBase) -> None:
    assert isinstance(bpe, CLIPTokenizer)
    assert len(bpe("cotton")["input_ids"]) == 3


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
def test_bpe_knows_every_text(text: str) -> None:
    tokenizer = _SHARED_BPE
    inner = tokenizer(text)["input_ids"][1:-1]
    assert tokenizer.unk_token_id not in inner


_SHARED_BPE = train_tokenizer(CAPTIONS[:20], kind="bpe", vocabulary=600)


def test_word_tokens_are_words_numbers_and_single_marks() -> None:
    tokenizer = train_tokenizer(CAPTIONS, kind="word", vocabulary=700)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Red T-Shirt 98% gibberish")["input_ids"])
    assert tokens == ["<|startoftext|>", "red", "t", "-", "shirt", "98", "%", "<unk>", "<|endoftext|>"]


def test_processor_folder_gives_identical_ids(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(tmp_path)
    CLIPConfig().save_pretrained(tmp_path)
    expected = [tokenizer(text)["input_ids"] for text in CAPTIONS + UNSEEN]
    for loaded in (
        CLIPProcessor.from_pretrained(tmp_path).tokenizer,
        AutoTokenizer.from_pretrained(tmp_path),
        load_tokenizer(tmp_path),
    ):
        assert [loaded(text)["input_ids"] for text in CAPTIONS + UNSEEN] == expected
        assert text_special_ids(loaded) == text_special_ids(tokenizer)
        assert loaded.model_max_length == 16


def test_processor_call_gives_ids_and_mask(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(tmp_path)
    encoded = CLIPProcessor.from_pretrained(tmp_path)(text=["red", "red cotton shirt"], padding=True)
    assert list(encoded) == ["input_ids", "attention_mask"]
    assert [sum(mask) < len(mask) for mask in encoded["attention_mask"]] == [True, False]


def test_padding_does_not_change_what_clip_pools(tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=16, **shape, **text_special_ids(tokenizer)
    )
    model = CLIPTextModel(config).eval()
    alone = tokenizer("red cotton", return_tensors="pt")
    padded = tokenizer("red cotton", return_tensors="pt", padding="max_length", max_length=16)
    with torch.no_grad():
        expected, pooled = model(**alone), model(**padded).pooler_output
    torch.testing.assert_close(pooled, expected.pooler_output)
    torch.testing.assert_close(expected.pooler_output[0], expected.last_hidden_state[0, -1])


def test_no_text_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="every training text is empty"):
        train_tokenizer(["", "  "])


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="'char'; choose bpe or word"):
        train_tokenizer(CAPTIONS, kind="char")  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "least"), [("bpe", "at least 514"), ("word", "more than 3")])
def test_too_small_a_vocabulary_is_an_error(kind: str, least: str) -> None:
    with pytest.raises(E2FashionError, match=f"vocabulary is 3; .*{least}"):
        train_tokenizer(CAPTIONS, kind=kind, vocabulary=3)


def test_folder_without_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    CLIPConfig().save_pretrained(tmp_path)  # of a model's folder Transformers makes one that knows no word
    with pytest.raises(E2FashionError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_missing_special_token_is_an_error() -> None:
    tokenizer = train_tokenizer(CAPTIONS, kind="word")
    tokenizer.eos_token = None
    with pytest.raises(E2FashionError, match="no eos_token_id"):
        text_special_ids(tokenizer)
