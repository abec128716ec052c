"""The mode ``llm``: any local causal model of Transformers, or answers that were made elsewhere."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from e2fashion.disk import write_json
from e2fashion.models.loading import checked_source, load_config, load_weights, read_config
from e2fashion.models.tokenizer import read_tokenizer
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.tasks.composed.modes import NO_LANGUAGE_MODEL, Question, Rewriting
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

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
        key = question_key(question.caption, question.instruction)
        self.entries[key] = {"caption": question.caption, "instruction": question.instruction, "answer": answer}

    def save(self) -> None:
        """Write the file; an interrupt leaves the former one."""
        write_json(self.path, {"format": FORMAT, "model": self.model, "answers": self.entries})


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
        questions = {
            question_key(item.caption, item.instruction): {
                "caption": item.caption,
                "instruction": item.instruction,
                "answer": "",
            }
            for item in self.unanswered
        }
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
        raise E2FashionError(f"the answers at {path} are no JSON ({error}). {remedy}") from error
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
