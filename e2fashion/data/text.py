"""The text of a product: a template of tags and description, its length in tokens, and what becomes of a long one."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Any

from e2fashion.types import E2FashionError, TextOverflow, TokenCounter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DESCRIPTION = "description"

#: What :func:`stable_id` never returns, so that it can represent an absent tag.
ABSENT_ID = 0


@dataclass(frozen=True)
class TextTemplate:
    """Tags and description joined, as in ``{article_type} . {brand} . {season} . {description}``.

    A missing field goes together with the separator behind it (the last one with the separator before it). Text
    before the first and behind the last field always stays. The official code's order is
    ``composition.sub_category.brand.season.description``.

    Raises:
        E2FashionError: braces that do not pair, an empty or formatted field, no field at all.
    """

    template: str = "{description}"
    _literals: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _fields: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        literals, names = _parse(self.template)
        object.__setattr__(self, "_literals", literals)
        object.__setattr__(self, "_fields", names)

    @property
    def columns(self) -> tuple[str, ...]:
        """The tag columns it reads, each once, in order; the description is none of them."""
        return tuple(dict.fromkeys(name for name in self._fields if name != DESCRIPTION))

    def states(self, column: str) -> bool:
        """Whether a text says the tag of this column (or the description), where a product has it."""
        return column in self._fields

    def validate(self, columns: Iterable[str]) -> None:
        """Check that a catalogue with these tag columns can fill the template.

        Raises:
            E2FashionError: a field is not a column; the message lists those that exist and suggests the nearest.
        """
        known = [*columns, DESCRIPTION]
        for name in self._fields:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f" Did you mean '{{{near[0]}}}'?" if near else ""
                raise E2FashionError(
                    f"text.template '{self.template}' has the field '{{{name}}}', which the catalogue lacks. "
                    f"Its columns: {', '.join(known)}.{hint}"
                )

    def render(self, sample_tags: Mapping[str, str | None], description: str) -> str:
        """The text of one product; tags that are absent, None or blank are missing."""
        return self.render_placed(sample_tags, description)[0]

    def render_placed(
        self, sample_tags: Mapping[str, str | None], description: str
    ) -> tuple[str, tuple[int, int] | None]:
        """As :meth:`render`, and the range of characters of the description in it (None: it has none)."""
        text, separator, span = self._literals[0], "", None
        for name, literal in zip(self._fields, self._literals[1:], strict=True):
            value = description if name == DESCRIPTION else sample_tags.get(name)
            if value is None or not value.strip():
                continue
            text += separator
            if name == DESCRIPTION:
                span = len(text), len(text) + len(value)
            text += value
            separator = literal
        return text + self._literals[-1], span

    def without_tags(self) -> TextTemplate:
        """The same template with the description alone, for evaluation without tags."""
        before, behind = (
            part.replace("{", "{{").replace("}", "}}") for part in (self._literals[0], self._literals[-1])
        )
        return TextTemplate(f"{before}{{{DESCRIPTION}}}{behind}")


def normalize_text(text: str) -> str:
    """The form in which two texts count as identical: case and white space do not matter."""
    return " ".join(text.split()).casefold()


@lru_cache(maxsize=65536)
def stable_id(text: str) -> int:
    """A signed 64-bit id of a text's content, the same on every rank, machine and run; never 0 or -1.

    Case and white space do not count.
    """
    digest = hashlib.blake2b(normalize_text(text).encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little", signed=True)
    return number if number not in (ABSENT_ID, -1) else 1


def _parse(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The literal texts around the fields (one more than there are fields), and the fields' names."""
    literals, names = [""], []
    try:
        for literal, name, form, conversion in Formatter().parse(template):
            literals[-1] += literal
            if name is None:
                continue
            if not name.strip() or form or conversion:
                written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise E2FashionError(
                    f"text.template '{template}': '{{{written}}}' is not a field. Write {{column}} alone."
                )
            names.append(name)
            literals.append("")
    except ValueError as error:
        raise E2FashionError(
            f"text.template '{template}': {error}. Write fields as {{column}}, and a brace itself as {{{{ or }}}}."
        ) from error
    if not names:
        raise E2FashionError(f"text.template '{template}' has no field. Write {{description}} at least.")
    return tuple(literals), tuple(names)


#: A mark that ends a sentence, with quotes and brackets behind it, before white space; or the end of a line.
_SENTENCE_END = re.compile("[.!?…][\"'\u201d\u2019)\\]]*(?=\\s)|[\u3002\uff01\uff1f]|(?=\\n)")
_WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]")
_SPECIAL_TOKENS = 2  # start and end of a text


def listed_texts(texts: str | Iterable[str]) -> list[str]:
    """One text or several as a list.

    Raises:
        E2FashionError: it is neither.
    """
    listed = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, str | bytes) else [texts]
    if wrong := [text for text in listed if not isinstance(text, str)]:
        raise E2FashionError(f"{repr(wrong[0])[:80]} is not a text: give a str, or a list of them.")
    return listed


def leading_sentences(text: str) -> list[str]:
    """The first sentence of a text, the first two, ... and the text itself.

    A sentence ends at ``.``, ``!``, ``?`` or an ellipsis before white space, at their wide forms, and at a line's end.
    Abbreviations are not known: ``approx. 5 cm`` is two.
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if text[match.end() :].strip()]
    begun = dict.fromkeys(prefix for end in ends if (prefix := text[:end].rstrip()))
    return [*begun, text]


@dataclass
class TextLength:
    """How the length of texts is counted."""

    tokenizer: str | None = None
    """Run folder, model folder or hub name whose tokenizer counts; null: words and punctuation marks, of which no CLIP
    tokenizer makes fewer tokens."""
    template: str = "{description}"
    """Template of the text, as ``text.template`` of a run."""
    context_length: int | None = None
    """Longer texts are counted; null: the tokenizer's limit, else 77. Source: CLIP."""


class TextMeter:
    """Measures rendered texts against a context length.

    Without a ``counter`` every word and every punctuation mark counts as one token: no CLIP tokenizer makes fewer, so
    that the number of texts that are too long is a lower bound.

    Raises:
        E2FashionError: a context length below 1, a template with a field that is not a tag column, or a configuration
            that names a tokenizer without its counter.
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


#: The range of characters of the description in a text; None: the whole text is one.
Span = tuple[int, int] | None


@dataclass(frozen=True)
class FittedText:
    """``ids`` with start and end token, of a text of ``tokens``; ``dropped`` sentences left out; ``cut`` within one."""

    ids: list[int]
    tokens: int
    dropped: int = 0
    cut: bool = False


@dataclass(frozen=True)
class TextCounts:
    """Of ``distinct`` texts: how many are ``long``er than the context length, and what became of those.

    ``truncated`` lost tokens within a sentence; ``shortened`` lost whole sentences; a text may be both. ``stretched``
    are those longer than a checkpoint could read before its positions were stretched. ``longest`` is in tokens.
    """

    context_length: int
    overflow: TextOverflow = "truncate"
    distinct: int = 0
    long: int = 0
    truncated: int = 0
    shortened: int = 0
    stretched: int = 0
    longest: int = 0
    stretched_from: int | None = field(default=None, repr=False)

    def record(self) -> dict[str, Any]:
        """As plain values; what a model's positions were before is left out where they are as they were."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def sentence(self) -> str:
        """For a log or a report."""
        sentence = (
            f"{self.long:,} of {self.distinct:,} distinct texts exceed {self.context_length} tokens (the longest has "
            f"{self.longest:,}): {self.truncated:,} cut within a sentence, {self.shortened:,} without their last "
            f"sentences (text.overflow={self.overflow})"
        )
        if self.stretched_from is None:
            return sentence
        return f"{sentence}; {self.stretched:,} exceed the {self.stretched_from} tokens before positions were stretched"


class TextFitter:
    """Texts to token ids, at most ``context_length`` of them, start and end token included.

    What is too long loses its last tokens before the end token (``truncate``; ``stretch``, whose positions are merely
    more), or whole sentences from the end of its description (``first_sentences``), so that the text before and
    after the description stays. Where its first sentence alone is too long that one is cut, and where even the rest
    leaves no room for it the text as a whole.

    Raises:
        E2FashionError: a context length without room for a token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, context_length: int, overflow: TextOverflow = "truncate"
    ) -> None:
        if context_length < 3:
            raise E2FashionError(f"text.context_length is {context_length}; give at least 3 (start, one token, end).")
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.overflow = overflow

    def __call__(self, texts: Sequence[str], spans: Sequence[Span] | None = None) -> list[FittedText]:
        """Every text, fitted; ``spans`` are the ranges of their descriptions."""
        if not texts:
            return []
        items = zip(texts, spans or [None] * len(texts), self._encode(texts), strict=True)
        return [self._fit(*item) for item in items]

    def count(
        self, texts: Sequence[str], spans: Sequence[Span] | None = None, stretched_from: int | None = None
    ) -> TextCounts:
        """What becomes of ``texts``; ``stretched_from`` is the length that a checkpoint could read before."""
        fitted = self(texts, spans)
        return TextCounts(
            context_length=self.context_length,
            overflow=self.overflow,
            distinct=len(fitted),
            long=sum(text.tokens > self.context_length for text in fitted),
            truncated=sum(text.cut for text in fitted),
            shortened=sum(text.dropped > 0 for text in fitted),
            stretched=0 if stretched_from is None else sum(text.tokens > stretched_from for text in fitted),
            longest=max((text.tokens for text in fitted), default=0),
            stretched_from=stretched_from,
        )

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded: Any = self.tokenizer(list(texts), add_special_tokens=True, truncation=False, verbose=False)
        return encoded["input_ids"]

    def _fit(self, text: str, span: Span, ids: list[int]) -> FittedText:
        if len(ids) <= self.context_length:
            return FittedText(ids, len(ids))
        if self.overflow == "first_sentences":
            return self._first_sentences(text, span or (0, len(text)), ids)
        return self._truncated(ids)

    def _truncated(self, ids: list[int]) -> FittedText:
        return FittedText([*ids[: self.context_length - 1], ids[-1]], len(ids), cut=True)

    def _first_sentences(self, text: str, span: tuple[int, int], whole: list[int]) -> FittedText:
        start, end = span
        before, description, behind = text[:start], text[start:end], text[end:]
        prefixes = leading_sentences(description)

        def shortened(sentences: int) -> list[int]:
            return self._encode([before + prefixes[sentences - 1] + behind])[0]

        kept = bisect_right(
            range(1, len(prefixes)), self.context_length, key=lambda sentences: len(shortened(sentences))
        )
        if kept:
            return FittedText(shortened(kept), len(whole), dropped=len(prefixes) - kept)
        # The first sentence alone is too long: its last tokens go, the text after the description stays.
        head, tail, empty = self._encode([before + prefixes[0], behind, ""])
        start = len(empty) - 1  # of the start token, which texts of a SigLIP lack
        room = self.context_length - (len(tail) - start)
        if room <= len(self._encode([before])[0]) - 1:
            return self._truncated(whole)
        return FittedText([*head[:-1][:room], *tail[start:]], len(whole), dropped=len(prefixes) - 1, cut=True)
