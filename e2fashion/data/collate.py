"""Items to a batch: texts tokenised and padded to the longest, every distinct tag once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from e2fashion.data.dataset import Item
from e2fashion.data.long_text import Place, TextFitter, pad_ids
from e2fashion.data.text import ABSENT_ID, stable_id
from e2fashion.types import Batch, E2FashionError, TextOverflow


class Collator:
    """Joins items into a :class:`~e2fashion.types.Batch`.

    Texts are brought to ``context_length`` tokens with the end token kept, and padded only to the longest of the batch:
    with causal attention and end-token pooling that changes no embedding. The distinct tags of a batch are tokenised
    raw, without a prompt (official code), and encoded once each, in the order in which they first appear.

    Args:
        tokenizer: one that puts its end token last.
        context_length: the most tokens that the text encoder takes, start and end token included.
        entities: their number E.
        overflow: what becomes of longer texts, see :class:`~e2fashion.data.long_text.TextFitter`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context_length: int,
        entities: int,
        overflow: TextOverflow = "truncate",
    ) -> None:
        fit = TextFitter(tokenizer, context_length, overflow)
        if tokenizer.pad_token_id is None:
            raise E2FashionError("The tokenizer has no pad token. Set tokenizer.pad_token (CLIP: the end token).")
        self.fit = fit
        self.entities = entities
        # int32 arrays: a quarter of a list of integers, and each text is tokenised once in a run.
        self._token_ids: dict[tuple[str, Place], np.ndarray] = {}

    def __call__(self, items: Sequence[Item]) -> Batch:
        """B items to one batch; shapes as in :class:`~e2fashion.types.Batch`.

        Without any tag U is 0: ``tag_input_ids`` is (0, 1) and ``tag_index`` all zero.
        """
        texts = [item.text for item in items]
        input_ids, attention_mask = self.tokenise(texts, [item.description for item in items])
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

    def tokenise(self, texts: Sequence[str], places: Sequence[Place] | None = None) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, both int64 (len(texts), L) with L the longest; (0, 1) for no text.

        ``places`` say where the texts' descriptions stand (None: each is one).
        """
        wanted = list(zip(texts, places or [None] * len(texts), strict=True))
        if unknown := [key for key in dict.fromkeys(wanted) if key not in self._token_ids]:
            fitted = self.fit([text for text, _ in unknown], [place for _, place in unknown])
            for key, text in zip(unknown, fitted, strict=True):
                self._token_ids[key] = np.asarray(text.ids, dtype=np.int32)
        return pad_ids([self._token_ids[key] for key in wanted], self.fit.tokenizer.pad_token_id)
