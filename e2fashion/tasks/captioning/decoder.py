"""From one embedding to a text: a prefix in front of a GPT-2, as DeCap and CapDec have it, and how it generates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from e2fashion.tasks.captioning.config import CaptionMapperConfig, CaptionModelConfig, CaptionTrainConfig
from e2fashion.tasks.captioning.tokens import CaptionBatch, CaptionTokens
from e2fashion.types import E2FashionError


class LinearPrefix(nn.Module):
    """The embedding as one token of the language model: Linear(C -> width) (DeCap)."""

    length = 1

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dimension, width)

    def forward(self, embeds: Tensor) -> Tensor:
        """(B, C) -> (B, 1, D)."""
        return rearrange(self.projection(embeds), "b d -> b 1 d")


class TransformerPrefix(nn.Module):
    """The embedding as ``length`` tokens: Linear(C -> length * width), learned constants after it, a transformer.

    The outputs for the constants are the prefix. Layers are pre-LN with GELU and a feed-forward part of twice the
    width; dropout is 0 (CapDec's mapper).
    """

    def __init__(self, dimension: int, width: int, length: int, layers: int, heads: int) -> None:
        super().__init__()
        self.length = length
        self.projection = nn.Linear(dimension, length * width)
        self.constants = nn.Parameter(torch.randn(length, width) * width**-0.5)
        layer = nn.TransformerEncoderLayer(
            width, heads, dim_feedforward=2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, embeds: Tensor) -> Tensor:
        """(B, C) -> (B, length, D)."""
        tokens = rearrange(self.projection(embeds), "b (p d) -> b p d", p=self.length)
        constants = repeat(self.constants, "p d -> b p d", b=len(embeds), p=self.length)
        return self.transformer(torch.cat([tokens, constants], dim=1))[:, self.length :]


def build_prefix(
    dimension: int, width: int, mapper: CaptionMapperConfig | None = None
) -> LinearPrefix | TransformerPrefix:
    """The prefix for embeddings of width ``dimension``, with random weights; without ``mapper`` the linear one."""
    if mapper is None:
        return LinearPrefix(dimension, width)
    return TransformerPrefix(dimension, width, mapper.length, mapper.layers, mapper.heads)


def build_language_model(
    config: CaptionModelConfig, vocabulary: int, positions: int, start: int, end: int
) -> GPT2LMHeadModel:
    """A GPT-2 with random weights and tied embeddings."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=positions,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            activation_function="gelu_new",  # the tanh approximation
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            bos_token_id=start,
            eos_token_id=end,
        )
    )


def add_noise(embeds: Tensor, variance: float, generator: torch.Generator | None = None) -> Tensor:
    """``embeds`` (N, C), L2-normalized, with Gaussian noise of ``variance`` per dimension, normalized again (CapDec).

    The noise grows with C: the expected cosine to the clean vector is about 1 / sqrt(1 + C * variance). 0.0 returns
    the embeddings as they are.
    """
    if not variance:
        return embeds
    noise = torch.randn(embeds.shape, generator=generator, device=embeds.device, dtype=embeds.dtype)
    return F.normalize(embeds + variance**0.5 * noise, dim=-1)


class CaptionDecoder(nn.Module):
    """A language model that continues an embedding, and a prompt after it.

    The order is prefix, prompt, start token, caption, end token. ``noise_variance`` and ``label_smoothing`` apply in
    training mode alone.
    """

    def __init__(
        self,
        prefix: LinearPrefix | TransformerPrefix,
        language_model: GPT2LMHeadModel,
        noise_variance: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.prefix = prefix
        self.language_model = language_model
        self.noise_variance = noise_variance
        self.label_smoothing = label_smoothing

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.language_model.device

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, L) as the language model reads them: (B, L, D)."""
        embedded: Tensor = self.language_model.transformer.wte(ids)
        return embedded

    def forward(self, batch: CaptionBatch) -> Tensor:
        """The mean cross-entropy of the batch's target tokens, smoothed while training: ().

        In training mode noise is drawn from PyTorch's global generator.
        """
        embeds = add_noise(batch.embeds, self.noise_variance if self.training else 0.0)
        prefix = self.prefix(embeds)
        inputs = torch.cat([prefix, self.embed_tokens(batch.input_ids)], dim=1)
        mask = F.pad(batch.attention_mask, (prefix.shape[1], 0), value=True)
        hidden = self.language_model.transformer(inputs_embeds=inputs, attention_mask=mask.long()).last_hidden_state
        # The state before a token predicts it; only those of targets go through the vocabulary.
        states = hidden[:, prefix.shape[1] - 1 : -1][batch.targets]
        logits = self.language_model.lm_head(states).float()
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits, batch.input_ids[batch.targets], label_smoothing=smoothing)

    def begin(self, embeds: Tensor, prompts: Sequence[list[int]], start: int) -> tuple[Tensor, Tensor]:
        """The inputs (B, L, D) of generation from ``embeds`` (B, C), and their mask (B, L) bool.

        Rows with shorter prompts are padded in front of the prefix, so that every row ends with its start token.
        """
        prefix = self.prefix(embeds.to(self.device))
        longest = max((len(prompt) for prompt in prompts), default=0)
        rows = []
        for tokens, prompt in zip(prefix, prompts, strict=True):
            embedded = self.embed_tokens(torch.tensor([*prompt, start], device=self.device))
            rows.append(F.pad(torch.cat([tokens, embedded]), (0, 0, longest - len(prompt), 0)))
        padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=self.device)
        inputs = torch.stack(rows)
        return inputs, torch.arange(inputs.shape[1], device=self.device) >= padding[:, None]


def build_decoder(
    config: CaptionTrainConfig, tokens: CaptionTokens, dimension: int, language_model: GPT2LMHeadModel | None = None
) -> CaptionDecoder:
    """A decoder for embeddings of width ``dimension``, in training mode; ``language_model`` is the pretrained one.

    Random weights come from PyTorch's global generator.

    Raises:
        E2FashionError: heads that do not divide a width, or a language model that is too short.
    """
    model, mapper = config.model, None if config.method == "decap" else config.mapper
    width = model.width if language_model is None else language_model.config.n_embd
    if model.width % model.heads:
        raise E2FashionError(f"model.width is {model.width}, which model.heads={model.heads} does not divide.")
    if mapper is not None and width % mapper.heads:
        raise E2FashionError(
            f"mapper.heads is {mapper.heads}, which does not divide the language model's width {width}."
        )
    prompt_length = tokens.prompt_length if config.prompt_entities else 0
    positions = (1 if mapper is None else mapper.length) + prompt_length + tokens.length + 1
    if language_model is None:
        language_model = build_language_model(model, len(tokens.tokenizer), positions, tokens.start, tokens.end)
    elif language_model.config.n_positions < positions:
        raise E2FashionError(
            f"The language model reads {language_model.config.n_positions} tokens; prefix, prompt and caption need "
            f"{positions}. Lower length={tokens.length}, prompt_length or mapper.length."
        )
    prefix = build_prefix(dimension, width, mapper)
    # A pretrained language model arrives in evaluation mode.
    return CaptionDecoder(prefix, language_model, config.noise_variance, config.train.label_smoothing).train()


class _Steps:
    """One pass of the language model per token, over a cache of keys and values."""

    def __init__(self, decoder: CaptionDecoder, mask: Tensor) -> None:
        self.model = decoder.language_model
        self.cache = DynamicCache(config=self.model.config)
        self.mask = mask
        self.padded = not bool(mask.all())  # without padding the model needs neither mask nor positions

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Log probabilities (rows, V) of the token after these ``input_ids`` or ``inputs_embeds`` (rows, L)."""
        length = next(iter(inputs.values())).shape[1]
        if self.padded:
            positions = (self.mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
            inputs |= {"attention_mask": self.mask.long(), "position_ids": positions}
        output = self.model(**inputs, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        return output.logits[:, -1].float().log_softmax(-1)

    def repeat(self, times: int) -> None:
        """Every row ``times`` times."""
        if times > 1:
            self.cache.batch_repeat_interleave(times)
            self.mask = self.mask.repeat_interleave(times, dim=0)

    def choose(self, rows: Tensor) -> None:
        """Continue with these rows (B * K,); all beams of an item have its mask."""
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]


@torch.inference_mode()
def generate(
    decoder: CaptionDecoder,
    embeds: Tensor,
    prompts: Sequence[list[int]],
    start: int,
    ends: Sequence[int],
    length: int,
    beams: int = 1,
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """The tokens of the best caption for each of ``embeds`` (B, C), without start and end token.

    Greedy (``beams`` 1) or beam search in batches, over cached keys and values. ``generate`` of Transformers gives the
    same greedy captions at the same speed, but another beam search: it sets captions that have ended aside, where
    CapDec lets them compete for the beams (of 192 captions of random decoders 184 were equal at 5 beams).

    Args:
        decoder: computes on its device.
        embeds: (B, C), L2-normalized.
        prompts: token ids before each caption.
        start: the token before a caption.
        ends: the end token, then others that end a caption and belong to it.
        length: the most tokens of a caption, its end among them.
        beams: beams of the search.
        length_penalty: beams are compared by the sum of their tokens' log probabilities divided by their number to this
            power (1.0: the mean, as in CapDec). A caption that has ended keeps its score and competes with the others.
    """
    items = len(embeds)
    if not items:
        return []
    inputs, mask = decoder.begin(embeds, prompts, start)
    device = inputs.device
    end_ids = torch.tensor(list(ends), device=device)
    steps = _Steps(decoder, mask)
    log_probabilities = steps(inputs_embeds=inputs)
    vocabulary = log_probabilities.shape[-1]
    steps.repeat(beams)
    log_probabilities = log_probabilities.repeat_interleave(beams, dim=0)
    # At first all beams are equal: only one of them may continue.
    scores = torch.full((items, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0
    lengths = torch.zeros(items, beams, device=device)
    ended = torch.zeros(items, beams, dtype=torch.bool, device=device)
    tokens = torch.empty(items, beams, 0, dtype=torch.int64, device=device)
    first_row = torch.arange(items, device=device)[:, None] * beams
    finished = torch.full((vocabulary,), -torch.inf, device=device)
    finished[end_ids[0]] = 0.0
    for step in range(length):
        if step:
            log_probabilities = steps(input_ids=rearrange(tokens[:, :, -1], "b k -> (b k) 1"))
        following = rearrange(log_probabilities, "(b k) v -> b k v", b=items, k=beams)
        following = torch.where(ended[..., None], finished, following)
        sums = scores[..., None] + following
        longer = lengths + ~ended
        means = rearrange(sums / longer[..., None] ** length_penalty, "b k v -> b (k v)", k=beams)
        chosen = means.topk(beams, dim=1).indices
        parent, token = chosen // vocabulary, chosen % vocabulary
        scores = rearrange(sums, "b k v -> b (k v)").gather(1, chosen)
        lengths, ended = longer.gather(1, parent), ended.gather(1, parent)
        kept = tokens.gather(1, parent[..., None].expand(-1, -1, tokens.shape[2]))
        tokens = torch.cat([kept, token[..., None]], dim=2)
        ended = ended | torch.isin(token, end_ids)
        if bool(ended.all()):
            break
        if beams > 1:
            steps.choose((first_row + parent).flatten())
    best = (scores / lengths**length_penalty).argmax(1)
    rows = tokens[torch.arange(items, device=device), best].tolist()
    return [row[: row.index(ends[0])] if ends[0] in row else row for row in rows]
