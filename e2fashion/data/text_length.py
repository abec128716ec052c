"""How long the texts are that a model would read, and which of them it would cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2fashion.data.long_text import leading_sentences
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.types import E2FashionError

_WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]")
_SPECIAL_TOKENS = 2  # start and end of a text

TokenLengths = Callable[[list[str]], list[int]]


@dataclass(frozen=True)
class TextLimit:
    """The texts of ``template`` against ``context_length``.

    ``token_lengths`` maps texts to their numbers of tokens, start and end included, and ``tokenizer_name`` says whose
    they are. Without it every word and every punctuation mark counts as one token: no CLIP tokenizer makes fewer, so
    what is too long is a lower bound.

    Raises:
        E2FashionError: a context length below 1.
    """

    context_length: int = 77
    token_lengths: TokenLengths | None = None
    tokenizer_name: str = "the tokenizer that was given"
    template: TextTemplate = field(default_factory=TextTemplate)

    def __post_init__(self) -> None:
        if self.context_length < 1:
            raise E2FashionError(f"context_length is {self.context_length}; give a number of tokens from 1.")

    @property
    def rule(self) -> str:
        """How lengths are counted, and of which text."""
        if self.token_lengths is None:
            counted = "words and punctuation marks plus start and end, a lower bound of the tokens"
        else:
            counted = f"tokens of {self.tokenizer_name}"
        return f"{counted}, of '{self.template.template}'"

    def lengths(
        self, columns: Mapping[str, Sequence[Any]], rows: Sequence[int], first_sentence: bool = False
    ) -> list[int]:
        """Tokens of the rendered texts of ``rows`` of a batch: the description and the template's columns.

        ``first_sentence`` takes that of the description alone.
        """
        if not rows:
            return []
        texts = []
        for row in rows:
            description = columns[DESCRIPTION][row]
            if first_sentence:
                description = leading_sentences(description)[0]
            texts.append(self.template.render({tag: columns[tag][row] for tag in self.template.columns}, description))
        return (self.token_lengths or _lower_bounds)(texts)


def _lower_bounds(texts: list[str]) -> list[int]:
    return [len(_WORDS_AND_MARKS.findall(text)) + _SPECIAL_TOKENS for text in texts]
