"""Tokenizers: that of a checkpoint, or one trained on the captions of the training split."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.trainers import BpeTrainer, WordLevelTrainer
from transformers import AutoTokenizer, CLIPTokenizer, GemmaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from e2fashion.hub import source_options
from e2fashion.models.loading import check_model_files, checked_source, only_our_errors
from e2fashion.types import E2FashionError, TokenCounter

START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<unk>"
#: A folder with one of these has a tokenizer.
VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "spiece.model")
#: Marks the end of a word in CLIP's vocabulary.
WORD_END = "</w>"
#: With this end token in a text configuration, Transformers pools a text at its largest id, as OpenAI's code does.
ARGMAX_END = 2
#: Words and pieces that occur only once in training are dropped; for whole words, these train the unknown token.
MIN_FREQUENCY = 2


def train_tokenizer(
    texts: Iterable[str], kind: Literal["bpe", "word"] = "bpe", vocabulary: int = 8192, context_length: int = 77
) -> PreTrainedTokenizerBase:
    """A tokenizer trained on captions; it does not depend on their order.

    ``bpe`` is CLIP's class and recipe (lower-cased byte-level pieces, padded with the end token) without unknown
    tokens. ``word`` has the ``vocabulary`` most frequent words, numbers and punctuation marks and ``<unk>`` for all
    others (ours; faster to learn from few captions).

    Args:
        texts: training captions.
        kind: what a token is.
        vocabulary: maximum number of tokens, special ones included.
        context_length: recorded as the tokenizer's ``model_max_length``.

    Raises:
        E2FashionError: an unknown kind, a vocabulary that is too small, or no text.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise E2FashionError("A tokenizer cannot be trained on no text: every training text is empty.")
    if kind == "bpe":
        return _train_bpe(texts, vocabulary, context_length)
    if kind == "word":
        return _train_word(texts, vocabulary, context_length)
    raise E2FashionError(f"model.scratch.tokenizer is '{kind}'; choose bpe or word.")


def load_tokenizer(folder_or_name: str | Path, context_length: int | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or of a hub name.

    ``context_length`` replaces its ``model_max_length`` if the model reads longer texts, so that saved processors do
    not cut them.

    Raises:
        E2FashionError: it is missing, or lacks the pad token that a text encoder needs.
    """
    folder = Path(folder_or_name)
    if folder.is_dir() and not any((folder / name).is_file() for name in VOCABULARY_FILES):
        raise E2FashionError(
            f"'{folder_or_name}' holds no tokenizer: put tokenizer.json (or vocab.json and merges.txt) there."
        )
    remedy = "Name a model folder with tokenizer.json (or vocab.json and merges.txt), or a checkpoint of the hub."
    what = f"the tokenizer of '{folder_or_name}'"
    tokenizer = read_tokenizer(folder_or_name, what, remedy)
    if isinstance(tokenizer, GemmaTokenizer):
        # SigLIP 2's: trained on lower-cased texts, but published at fixed resolutions with a class that keeps case.
        tokenizer = read_tokenizer(folder_or_name, what, remedy, tokenizer_type="siglip2")
    with only_our_errors(what, remedy):  # special tokens that the vocabulary lacks
        special, pad = set(tokenizer.all_special_ids), tokenizer.pad_token_id
    if set(tokenizer.get_vocab().values()) <= special:
        # Transformers creates an empty CLIP tokenizer for a model folder without one.
        raise E2FashionError(
            f"'{folder_or_name}' holds no tokenizer: the one that Transformers creates for it only has special tokens. "
            "Put tokenizer.json (or vocab.json and merges.txt) there."
        )
    if pad is None:
        raise E2FashionError(
            f"The tokenizer of '{folder_or_name}' has no pad_token_id; a text encoder needs it. Set it in "
            "tokenizer_config.json."
        )
    tokenizer.padding_side = "right"  # as text encoders are trained; the classes of language models pad to the left
    if context_length is not None:
        tokenizer.model_max_length = context_length
    return tokenizer


def read_tokenizer(
    source: str | Path, what: str, remedy: str = "Fetch or save it again.", **options: Any
) -> PreTrainedTokenizerBase:
    """A tokenizer of any kind of a folder or a hub name; ``options`` are those of ``from_pretrained``.

    Raises:
        E2FashionError: it is missing, damaged, or needs custom code or a package; the message ends with ``remedy``.
    """
    allowed = source_options(source, "tokenizer_config.json", what)
    try:
        with only_our_errors(what, remedy):
            tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, **allowed, **options)
            tokenizer("a b")  # a damaged one may load and fail at its first text
    except E2FashionError as error:
        if isinstance(error.__cause__, ImportError) and find_spec("sentencepiece") is None:
            raise E2FashionError(f"{what} needs sentencepiece. Install it: pip install 'e2fashion[siglip]'.") from error
        raise
    check_model_files(source)
    return tokenizer


def check_token_ids(tokenizer: PreTrainedTokenizerBase, text_config: Any, what: str, backbone: str = "clip") -> None:
    """Refuse a tokenizer whose texts a text encoder with ``text_config`` would misread or pool at a wrong position.

    CLIP pools a text at its first token ``eos_token_id``, or without one at the start token, which is equal in all
    texts. The legacy value 2 means the largest id, so that the end token must have the largest id of all.
    ``bos_token_id`` and ``pad_token_id`` of the configuration are not used (OpenAI's are 0 and 1), only the tokens that
    the tokenizer adds. A text encoder of the ``backbone`` ``siglip`` reads the padding, and must have its id; its texts
    have no start token.

    Raises:
        E2FashionError: ids beyond the embedding, another end token, or texts without start and end; another padding.
    """
    highest, rows = max(tokenizer.get_vocab().values()), int(text_config.vocab_size)
    if highest >= rows:
        raise E2FashionError(
            f"{what}: its tokenizer has ids up to {highest}, and the text encoder embeds {rows} tokens (vocab_size). "
            "Give the tokenizer that the weights were trained with."
        )
    ids = tokenizer("a b", verbose=False)["input_ids"]
    if backbone == "siglip":
        if tokenizer.pad_token_id != text_config.pad_token_id:
            raise E2FashionError(
                f"{what}: pad_token_id of its text configuration is {text_config.pad_token_id}, and the tokenizer pads "
                f"with {tokenizer.pad_token_id}, which a SigLIP reads: correct text_config.pad_token_id in config.json."
            )
        if not ids or ids[-1] != tokenizer.eos_token_id or ids[0] == tokenizer.bos_token_id:
            raise E2FashionError(
                f"{what}: its tokenizer makes of 'a b' the ids {ids}, where a SigLIP reads no start token and the end "
                f"token {tokenizer.eos_token_id}. Give the tokenizer that the weights were trained with."
            )
        return
    special = text_special_ids(tokenizer)
    end, read_at = special["eos_token_id"], text_config.eos_token_id
    if read_at == ARGMAX_END and end != highest:
        raise E2FashionError(
            f"{what}: eos_token_id {ARGMAX_END} of its text configuration means that a text is read at its largest id, "
            f"and the tokenizer ends it with {end}, of ids up to {highest}: texts would be read at a wrong position. "
            f"Set text_config.eos_token_id to {end} in config.json if the weights were trained so."
        )
    if read_at not in (ARGMAX_END, end):
        raise E2FashionError(
            f"{what}: its text configuration reads a text at the token {read_at!r} (eos_token_id), and the tokenizer "
            f"ends it with {end}: all texts would be equal. Set text_config.eos_token_id to {end} in config.json, or "
            "give the tokenizer that the weights were trained with."
        )
    if len(ids) < 2 or (ids[0], ids[-1]) != (special["bos_token_id"], end):
        raise E2FashionError(
            f"{what}: its tokenizer makes of 'a b' the ids {ids}, without the start token {special['bos_token_id']} "
            f"and the end token {end} that a CLIP text encoder needs. Give the tokenizer that the weights were trained "
            "with."
        )


def two_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Two texts with different ids, made of words of the vocabulary.

    Raises:
        E2FashionError: all words have the same ids.
    """
    first: tuple[str, list[int]] | None = None
    special = set(tokenizer.all_special_tokens)
    words = (token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda entry: -entry[1]))
    for text in ("a red dress", "blue", *(word.removesuffix(WORD_END) for word in words if word not in special)):
        ids = list(tokenizer(text, verbose=False)["input_ids"])
        if first is None:
            first = text, ids
        elif ids != first[1]:
            return first[0], text
    raise E2FashionError("The tokenizer gives all words of its vocabulary the same ids: give another one.")


def load_token_counter(name_or_folder: str | None) -> TokenCounter | None:
    """A token counter with the tokenizer of a run folder, a model folder or a hub name; None for None.

    Raises:
        E2FashionError: neither a folder with a tokenizer nor a hub name.
    """
    if name_or_folder is None:
        return None
    inside = Path(name_or_folder) / "model"
    folder = inside if inside.is_dir() else Path(name_or_folder)
    tokenizer = load_tokenizer(folder if folder.is_dir() else checked_source(name_or_folder))

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]]

    return TokenCounter(name_or_folder, own_context_length(tokenizer), count)


def own_context_length(tokenizer: PreTrainedTokenizerBase) -> int:
    """``model_max_length`` of a tokenizer, start and end included; CLIP's 77 where it is unset."""
    length = int(tokenizer.model_max_length)
    return length if length < VERY_LARGE_INTEGER else 77


def text_special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """``bos_token_id``, ``eos_token_id`` and ``pad_token_id`` for the text encoder's configuration.

    CLIP pools the first end token, so its configuration needs the id: the default (49407) would silently pool position
    0 with any other vocabulary.

    Raises:
        E2FashionError: the tokenizer lacks one of the three.
    """
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for key, value in special.items():
        if value is None:
            raise E2FashionError(
                f"The tokenizer has no {key}; a CLIP text encoder needs it. Set it in tokenizer_config.json."
            )
    return {key: int(value) for key, value in special.items() if value is not None}


def _train_bpe(texts: list[str], vocabulary: int, context_length: int) -> CLIPTokenizer:
    # All bytes within and at the end of a word, as in CLIP's vocabulary, so that no text has unknown tokens: CLIP's
    # unknown token is its end token.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    alphabet = letters + [letter + WORD_END for letter in letters]
    if vocabulary < len(alphabet) + 2:
        raise E2FashionError(
            f"model.scratch.vocabulary is {vocabulary}; byte-level BPE needs at least {len(alphabet) + 2}. "
            "Give more, or set model.scratch.tokenizer=word."
        )
    learner = CLIPTokenizer().backend_tokenizer
    trainer = BpeTrainer(
        vocab_size=vocabulary - 2,
        min_frequency=MIN_FREQUENCY,
        # In this order they get fixed ids, by which the trainer breaks ties: otherwise runs would differ.
        special_tokens=alphabet,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    fresh = Tokenizer(type(learner.model)(unk_token=END, end_of_word_suffix=WORD_END))
    fresh.normalizer, fresh.pre_tokenizer = learner.normalizer, learner.pre_tokenizer
    fresh.train_from_iterator(texts, trainer)
    learned = sorted(fresh.get_vocab().items(), key=lambda entry: entry[1])
    vocabulary_ids = {token: number for number, (token, _) in enumerate(learned)}
    vocabulary_ids |= {START: len(learned), END: len(learned) + 1}
    merges: Any = [tuple(pair) for pair in json.loads(fresh.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab=vocabulary_ids, merges=merges, model_max_length=context_length)


def _train_word(texts: list[str], vocabulary: int, context_length: int) -> PreTrainedTokenizerFast:
    special = [START, END, UNKNOWN]
    if vocabulary <= len(special):
        raise E2FashionError(f"model.scratch.vocabulary is {vocabulary}; give more than {len(special)}.")
    tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    tokenizer.train_from_iterator(
        texts,
        WordLevelTrainer(
            vocab_size=vocabulary, min_frequency=MIN_FREQUENCY, special_tokens=special, show_progress=False
        ),
    )
    # The end token has id 1: with id 2 Transformers' CLIP would pool the highest id instead of the end token.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=context_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
