"""The decoder's loss and prefix, and cached greedy and beam search against slow, uncached ones."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from e2fashion.encoder import EncoderIdentity
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.tasks.captioning.captioner import shift
from e2fashion.tasks.captioning.config import CaptionMapperConfig, CaptionModelConfig
from e2fashion.tasks.captioning.decoder import CaptionDecoder, add_noise, build_language_model, build_prefix, generate
from e2fashion.tasks.captioning.storage import (
    DecoderFacts,
    PrefixFacts,
    StoredDecoder,
    load_decoder,
    load_language_model,
    save_decoder,
)
from e2fashion.tasks.captioning.tokens import CaptionTokens, Spelling
from e2fashion.types import E2FashionError

TEXTS = ["red shirt with long sleeves", "blue shoe", "red bag. blue belt."] * 2
TINY = CaptionModelConfig(layers=2, heads=2, width=16, dropout=0.1)
C = 6


@pytest.fixture(scope="module")
def tokens() -> CaptionTokens:
    return CaptionTokens(train_tokenizer(TEXTS, "word", vocabulary=600), length=12)


def random_decoder(tokens: CaptionTokens, mapper: CaptionMapperConfig | None = None, seed: int = 0) -> CaptionDecoder:
    """Random weights of some size, so that its next token depends on the ones before."""
    torch.manual_seed(seed)
    prefix = build_prefix(C, TINY.width, mapper)
    positions = prefix.length + tokens.prompt_length + tokens.length + 1
    model = build_language_model(TINY, len(tokens.tokenizer), positions, tokens.start, tokens.end)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return CaptionDecoder(prefix, model).eval()


def unit(rows: int, seed: int = 1) -> Tensor:
    return F.normalize(torch.randn(rows, C, generator=torch.Generator().manual_seed(seed)), dim=-1)


@torch.inference_mode()
def slow_log_probabilities(
    decoder: CaptionDecoder, embed: Tensor, prompt: list[int], start: int, caption: list[int]
) -> Tensor:
    """Log probabilities (V,) of the next token of one caption, without a cache."""
    ids = torch.tensor([[*prompt, start, *caption]])
    inputs = torch.cat([decoder.prefix(embed[None]), decoder.embed_tokens(ids)], dim=1)
    return decoder.language_model(inputs_embeds=inputs, use_cache=False).logits[0, -1].log_softmax(-1)


def slow_beams(
    decoder: CaptionDecoder, tokens: CaptionTokens, embed: Tensor, prompt: list[int], length: int, beams: int
) -> list[int]:
    """Beam search over lists, without batch and cache."""
    best: list[tuple[float, list[int], bool]] = [(0.0, [], False)]
    for _ in range(length):
        grown = []
        for score, caption, ended in best:
            if ended:
                grown.append((score, caption, True))
                continue
            following = slow_log_probabilities(decoder, embed, prompt, tokens.start, caption)
            for token, value in enumerate(following.tolist()):
                grown.append((score + value, [*caption, token], token in tokens.ends))
        grown.sort(key=lambda beam: -beam[0] / len(beam[1]))
        best = grown[:beams]
    caption = max(best, key=lambda beam: beam[0] / len(beam[1]))[1]
    return caption[: caption.index(tokens.end)] if tokens.end in caption else caption


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompted", [False, True])
def test_cached_decoding_in_a_batch_is_uncached_decoding_one_by_one(
    tokens: CaptionTokens, beams: int, prompted: bool
) -> None:
    embeds = unit(4)
    prompts = tokens.prompts(["red", "", "blue shoe", "red"] if prompted else [""] * 4)
    seen = set()
    for seed in range(2):
        decoder = random_decoder(tokens, seed=seed)
        expected = [
            slow_beams(decoder, tokens, embed, prompt, 6, beams) for embed, prompt in zip(embeds, prompts, strict=True)
        ]
        assert generate(decoder, embeds, prompts, tokens.start, tokens.ends, 6, beams) == expected
        seen |= {tuple(row) for row in expected}
    assert len(seen) > 1


@torch.inference_mode()
def by_transformers(
    decoder: CaptionDecoder, tokens: CaptionTokens, embeds: Tensor, prompts: list[list[int]], length: int
) -> list[list[int]]:
    """Greedy captions by the ``generate`` of transformers, cut at their end token."""
    inputs, mask = decoder.begin(embeds, prompts, tokens.start)
    rows = decoder.language_model.generate(  # type: ignore[misc]
        inputs_embeds=inputs,
        attention_mask=mask.long(),
        max_new_tokens=length,
        do_sample=False,
        eos_token_id=tokens.ends,
        pad_token_id=tokens.end,
    ).tolist()
    return [row[: row.index(tokens.end)] if tokens.end in row else row for row in rows]


@pytest.mark.parametrize("stop", [None, "."])
@pytest.mark.parametrize("length", [1, 6, 11])
def test_greedy_decoding_is_that_of_transformers(tokens: CaptionTokens, stop: str | None, length: int) -> None:
    stopped, embeds = CaptionTokens(tokens.tokenizer, tokens.length, stop=stop), unit(8)
    lengths = set()
    for seed in range(3):
        decoder = random_decoder(tokens, seed=seed)
        for texts in ([""] * 8, ["red", "", "blue shoe", "red"] * 2):
            prompts = stopped.prompts(texts)
            expected = by_transformers(decoder, stopped, embeds, prompts, length)
            assert generate(decoder, embeds, prompts, stopped.start, stopped.ends, length) == expected
            lengths |= {len(row) for row in expected}
    assert length == 1 or len(lengths) > 1


def test_a_stop_mark_ends_a_caption(tokens: CaptionTokens) -> None:
    stopped = CaptionTokens(tokens.tokenizer, tokens.length, stop=".")
    mark = stopped.ends[1]
    decoder = random_decoder(tokens)
    decoder.language_model.lm_head.weight.data[mark] = 0.0
    with torch.no_grad():
        # The mark is always the most probable token.
        decoder.language_model.transformer.ln_f.bias.fill_(1.0)
        decoder.language_model.lm_head.weight[mark] = 100.0
    ids = generate(decoder, unit(2), [[], []], stopped.start, stopped.ends, length=5)
    assert ids == [[mark], [mark]]
    with pytest.raises(E2FashionError, match="stop is 'red shirt', which is not one token"):
        CaptionTokens(tokens.tokenizer, 12, stop="red shirt")


def test_no_images_have_no_captions(tokens: CaptionTokens) -> None:
    assert generate(random_decoder(tokens), torch.empty(0, C), [], tokens.start, tokens.ends, 5) == []


MAPPER = CaptionMapperConfig(length=3, layers=1, heads=2)


@pytest.mark.parametrize("mapper", [None, MAPPER])
def test_the_loss_counts_captions_and_ends_alone(tokens: CaptionTokens, mapper: CaptionMapperConfig | None) -> None:
    decoder, embeds = random_decoder(tokens, mapper), unit(3)
    captions, prompts = tokens.captions(TEXTS[:3]), tokens.prompts(["red", "", "blue blue"])
    losses = []
    for embed, caption, prompt in zip(embeds, captions, prompts, strict=True):
        for place in range(1, len(caption)):
            following = slow_log_probabilities(decoder, embed, prompt, tokens.start, caption[1:place])
            losses.append(-following[caption[place]])
    batch = tokens.batch(embeds, captions, prompts)
    assert torch.allclose(decoder(batch), torch.stack(losses).mean(), rtol=1e-4)
    # Padding plays no part, whatever id it has.
    batch.input_ids[~batch.attention_mask] = 0
    assert torch.allclose(decoder(batch), torch.stack(losses).mean(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_captions_are_cut_with_their_end_kept_and_read_back(kind: Literal["word", "bpe"]) -> None:
    tokens = CaptionTokens(train_tokenizer(TEXTS, kind, vocabulary=600), length=16)
    short = CaptionTokens(tokens.tokenizer, length=3)
    ids = short.captions(TEXTS[:2])
    assert [row[0] for row in ids] == [short.start] * 2
    assert [row[-1] for row in ids] == [short.end] * 2
    assert max(map(len, ids)) == 4
    assert short.count_cut(TEXTS[:1]) == 1
    assert tokens.texts([row[1:] for row in tokens.captions(TEXTS[:2])]) == TEXTS[:2]
    with pytest.raises(E2FashionError, match="length is 1"):
        CaptionTokens(tokens.tokenizer, length=1)


def test_spaces_around_marks_are_those_of_training() -> None:
    spelling = Spelling.of(["Men's T-Shirt, blue", "A T-shirt - red", "Nike T-shirt"])
    assert spelling.restore("boy ' s t - shirt , green - blue") == "boy's t-shirt, green-blue"
    assert spelling.restore("50 % wool") == "50 % wool"
    assert Spelling({}).restore("t - shirt") == "t - shirt"


def test_noise_has_the_variance_it_says_and_none_changes_nothing() -> None:
    embeds = F.normalize(torch.ones(4000, 512), dim=-1)
    noisy = add_noise(embeds, 0.016, torch.Generator().manual_seed(0))
    assert float((noisy * embeds).sum(1).mean()) == pytest.approx((1 + 512 * 0.016) ** -0.5, abs=0.01)
    assert torch.allclose(noisy.norm(dim=1), torch.ones(4000))
    assert add_noise(embeds, 0.0) is embeds


def test_shifted_embeddings_are_normalized() -> None:
    images, texts = unit(50, 2), unit(40, 3)
    shifted = shift(images, texts.mean(0))
    assert torch.allclose(shifted, F.normalize(images + texts.mean(0), dim=1))


def test_noise_is_drawn_in_training_alone(tokens: CaptionTokens) -> None:
    decoder = random_decoder(tokens)
    batch = tokens.batch(unit(3), tokens.captions(TEXTS[:3]), [[]] * 3)
    clean = decoder(batch)
    decoder.noise_variance = 10.0
    assert torch.equal(decoder(batch), clean)
    decoder.train()
    assert not torch.equal(decoder(batch), clean)


def facts(tokens: CaptionTokens, **prefix: Any) -> DecoderFacts:
    return DecoderFacts(
        method="capdec",
        encoder=EncoderIdentity("tiny", "a" * 64, C),
        prefix=PrefixFacts(**prefix),
        language_model="scratch",
        length=tokens.length,
        caption="{description}",
        text="{description}",
        memory="0" * 16,
        prompt_tags={"brand": ["Nike"]},
    )


def test_a_decoder_comes_back_from_its_folder(tokens: CaptionTokens, tmp_path: Path) -> None:
    kept = facts(tokens, kind="transformer", **vars(MAPPER))
    stored = StoredDecoder(random_decoder(tokens, MAPPER), tokens, kept, torch.ones(C))
    save_decoder(stored, tmp_path)
    again = load_decoder(tmp_path)
    assert again.facts == stored.facts
    assert again.facts.title == "CapDec (scratch LM)"
    assert again.offset is not None
    one, other = (
        generate(item.decoder, unit(3), [[]] * 3, item.tokens.start, item.tokens.ends, 5) for item in (stored, again)
    )
    assert one == other
    assert again.decoder.language_model.lm_head.weight is again.decoder.language_model.transformer.wte.weight


def test_folders_that_hold_no_decoder_are_named(tokens: CaptionTokens, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="holds no caption decoder"):
        load_decoder(tmp_path)
    save_decoder(StoredDecoder(random_decoder(tokens), tokens, facts(tokens)), tmp_path)
    (tmp_path / "prefix.safetensors").write_bytes(b"")
    with pytest.raises(E2FashionError, match=r"prefix\.safetensors is damaged: it has 0 bytes"):
        load_decoder(tmp_path)
    (tmp_path / "checksums.json").unlink()  # an earlier version's folder
    with pytest.raises(E2FashionError, match=r"caption decoder .* cannot be loaded"):
        load_decoder(tmp_path)
    (tmp_path / "caption.json").write_text('{"format": 1}')
    with pytest.raises(E2FashionError, match="is damaged"):
        load_decoder(tmp_path)


def test_a_missing_or_wrong_language_model_is_refused_with_the_alternative(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"neither a model folder nor.*lm=scratch .*'CapDec \(scratch LM\)'"):
        load_language_model(str(tmp_path / "gpt2"))
    (tmp_path / "config.json").write_text(f'{{"model_type": "{CLIPModel.config_class.model_type}"}}')
    with pytest.raises(E2FashionError, match=r"type 'clip', not a GPT-2.*lm=scratch"):
        load_language_model(str(tmp_path))
