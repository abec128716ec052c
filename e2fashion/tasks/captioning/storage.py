"""A trained decoder as a folder: the language model as Transformers saves it, the prefix, the tokenizer, the facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from e2fashion.disk import read_json, seal, stored_as, write_checksums, write_json
from e2fashion.encoder import EncoderIdentity
from e2fashion.models.loading import (
    check_model_files,
    checked_source,
    load_config,
    load_module,
    load_weights,
    not_finite,
    only_our_errors,
    read_config,
    refuse_other_tensors,
)
from e2fashion.models.tokenizer import read_tokenizer
from e2fashion.tasks.captioning.config import CaptionMapperConfig
from e2fashion.tasks.captioning.decoder import CaptionDecoder, build_prefix
from e2fashion.tasks.captioning.tokens import CaptionTokens, Spelling
from e2fashion.types import E2FashionError

FORMAT = 1
FACTS_FILE, PREFIX_FILE, OFFSET_FILE = "caption.json", "prefix.safetensors", "offset.safetensors"
LANGUAGE_MODEL, TOKENIZER = "language_model", "tokenizer"
SCRATCH = "scratch"
GPT2 = "gpt2"
REMEDY = "Train the decoder again."


@dataclass
class PrefixFacts(CaptionMapperConfig):
    """The prefix of a decoder: ``linear``, or a ``transformer`` of this shape."""

    kind: Literal["linear", "transformer"] = "linear"

    @property
    def mapper(self) -> CaptionMapperConfig | None:
        """The shape of the transformer; None of a linear prefix."""
        return self if self.kind == "transformer" else None


@dataclass(frozen=True)
class DecoderFacts:
    """What is stored of a decoder besides its weights.

    ``caption`` and ``text`` are templates: of captions, and of what the encoder embedded in training. ``prompt_tags``
    are the tags, by entity, of which those nearest to an image or its regions are the prompt; ``language_model`` is
    ``scratch`` or the source of the pretrained one. ``memory`` is the folder of the support memory, relative to the
    decoder's, ``spelling`` what :class:`~e2fashion.tasks.captioning.tokens.Spelling` learned.
    """

    method: Literal["decap", "capdec"]
    encoder: EncoderIdentity
    prefix: PrefixFacts
    language_model: str
    length: int
    caption: str
    text: str
    memory: str
    noise_variance: float = 0.0
    prompt_tags: dict[str, list[str]] = field(default_factory=dict)
    prompt_length: int = 24
    stop: str | None = None
    spelling: dict[str, bool] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The method in tables: CapDec without a pretrained language model is not CapDec."""
        if self.method == "decap":
            return "DeCap"
        return "CapDec (scratch LM)" if self.language_model == SCRATCH else "CapDec"


@dataclass(frozen=True)
class StoredDecoder:
    """A decoder with its tokens, its facts, and the modality offset (C,) where one was kept."""

    decoder: CaptionDecoder
    tokens: CaptionTokens
    facts: DecoderFacts
    offset: Tensor | None = None


def save_decoder(stored: StoredDecoder, folder: Path) -> None:
    """Write everything that :func:`load_decoder` reads, with checksums."""
    stored.decoder.language_model.save_pretrained(folder / LANGUAGE_MODEL)
    stored.tokens.tokenizer.save_pretrained(folder / TOKENIZER)
    prefix = {name: value.contiguous() for name, value in stored.decoder.prefix.state_dict().items()}
    save_file(prefix, folder / PREFIX_FILE)
    if stored.offset is not None:
        save_file({"offset": stored.offset.contiguous()}, folder / OFFSET_FILE)
    write_json(folder / FACTS_FILE, seal({"format": FORMAT, **asdict(stored.facts)}))
    write_checksums(folder)


def read_facts(folder: Path) -> DecoderFacts:
    """The facts of a decoder's folder.

    Raises:
        E2FashionError: it holds no decoder, or one of another version.
    """
    file = folder / FACTS_FILE
    if not file.is_file():
        raise E2FashionError(
            f"'{folder}' holds no caption decoder: {FACTS_FILE} is missing. Give the folder of a finished "
            "`e2fashion caption train`."
        )
    content = read_json(file, REMEDY)
    if (version := content.pop("format", None)) != FORMAT:
        raise E2FashionError(f"{file} has the format {version!r}, this version reads {FORMAT}. {REMEDY}")
    return stored_as(DecoderFacts, content, str(file), REMEDY)


def load_decoder(folder: Path) -> StoredDecoder:
    """The decoder of a folder, in evaluation mode on the CPU.

    Raises:
        E2FashionError: it holds no decoder, or its files are damaged or missing.
    """
    facts, what = read_facts(folder), f"the caption decoder '{folder}'"
    check_model_files(folder)
    if not (folder / LANGUAGE_MODEL).is_dir():
        raise E2FashionError(f"{what} lacks its folder {LANGUAGE_MODEL}. {REMEDY}")
    read_config(folder / LANGUAGE_MODEL, (GPT2,), what)
    config = load_config(GPT2Config, folder / LANGUAGE_MODEL, what)
    language_model = load_weights(GPT2LMHeadModel, folder / LANGUAGE_MODEL, config, what)
    tokenizer = read_tokenizer(folder / TOKENIZER, f"the tokenizer of {what}", REMEDY)
    _check_vocabulary(tokenizer, language_model, what)
    width, dimension = language_model.config.n_embd, facts.encoder.dimension
    with only_our_errors(what, REMEDY):
        tensors = load_file(folder / PREFIX_FILE)
        offset = load_file(folder / OFFSET_FILE)["offset"] if (folder / OFFSET_FILE).is_file() else None
        if facts.prefix.layers > len(tensors) and facts.prefix.kind == "transformer":
            raise E2FashionError(
                f"{what} has a prefix of {facts.prefix.layers} layers and {len(tensors)} tensors. {REMEDY}"
            )
        with torch.device("meta"):  # compared before it takes any memory
            refuse_other_tensors(build_prefix(dimension, width, facts.prefix.mapper), tensors, what)
        prefix = build_prefix(dimension, width, facts.prefix.mapper)
        tokens = CaptionTokens(tokenizer, facts.length, facts.prompt_length, facts.stop, Spelling(facts.spelling))
    load_module(prefix, tensors, what)
    if offset is not None and (offset.shape[-1:] != (dimension,) or not_finite({"offset": offset})):
        raise E2FashionError(f"{what}: {OFFSET_FILE} is not a finite vector of width {dimension}. {REMEDY}")
    decoder = CaptionDecoder(prefix, language_model, facts.noise_variance).eval()
    return StoredDecoder(decoder, tokens, facts, offset)


def load_language_model(name_or_folder: str) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerBase]:
    """A pretrained GPT-2 and its tokenizer, of a folder or a hub name.

    Raises:
        E2FashionError: it is missing, or no GPT-2; the message names the alternative.
    """
    without = f"Give the folder or hub name of a GPT-2, or lm={SCRATCH} (tables then say 'CapDec (scratch LM)')."
    what = f"lm='{name_or_folder}'"
    try:
        source = checked_source(name_or_folder)
    except E2FashionError as error:
        raise E2FashionError(f"{what} is neither a model folder nor a hub name. {without}") from error
    try:
        kind = read_config(source, (), what).get("model_type")
        if kind != GPT2:
            raise E2FashionError(f"{what} is a model of type '{kind}', not a GPT-2.")
        model = load_weights(GPT2LMHeadModel, source, load_config(GPT2Config, source, what), what)
        tokenizer = read_tokenizer(source, f"the tokenizer of {what}")
        _check_vocabulary(tokenizer, model, what)
    except E2FashionError as error:
        raise E2FashionError(f"{what}: {str(error).removeprefix(what).lstrip(' :').rstrip('.')}. {without}") from error
    return model, tokenizer


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, model: GPT2LMHeadModel, what: str) -> None:
    highest, rows = max(tokenizer.get_vocab().values()), int(model.config.vocab_size)
    if highest >= rows:
        raise E2FashionError(
            f"{what}: its tokenizer has ids up to {highest}, but the language model embeds {rows} tokens: they belong "
            "to different models."
        )
