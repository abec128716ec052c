"""The query modes of text-guided retrieval, each a map from queries to embeddings.

The mode ``llm`` asks any local causal model of Transformers, or reads answers that were made elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.disk import write_json
from e2fashion.models.loading import checked_source, load_config, load_weights, read_config
from e2fashion.models.tokenizer import read_tokenizer
from e2fashion.tasks.composed.config import ComposeConfig, Mode
from e2fashion.tasks.composed.rules import rewrite_slots
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

MODES: tuple[Mode, ...] = get_args(Mode)
TITLES = {
    "image": "image alone",
    "text": "instruction alone",
    "sum": "image + instruction",
    "concat": "caption, instruction",
    "slots": "CIReVL-style (rule composer)",
    "llm": "CIReVL-style (language model)",
}
"""The modes in tables; CIReVL itself is a language model of its authors' choice with their captioner."""
CAPTION_MODES = ("concat", "slots", "llm")
"""The modes that rewrite captions of the references."""
NO_LANGUAGE_MODEL = (
    "the mode 'llm' needs a language model: lm=<folder or hub name>, or answers=<JSON file> made elsewhere"
)


@dataclass(frozen=True)
class Question:
    """A reference's caption, the instruction in one order, and the known ``tags`` of the reference."""

    caption: str
    instruction: str
    tags: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewriting:
    """The text to search for; ``fell_back``: it is the instruction alone, as the mode found nothing better.

    ``trace`` holds the steps that made it.
    """

    text: str
    fell_back: bool = False
    trace: Mapping[str, Any] = field(default_factory=dict)


Rewriter: TypeAlias = Callable[[Sequence[Question]], list[Rewriting]]
"""Questions to texts, one each, in order."""
EmbedTexts: TypeAlias = Callable[[Sequence[str]], Tensor]
"""Texts to L2-normalized embeddings (N, C)."""


@dataclass(frozen=True)
class ComposedQueries:
    """Q queries: ``image_embeds`` (Q, C) of the references, L2-normalized, and none, one or several ``instructions``.

    ``captions`` of the references and their ``tags`` are empty where they are not known.
    """

    image_embeds: Tensor
    instructions: Sequence[Sequence[str]]
    captions: Sequence[str] = ()
    tags: Sequence[Mapping[str, str | None]] = ()

    def questions(self, both_orders: bool = True) -> list[list[Question]]:
        """Per query one question for each order of its instructions."""
        return [
            [
                Question(self.captions[row] if self.captions else "", text, self.tags[row] if self.tags else {})
                for text in orders_of(instructions, both_orders)
            ]
            for row, instructions in enumerate(self.instructions)
        ]


@dataclass(frozen=True)
class Composition:
    """One L2-normalized embedding (Q, C) per query; ``rewritings`` are the texts embedded for it, if any."""

    embeds: Tensor
    rewritings: Sequence[Sequence[Rewriting]] = ()

    @property
    def fallbacks(self) -> int:
        """Queries of which at least one order fell back on the instruction alone."""
        return sum(any(item.fell_back for item in of_query) for of_query in self.rewritings)


def orders_of(instructions: Sequence[str], both: bool = True) -> tuple[str, ...]:
    """The instructions of a query joined by "and", in both orders or as they are; nothing becomes ``("",)``."""
    joined = " and ".join(instructions)
    return tuple(dict.fromkeys((joined, " and ".join(reversed(instructions))))) if both else (joined,)


def rewriters(protected: Sequence[str] = (), language_model: Rewriter | None = None) -> dict[str, Rewriter]:
    """The rewriter of every mode that searches by text; ``protected`` are phrases that ``slots`` does not change."""

    def instruction(question: Question) -> Rewriting:
        # Without an instruction the query asks for more of the same.
        return Rewriting(question.instruction or question.caption)

    def concatenation(question: Question) -> Rewriting:
        return Rewriting(", ".join(part for part in (question.caption, question.instruction) if part))

    def slots(question: Question) -> Rewriting:
        if not question.instruction:
            return Rewriting(question.caption)
        text, trace = rewrite_slots(question.caption, question.instruction, question.tags, protected)
        # An empty text, of which everything was deleted, cannot be searched.
        return Rewriting(text or question.instruction, not trace.understood or not text, asdict(trace))

    def each(rewrite: Callable[[Question], Rewriting]) -> Rewriter:
        return lambda questions: [rewrite(question) for question in questions]

    by_mode = {"text": each(instruction), "concat": each(concatenation), "slots": each(slots)}
    return by_mode | ({"llm": language_model} if language_model is not None else {})


def compose(
    mode: Mode,
    queries: ComposedQueries,
    embed_texts: EmbedTexts,
    by_text: Mapping[str, Rewriter],
    both_orders: bool = True,
    weight: float = 0.5,
) -> Composition:
    """The embeddings of queries in one mode; ``by_text`` as :func:`rewriters` returns it.

    The texts of both orders of a query's instructions are embedded and averaged, so that the order plays no part.
    ``weight`` is the image's share in ``sum``: 1.0 is ``image`` and 0.0 is ``text``.

    Raises:
        E2FashionError: an unknown mode, one that needs captions without any, or ``llm`` without a model.
    """
    if mode not in MODES:
        raise E2FashionError(f"there is no mode '{mode}': choose from {', '.join(MODES)}")
    if mode == "image":
        return Composition(queries.image_embeds)
    if mode in CAPTION_MODES and not queries.captions:
        raise E2FashionError(
            f"the mode '{mode}' rewrites captions of the reference images, and there are none: name texts to caption "
            "them from with memory=<catalogue, or a text file of one caption per line>"
        )
    rewriter = by_text.get("text" if mode == "sum" else mode)
    if rewriter is None:
        raise E2FashionError(NO_LANGUAGE_MODEL)
    questions = queries.questions(both_orders)
    answers = iter(rewriter([question for of_query in questions for question in of_query]))
    rewritings = [[next(answers) for _ in of_query] for of_query in questions]
    text = _mean_text([[item.text for item in of_query] for of_query in rewritings], embed_texts)
    return Composition(blend(queries.image_embeds, text, weight) if mode == "sum" else text, rewritings)


def blend(image_embeds: Tensor, text_embeds: Tensor, weight: float) -> Tensor:
    """The normalized weighted mean of L2-normalized (Q, C) and (Q, C); ``weight`` is the image's share."""
    return F.normalize(weight * image_embeds + (1 - weight) * text_embeds, dim=-1)


def _mean_text(texts: Sequence[Sequence[str]], embed_texts: EmbedTexts) -> Tensor:
    """The normalized mean over each query's texts (Q, C); every distinct text is embedded once."""
    rows = {text: row for row, text in enumerate(dict.fromkeys(text for of_query in texts for text in of_query))}
    embeds = embed_texts(list(rows)).float()
    # Sorted, so that the sum does not depend on the order of instructions.
    means = [embeds[sorted(rows[text] for text in of_query)].mean(0) for of_query in texts]
    return F.normalize(torch.stack(means), dim=-1)


FORMAT = 1
Ask = Callable[[Sequence[str]], list[str]]
"""Prompts to their continuations."""

PROMPT = """Rewrite the description of a garment so that it describes the wished garment. Answer with one line.

Description: a red floral midi dress with short sleeves
Wish: is darker and has no sleeves
Rewritten: a dark red floral midi dress without sleeves

Description: Nike men grey printed T-shirt
Wish: in white and without print
Rewritten: Nike men plain white T-shirt

Description: {caption}
Wish: {instruction}
Rewritten:"""


def question_key(caption: str, instruction: str) -> str:
    """The key of a question: the first 16 digits of the SHA-256 of its content as JSON."""
    return hashlib.sha256(json.dumps([caption, instruction]).encode()).hexdigest()[:16]


class Answers:
    """Answers by content, in a JSON file that a person can read and another program can fill.

    ``{"format": 1, "model": name, "answers": {key: {"caption", "instruction", "answer"}}}``, ``key`` as
    :func:`question_key` says.

    Raises:
        E2FashionError: a file that cannot be read as that, or that holds the answers of another model than ``model``.
    """

    def __init__(self, path: Path, model: str | None = None) -> None:
        self.path = path
        self.entries: dict[str, dict[str, str]] = {}
        self.model = model or ""
        if not path.is_file():
            if model is None:
                raise E2FashionError(f"there are no answers at {path}: name the JSON file that holds them, or a lm=")
            return
        content = _load(path)
        self.model = str(content["model"])
        if model is not None and model != self.model:
            raise E2FashionError(
                f"{path} holds answers of '{self.model}', not of '{model}': name another file with answers="
            )
        self.entries = content["answers"]

    def get(self, question: Question) -> str | None:
        """The answer, stripped and possibly empty; None if the question was never asked."""
        entry = self.entries.get(question_key(question.caption, question.instruction))
        return None if entry is None else entry["answer"].strip()

    def put(self, question: Question, answer: str) -> None:
        """Keep an answer, in memory."""
        self.entries |= _entry(question, answer)

    def save(self) -> None:
        """Write the file; an interrupt leaves the former one."""
        write_json(self.path, {"format": FORMAT, "model": self.model, "answers": self.entries})


def _entry(question: Question, answer: str) -> dict[str, dict[str, str]]:
    texts = {"caption": question.caption, "instruction": question.instruction}
    return {question_key(**texts): {**texts, "answer": answer}}


class LanguageModelComposer:
    """CIReVL's idea with any model; the instruction alone if the answer is empty, as there.

    Questions with an answer in ``answers`` are not asked again; new answers are saved after every ``batch_size`` of
    them. Without ``ask`` the questions that have no answer are kept in :attr:`unanswered`.
    """

    def __init__(self, answers: Answers, ask: Ask | None = None, batch_size: int = 16) -> None:
        self.answers, self.ask, self.batch_size = answers, ask, batch_size
        self.unanswered: list[Question] = []

    def rewrite(self, questions: Sequence[Question]) -> list[Rewriting]:
        """The answers; a question without an instruction keeps its caption and is not asked."""
        new = {(q.caption, q.instruction): q for q in questions if q.instruction and self.answers.get(q) is None}
        if self.ask is None:
            self.unanswered += list(new.values())
        else:
            self._ask(list(new.values()), self.ask)
        answers = [self.answers.get(item) if item.instruction else item.caption for item in questions]
        return [
            Rewriting(answer or question.instruction, not answer, {"answer": answer})
            for question, answer in zip(questions, answers, strict=True)
        ]

    def list_unanswered(self, file: Path) -> None:
        """Write the questions without an answer, if any, to be filled in and given as ``answers=``."""
        if not self.unanswered:
            return
        questions = {key: entry for item in self.unanswered for key, entry in _entry(item, "").items()}
        write_json(file, {"format": FORMAT, "model": self.answers.model, "answers": questions})
        logger.warning(
            f"{len(questions)} questions have no answer in {self.answers.path}; they fell back on the instruction "
            f"alone. {file} lists them, to be filled in"
        )

    def _ask(self, questions: list[Question], ask: Ask) -> None:
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            prompts = [PROMPT.format(caption=item.caption, instruction=item.instruction) for item in batch]
            for question, continuation in zip(batch, ask(prompts), strict=True):
                self.answers.put(question, first_line(continuation))
            self.answers.save()


def first_line(text: str) -> str:
    """The first line of an answer that is not blank; empty if there is none."""
    return next((line.strip().strip('"') for line in text.splitlines() if line.strip()), "")


def open_composer(config: ComposeConfig) -> LanguageModelComposer:
    """The model and the answers of a configuration.

    Raises:
        E2FashionError: it names neither, or one that cannot be read.
    """
    if config.lm is None and config.answers is None:
        raise E2FashionError(NO_LANGUAGE_MODEL)
    ask = None if config.lm is None else load_language_model(config.lm, config.lm_tokens)
    file = config.answers or f"runs/compose/answers/{Path(config.lm or '').name}.json"
    return LanguageModelComposer(Answers(Path(file), config.lm), ask)


def load_language_model(name_or_folder: str, longest: int = 60) -> Ask:
    """A causal language model from a folder or the hub, with greedy continuations of at most ``longest`` tokens.

    Raises:
        E2FashionError: no such folder, or nothing in it that Transformers can load as one.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    remedy = (
        "Give the folder or hub name of a causal language model of Transformers, or answers=<JSON file> made elsewhere."
    )
    what = f"the language model '{name_or_folder}'"
    try:
        source = checked_source(name_or_folder)
    except E2FashionError as error:
        raise E2FashionError(f"{what} cannot be loaded ({error}). {remedy}") from error
    read_config(source, (), what, own_code=True)  # Transformers' own class for the type is as good
    config = load_config(AutoConfig, source, what)
    tokenizer: Any = read_tokenizer(source, f"the tokenizer of {what}", remedy, padding_side="left")
    model: Any = load_weights(AutoModelForCausalLM, source, config, what, unused=None)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.eval()

    def ask(prompts: Sequence[str]) -> list[str]:
        tokens = tokenizer(list(prompts), padding=True, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            written = model.generate(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                max_new_tokens=longest,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        return list(tokenizer.batch_decode(written[:, tokens["input_ids"].shape[1] :], skip_special_tokens=True))

    return ask


def _load(path: Path) -> dict[str, Any]:
    remedy = 'expected {"format": 1, "model": name, "answers": {key: {"caption", "instruction", "answer"}}}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise E2FashionError(f"the answers at {path} are not JSON ({error}). {remedy}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("answers"), dict):
        raise E2FashionError(f"{path} holds no answers of format {FORMAT}: {remedy}")
    for key, entry in content["answers"].items():
        texts = [entry.get(name) for name in ("caption", "instruction", "answer")] if isinstance(entry, dict) else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise E2FashionError(f"{path}, answer '{key}' is {entry!r}: {remedy}")
        if key != question_key(entry["caption"], entry["instruction"]):
            raise E2FashionError(f"{path}, answer '{key}' does not belong to its caption and instruction: {remedy}")
    content.setdefault("model", "unknown")
    return content
