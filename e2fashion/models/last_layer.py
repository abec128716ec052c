"""A transformer layer computed only for the tokens that are read, and CLIP's text encoder with it, without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPTextModel, eager_attention_forward

PLAIN_ATTENTION = ("eager", "sdpa")
"""Attention implementations that take queries and keys of different lengths with an additive mask."""


EndToken = int | list[int] | None
"""Type of the end token's id in CLIP's configuration; CLIP and E2 use a single one."""


def layer_for_read_tokens(
    layer: Any,
    states: Tensor,
    read: Callable[[Tensor], Tensor],
    visible: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """``read(layer(states))`` without computing the tokens that ``read`` drops.

    ``layer`` is a ``CLIPEncoderLayer``; ``states`` (B, T, D); ``read`` selects R tokens, (B, T, D) to (B, R, D);
    ``visible`` (B, T) bool are the tokens that they may attend to (None: all), ``bias`` (1, H, R, T) is added to their
    attention scores. Keys and values are computed for all tokens; queries, output projection and MLP for the R tokens.
    """
    attention = layer.self_attn
    heads = attention.num_heads
    normed = layer.layer_norm1(states)
    queries = rearrange(attention.q_proj(read(normed)), "b r (h d) -> b h r d", h=heads)
    keys = rearrange(attention.k_proj(normed), "b t (h d) -> b h t d", h=heads)
    values = rearrange(attention.v_proj(normed), "b t (h d) -> b h t d", h=heads)
    mask = bias
    if visible is not None:  # additive, since eager attention misinterprets bool masks, in the dtype of the queries
        hidden = torch.zeros(visible.shape, dtype=queries.dtype, device=queries.device)
        hidden = rearrange(hidden.masked_fill(~visible, torch.finfo(queries.dtype).min), "b t -> b 1 1 t")
        mask = hidden if bias is None else hidden + bias
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    mixed, _ = attend(
        attention,
        queries,
        keys,
        values,
        mask,
        scaling=attention.scale,
        dropout=attention.dropout if layer.training else 0.0,
        is_causal=False,
    )
    states = read(states) + attention.out_proj(rearrange(mixed, "b r h d -> b r (h d)", h=heads))
    return states + layer.mlp(layer.layer_norm2(states))


def end_positions(input_ids: Tensor, eos_token_id: EndToken) -> Tensor:
    """Pooled position of each text, (B, L) to (B,) int64: the first end token; for legacy end id 2 the largest id."""
    if eos_token_id == 2:
        return input_ids.argmax(dim=-1)
    return input_ids.eq(cast(int, eos_token_id)).int().argmax(dim=-1)


def real_tokens(input_ids: Tensor, attention_mask: Tensor | None, eos_token_id: EndToken) -> Tensor:
    """Which tokens are not padding, start and end token included: (B, L) -> (B, L) bool."""
    ends = end_positions(input_ids, eos_token_id)
    real = torch.arange(input_ids.shape[1], device=input_ids.device) <= ends[:, None]
    return real if attention_mask is None else real & (attention_mask != 0)


def trim_padding(
    input_ids: Tensor, attention_mask: Tensor | None, eos_token_id: EndToken
) -> tuple[Tensor, Tensor | None]:
    """Remove the columns after the batch's last end token, and a mask that hides nothing before it.

    The features are unchanged, since attention is causal and texts are pooled at the end token. ``input_ids`` and
    ``attention_mask`` (B, L) become (B, L') with the longest text's L'.
    """
    ends = end_positions(input_ids, eos_token_id)
    if attention_mask is None:
        return input_ids[:, : int(ends.max()) + 1], None
    before_end = torch.arange(input_ids.shape[1], device=input_ids.device) <= ends[:, None]
    hidden = (before_end & (attention_mask == 0)).any()
    last, any_hidden = torch.stack([ends.max(), hidden.long()]).tolist()  # one synchronization for both
    return input_ids[:, : last + 1], attention_mask[:, : last + 1] if any_hidden else None


LENGTHS = tuple(1.0 + quarters / 4 for quarters in range(21))
"""Bounds of a sequence that are compared, in lengths of the longest text."""
LINEAR_COST, ATTENTION_COST = 12, 4
"""Of a token: linear maps for each unit of the width, and attention for each token of the sequence."""


@dataclass(frozen=True)
class PackedTexts:
    """B texts of up to L tokens in S sequences of T places.

    With causal attention a token's state depends on the tokens before it alone, so that texts with an equal beginning
    share its states. ``ids`` and ``positions`` (S, T) int64; ``visible`` (S, T, T) bool: what a place attends to, the
    earlier tokens of its text and itself; ``places`` (B, L) int64: where each text's tokens are in the S * T places,
    behind its end that of its last token.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    places: Tensor


def pack_texts(input_ids: Tensor, ends: Tensor, width: int) -> PackedTexts:
    """Pack the texts ``input_ids`` (B, L) up to and with their positions ``ends`` (B,), for an encoder of ``width``.

    Texts are sorted, so that equal beginnings are neighbors, and put one after another into sequences of the length at
    which the encoder computes least: a long one attends to more places in vain, short ones remain unfilled.
    """
    texts, lengths = input_ids.numpy(), ends.numpy() + 1
    inside = np.arange(texts.shape[1]) < lengths[:, None]
    order = np.lexsort(np.where(inside, texts, -1).T[::-1])
    texts, inside = texts[order], inside[order]
    equal = (texts[1:] == texts[:-1]) & inside[1:] & inside[:-1]
    common = [0, *np.logical_and.accumulate(equal, axis=1).sum(1).tolist()]  # tokens at which a text and the last agree
    sizes: list[int] = lengths[order].tolist()
    longest = max(sizes)

    def cost(split: tuple[list[int], int]) -> int:
        starts, most = split
        return len(starts) * most * (LINEAR_COST * width + ATTENTION_COST * most)

    starts, most = min((_split(sizes, common, int(longest * length)) for length in LENGTHS), key=cost)
    bounds = list(pairwise([*starts, len(sizes)]))
    ids, positions = (np.zeros((len(bounds), most), dtype=np.int64) for _ in range(2))
    visible = np.zeros((len(bounds), most, most), dtype=bool)
    visible[:, np.arange(most), np.arange(most)] = True  # unfilled places too: attention to nothing is not a number
    places = np.zeros(texts.shape, dtype=np.int64)
    causal = np.tri(longest, dtype=bool)
    for number, (first, last) in enumerate(bounds):
        path = np.zeros(0, dtype=np.int64)
        filled = 0
        for text in range(first, last):
            known, length = common[text] if text > first else 0, sizes[text]
            new = np.arange(filled, filled + length - known)
            filled += length - known
            path = np.concatenate([path[:known], new])
            ids[number, new] = texts[text, known:length]
            positions[number, new] = np.arange(known, length)
            visible[number, new[:, None], path] = causal[known:length, :length]
            places[order[text], :length] = number * most + path
            places[order[text], length:] = number * most + path[-1]
    return PackedTexts(*map(torch.from_numpy, (ids, positions, visible, places)))


def _split(sizes: list[int], common: list[int], bound: int) -> tuple[list[int], int]:
    """Numbers of the texts that begin a sequence, none of which has more than ``bound`` places, and the most it has."""
    starts, filled, most = [0], sizes[0], sizes[0]
    for text in range(1, len(sizes)):
        filled += sizes[text] - common[text]
        if filled > bound:
            starts.append(text)
            filled = sizes[text]
        most = max(most, filled)
    return starts, most


def packs(model: CLIPTextModel, input_ids: Tensor) -> bool:
    """Whether texts are encoded without padding: in training on a CPU, where it was measured, and without dropout.

    With dropout equal beginnings would share its noise.
    """
    return model.training and input_ids.device.type == "cpu" and not model.config.attention_dropout


def _packed_states(model: CLIPTextModel, layers: Sequence[Any], input_ids: Tensor, ends: Tensor) -> Tensor:
    """States (B, L, D) of texts behind ``layers``, computed once for each distinct beginning of a text.

    Behind a text's end they are those of its end.
    """
    packed = pack_texts(input_ids, ends, model.config.hidden_size)
    embeddings = model.embeddings  # not called itself: it refuses sequences longer than a text may be
    states = embeddings.token_embedding(packed.ids) + embeddings.position_embedding(packed.positions)
    mask = packed.visible[:, None]
    if model.config._attn_implementation != "sdpa":  # eager attention adds its mask
        mask = torch.zeros(mask.shape, dtype=states.dtype).masked_fill(~mask, torch.finfo(states.dtype).min)
    for layer in layers:
        states = layer(states, mask, is_causal=False)
    return states.flatten(0, 1)[packed.places]


def encode_text_end(
    model: CLIPTextModel, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
) -> BaseModelOutputWithPooling:
    """CLIP's text encoder with the last layer computed only for the end token.

    ``input_ids`` and ``attention_mask`` (B, L). ``pooler_output`` (B, D) equals the complete encoder's;
    ``last_hidden_state`` is (B, 1, D), the end token alone. An empty batch gives empty outputs.
    """
    if not len(input_ids):
        empty = model.final_layer_norm.weight.new_zeros(0, 1, model.config.hidden_size)
        return BaseModelOutputWithPooling(last_hidden_state=empty, pooler_output=empty[:, 0])
    input_ids, attention_mask = trim_padding(input_ids, attention_mask, model.eos_token_id)
    length = input_ids.shape[1]
    ends = end_positions(input_ids, model.eos_token_id)
    *layers, last = model.encoder.layers
    if attention_mask is None and position_ids is None and packs(model, input_ids):
        states = _packed_states(model, layers, input_ids, ends)
    else:
        position_ids = None if position_ids is None else position_ids[:, :length]
        states = model.embeddings(input_ids=input_ids, position_ids=position_ids)
        causal_mask = create_causal_mask(
            config=model.config, inputs_embeds=states, attention_mask=attention_mask, past_key_values=None
        )
        for layer in layers:
            states = layer(states, causal_mask, is_causal=True)

    rows = torch.arange(len(input_ids), device=input_ids.device)
    visible = torch.arange(length, device=input_ids.device) <= ends[:, None]
    if attention_mask is not None:
        visible = visible & (attention_mask != 0)
    states = layer_for_read_tokens(last, states, lambda tokens: tokens[rows, ends, None], visible)
    states = model.final_layer_norm(states)
    return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=states[:, 0])
