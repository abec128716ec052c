"""How long the texts are that a model would read, and which of them it would cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from e2fashion.data.config import TextLength
from e2fashion.data.long_text import leading_sentences
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.types import E2FashionError, TokenCounter

_WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]")
_SPECIAL_TOKENS = 2  # start and end of a text


class TextMeter:
    """Measures rendered texts against a context length.

    Without a ``counter`` every word and every punctuation mark counts as one token: no CLIP tokenizer makes fewer, so
    that the number of texts that are too long is a lower bound.

    Raises:
        E2FashionError: a context length below 1, a template with a field that is no tag column, or a configuration that
            names a tokenizer without its counter.
    """

    def __init__(self, config: TextLength, tag_columns: Sequence[str], counter: TokenCounter | None = None) -> None:
        if config.tokenizer is not None and counter is None:
            raise E2FashionError(
                f"tokenizer is '{config.tokenizer}', but no counter is given: pass "
                f"e2fashion.models.tokenizer.load_token_counter('{config.tokenizer}')."
            )
        default = 77 if counter is None else counter.context_length
        self.context_length = default if config.context_length is None else config.context_length
        if self.context_length < 1:
            raise E2FashionError(f"context_length is {self.context_length}; give a number of tokens from 1.")
        self.template = TextTemplate(config.template)
        self.template.validate(tag_columns)
        self.counter = counter

    @property
    def rule(self) -> str:
        """How lengths are counted, and of which text."""
        if self.counter is None:
            counted = "words and punctuation marks plus start and end, a lower bound of the tokens"
        else:
            counted = f"tokens of {self.counter.name}"
        return f"{counted}, of '{self.template.template}'"

    def lengths(
        self, columns: Mapping[str, Sequence[Any]], rows: Sequence[int], first_sentence: bool = False
    ) -> list[int]:
        """Tokens of the rendered texts of ``rows`` of a batch: the description and the template's columns.

        ``first_sentence`` renders only that of the description.
        """
        if not rows:
            return []
        texts = []
        for row in rows:
            description = columns[DESCRIPTION][row]
            if first_sentence:
                description = leading_sentences(description)[0]
            texts.append(self.template.render({tag: columns[tag][row] for tag in self.template.columns}, description))
        if self.counter is not None:
            return self.counter.lengths(texts)
        return [len(_WORDS_AND_MARKS.findall(text)) + _SPECIAL_TOKENS for text in texts]
