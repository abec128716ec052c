"""A trained decoder as a folder: the language model as Transformers saves it, the prefix, the tokenizer, the facts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerBase
from transformers.configuration_utils import PreTrainedConfig

from e2fashion.tasks.captioning.decoder import CaptionDecoder, Method, PrefixShape, method_title
from e2fashion.tasks.captioning.spelling import Spelling
from e2fashion.tasks.captioning.tokens import CaptionTokens
from e2fashion.tasks.encoder import EncoderIdentity
from e2fashion.types import E2FashionError

FORMAT = 1
FACTS_FILE, PREFIX_FILE, OFFSET_FILE = "caption.json", "prefix.safetensors", "offset.safetensors"
LANGUAGE_MODEL, TOKENIZER = "language_model", "tokenizer"
SCRATCH = "scratch"


@dataclass(frozen=True)
class DecoderFacts:
    """What has to be known of a decoder beside its weights.

    ``caption`` and ``text`` are templates: what is told, and what the encoder embedded in training. ``prompt_tags`` are
    the tags, by entity, of which the nearest to a picture's regions stand before its caption; ``language_model`` is
    ``scratch`` or where the pretrained one came from. ``memory`` is the folder of the support memory, as seen from the
    decoder's, ``spelling`` what :class:`~e2fashion.tasks.captioning.spelling.Spelling` learnt.
    """

    method: Method
    encoder: EncoderIdentity
    prefix: PrefixShape
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
        """What tables call the method."""
        return method_title(self.method, self.language_model == SCRATCH)

    @property
    def prompt(self) -> str:
        """The entities of the prompt, separated by commas; empty without one."""
        return ",".join(self.prompt_tags)


@dataclass(frozen=True)
class StoredDecoder:
    """A decoder with its tokens, its facts, and the modality offset (C,) where one was kept."""

    decoder: CaptionDecoder
    tokens: CaptionTokens
    facts: DecoderFacts
    offset: Tensor | None = None


def save_decoder(stored: StoredDecoder, folder: Path) -> None:
    """Write everything that :func:`load_decoder` reads."""
    stored.decoder.language_model.save_pretrained(folder / LANGUAGE_MODEL)
    stored.tokens.tokenizer.save_pretrained(folder / TOKENIZER)
    prefix = {name: value.contiguous() for name, value in stored.decoder.prefix.state_dict().items()}
    save_file(prefix, folder / PREFIX_FILE)
    if stored.offset is not None:
        save_file({"offset": stored.offset.contiguous()}, folder / OFFSET_FILE)
    content = {"format": FORMAT, **asdict(stored.facts)}
    (folder / FACTS_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_facts(folder: Path) -> DecoderFacts:
    """The facts of a decoder's folder.

    Raises:
        E2FashionError: it is none, or of another version.
    """
    file = folder / FACTS_FILE
    if not file.is_file():
        raise E2FashionError(
            f"'{folder}' holds no caption decoder: {FACTS_FILE} is missing. Give the folder of a finished "
            "`e2fashion caption train`."
        )
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise E2FashionError(f"{file} was written by another version: train the decoder again.")
        encoder, prefix = EncoderIdentity(**content.pop("encoder")), PrefixShape(**content.pop("prefix"))
        return DecoderFacts(encoder=encoder, prefix=prefix, **content)
    except (ValueError, KeyError, TypeError) as error:
        raise E2FashionError(f"{file} is damaged ({error!r}): train the decoder again.") from error


def load_decoder(folder: Path) -> StoredDecoder:
    """The decoder of a folder, in evaluation mode on the CPU.

    Raises:
        E2FashionError: it is none, or files of it are damaged or missing.
    """
    facts = read_facts(folder)
    try:
        language_model = GPT2LMHeadModel.from_pretrained(folder / LANGUAGE_MODEL, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)
        prefix = facts.prefix.build(facts.encoder.dimension, language_model.config.n_embd)
        prefix.load_state_dict(load_file(folder / PREFIX_FILE))
        offset = load_file(folder / OFFSET_FILE)["offset"] if (folder / OFFSET_FILE).is_file() else None
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise E2FashionError(f"The caption decoder '{folder}' cannot be read ({reason}): train it again.") from error
    decoder = CaptionDecoder(prefix, language_model, facts.noise_variance).eval()
    tokens = CaptionTokens(tokenizer, facts.length, facts.prompt_length, facts.stop, Spelling(facts.spelling))
    return StoredDecoder(decoder, tokens, facts, offset)


def load_language_model(
    name_or_folder: str, checked: Callable[[str], str]
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerBase]:
    """A pretrained GPT-2 and its tokenizer, of a folder or a hub name; ``checked`` refuses paths that do not exist.

    Raises:
        E2FashionError: it is not there, or no GPT-2; the message says how to do without.
    """
    without = f"Give the folder or hub name of a GPT-2, or lm={SCRATCH} (tables then say 'CapDec (scratch LM)')."
    try:
        source = checked(name_or_folder)
    except E2FashionError as error:
        raise E2FashionError(f"lm='{name_or_folder}' is no folder of a model and no hub name. {without}") from error
    try:
        model_type = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
        if model_type != "gpt2":
            raise E2FashionError(f"lm='{name_or_folder}' is a model of type '{model_type}', not a GPT-2. {without}")
        model = GPT2LMHeadModel.from_pretrained(source, use_safetensors=True)
        return model, AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise E2FashionError(f"lm='{name_or_folder}' cannot be loaded: {reason} {without}") from error
