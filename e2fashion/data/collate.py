"""Items to a batch: texts tokenised and padded to the longest, every distinct tag once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from e2fashion.data.dataset import Item
from e2fashion.data.text import ABSENT_ID, stable_id
from e2fashion.types import Batch, E2FashionError


class Collator:
    """Joins items into a :class:`~e2fashion.types.Batch`.

    Texts are cut at ``context_length`` tokens with the end token kept, and padded only to the longest of the batch:
    with causal attention and end-token pooling that changes no embedding. The distinct tags of a batch are tokenised
    raw, without a prompt (official code), and encoded once each, in the order in which they first appear.

    Args:
        tokenizer: one that puts its end token last.
        context_length: the most tokens that the text encoder takes, start and end token included.
        entities: their number E.

    Attributes:
        truncated: number of distinct texts and tags seen in this process that had to be cut.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context_length: int, entities: int) -> None:
        if context_length < 3:
            raise E2FashionError(f"text.context_length is {context_length}; give at least 3 (start, one token, end).")
        if tokenizer.pad_token_id is None:
            raise E2FashionError("The tokenizer has no pad token. Set tokenizer.pad_token (CLIP: the end token).")
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.entities = entities
        self.truncated = 0
        # int32 arrays: a quarter of a list of integers, and each text is tokenised once in a run.
        self._token_ids: dict[str, np.ndarray] = {}

    def __call__(self, items: Sequence[Item]) -> Batch:
        """B items to one batch; shapes as in :class:`~e2fashion.types.Batch`.

        Without any tag U is 0: ``tag_input_ids`` is (0, 1) and ``tag_index`` all zero.
        """
        texts = [item.text for item in items]
        input_ids, attention_mask = self.tokenise(texts)
        places: dict[str, int] = {}
        tag_index = torch.zeros(len(items), self.entities, dtype=torch.long)
        tag_present = torch.zeros(len(items), self.entities, dtype=torch.bool)
        tag_value = torch.full((len(items), self.entities), ABSENT_ID, dtype=torch.long)
        for sample, item in enumerate(items):
            for entity, tag in enumerate(item.tags):
                if tag is not None:
                    tag_index[sample, entity] = places.setdefault(tag, len(places))
                    tag_present[sample, entity] = True
                    tag_value[sample, entity] = stable_id(tag)
        tag_input_ids, tag_attention_mask = self.tokenise(list(places))
        return Batch(
            pixel_values=torch.stack([item.image for item in items]),
            input_ids=input_ids,
            attention_mask=attention_mask,
            tag_input_ids=tag_input_ids,
            tag_attention_mask=tag_attention_mask,
            tag_index=tag_index,
            tag_present=tag_present,
            tag_value=tag_value,
            text_group=torch.tensor([stable_id(text) for text in texts], dtype=torch.long),
            product_ids=[item.product_id for item in items],
        )

    def tokenise(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, both int64 (len(texts), L) with L the longest; (0, 1) for no text."""
        self._learn(texts)
        rows = [self._token_ids[text] for text in texts]
        length = max((len(row) for row in rows), default=1)
        ids = np.full((len(rows), length), self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(rows), length), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """How many of ``texts`` have more tokens than ``context_length``."""
        encoded = self.tokenizer(list(texts), add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
        return sum(len(ids) > self.context_length for ids in encoded)

    def _learn(self, texts: Sequence[str]) -> None:
        """Tokenise what has not been tokenised before."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._token_ids]
        if not unknown:
            return
        encoded = self.tokenizer(unknown, add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
        for text, ids in zip(unknown, encoded, strict=True):
            if len(ids) > self.context_length:
                self.truncated += 1
                ids = [*ids[: self.context_length - 1], ids[-1]]
            self._token_ids[text] = np.asarray(ids, dtype=np.int32)
