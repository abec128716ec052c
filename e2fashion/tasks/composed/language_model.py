"""The arm that asks a language model: any local causal model of Transformers, or answers that were made elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from e2fashion.disk import write_json
from e2fashion.models.loading import checked_source, load_config, load_weights, read_config
from e2fashion.models.tokenizer import read_tokenizer
from e2fashion.tasks.composed.rewriting import Question, Rewriting
from e2fashion.types import E2FashionError

FORMAT = 1
Ask = Callable[[Sequence[str]], list[str]]
"""Prompts to what the model goes on with."""

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
    """What names a question: the first 16 letters of the SHA-256 of its content as JSON."""
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
        """The answer, stripped and possibly empty; None where the question was never asked."""
        entry = self.entries.get(question_key(question.caption, question.instruction))
        return None if entry is None else entry["answer"].strip()

    def put(self, question: Question, answer: str) -> None:
        """Keep an answer, in memory."""
        key = question_key(question.caption, question.instruction)
        self.entries[key] = {"caption": question.caption, "instruction": question.instruction, "answer": answer}

    def save(self) -> None:
        """Write the file whole, so that an interrupt leaves the former one."""
        save_answers(self.path, self.model, self.entries)


def save_answers(path: Path, model: str, entries: dict[str, dict[str, str]]) -> None:
    """Write a file of answers, which is whole at any moment."""
    write_json(path, {"format": FORMAT, "model": model, "answers": entries})


class LanguageModelComposer:
    """CIReVL's idea with whatever model there is; the instruction alone where it answers nothing, as there.

    Questions that ``answers`` holds are not asked again; new answers are saved after every ``batch_size`` of them.
    Without ``ask`` every question must have been answered before; the others are kept in :attr:`unanswered`.
    """

    reads_captions = True

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
        found = []
        for question in questions:
            answer = self.answers.get(question) if question.instruction else question.caption
            fell_back = not answer
            trace = {"answer": answer}
            found.append(Rewriting(answer or question.instruction, fell_back, trace))
        return found

    def _ask(self, questions: list[Question], ask: Ask) -> None:
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            prompts = [PROMPT.format(caption=item.caption, instruction=item.instruction) for item in batch]
            for question, continuation in zip(batch, ask(prompts), strict=True):
                self.answers.put(question, first_line(continuation))
            self.answers.save()


def first_line(text: str) -> str:
    """The first line of an answer that says something; empty if none does."""
    return next((line.strip().strip('"') for line in text.splitlines() if line.strip()), "")


def load_language_model(name_or_folder: str, longest: int = 60) -> Ask:
    """A causal language model from a folder or the hub, that goes on greedily for at most ``longest`` tokens.

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
        words = [entry.get(name) for name in ("caption", "instruction", "answer")] if isinstance(entry, dict) else []
        if not words or not all(isinstance(word, str) for word in words):
            raise E2FashionError(f"{path}, answer '{key}' is {entry!r}: {remedy}")
        if key != question_key(entry["caption"], entry["instruction"]):
            raise E2FashionError(f"{path}, answer '{key}' does not belong to its caption and instruction: {remedy}")
    content.setdefault("model", "unknown")
    return content
