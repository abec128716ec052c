"""A text encoder with more positions: exact for short texts, readable by everyone."""

from pathlib import Path

import pytest
import torch
from tiny import save_random_clip
from transformers import CLIPModel, CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from e2fashion.models import E2Model
from e2fashion.models.from_clip import KEPT, stretch_text_positions, stretched_positions
from e2fashion.types import E2FashionError


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(tmp_path_factory.mktemp("clip") / "clip", ["a red shirt", "blue jeans of cotton"])


def stretched(folder: Path, length: int = 248) -> E2Model:
    model = E2Model.from_clip(folder).eval()
    stretch_text_positions(model, length)
    return model


def tokens(length: int, rows: int = 3) -> torch.Tensor:
    return torch.randint(3, 200, (rows, length), generator=torch.Generator().manual_seed(0))


def test_77_to_248_is_the_rule_of_long_clip() -> None:
    """Quarters between neighbors behind the first 20; behind the last the line goes on."""
    old = torch.randn(77, 5, generator=torch.Generator().manual_seed(0))
    expected = [*old[:20]]
    for place in range(20, 76):
        expected += [old[place] + part / 4 * (old[place + 1] - old[place]) for part in range(4)]
    expected += [old[76] + part / 4 * (old[76] - old[75]) for part in range(4)]
    torch.testing.assert_close(stretched_positions(old, 248), torch.stack(expected))


@pytest.mark.parametrize(("before", "after"), [(77, 100), (77, 78), (48, 144), (12, 40), (4, 5)])
def test_any_lengths_keep_the_first_and_lie_on_the_lines_between(before: int, after: int) -> None:
    kept = min(KEPT, before // 2)
    line = torch.arange(before, dtype=torch.float32)[:, None] * torch.tensor([[1.0, -2.0]])
    result = stretched_positions(line, after)
    assert torch.equal(result[:kept], line[:kept])
    expected = kept + torch.arange(after - kept) * (before - kept) / (after - kept)
    torch.testing.assert_close(result[kept:, 0], expected)
    torch.testing.assert_close(result[kept:, 1], -2 * expected)


def test_short_texts_keep_their_features_to_the_bit_and_longer_ones_do_not(clip_folder: Path) -> None:
    clip, longer = E2Model.from_clip(clip_folder).eval(), stretched(clip_folder)
    with torch.no_grad():
        for length, same in ((KEPT, True), (KEPT + 2, False)):
            ids = tokens(length)
            ids[:, -1] = clip.config.text_config.eos_token_id
            one, other = (model.get_text_features(ids).pooler_output for model in (clip, longer))
            assert torch.equal(one, other) == same
        longest = tokens(248)
        longest[:, -1] = clip.config.text_config.eos_token_id
        assert longer.get_text_features(longest).pooler_output.shape == (3, 8)


def test_it_loads_as_a_clip_anywhere(clip_folder: Path, tmp_path: Path) -> None:
    model = stretched(clip_folder, 120)
    model.save_pretrained(tmp_path)
    again = E2Model.from_pretrained(tmp_path)
    assert again.config.text_config.max_position_embeddings == 120
    assert again.config.text_stretched_from == 77
    assert torch.equal(again.text_model.embeddings.position_ids, model.text_model.embeddings.position_ids)
    ids = tokens(120)
    config = CLIPTextConfig(**again.config.text_config.to_dict())
    plain = CLIPTextModel(config).eval()
    plain.load_state_dict(model.text_model.state_dict())
    with torch.no_grad():
        expected = model.text_model(ids).last_hidden_state
        torch.testing.assert_close(plain(ids).last_hidden_state, expected)
        torch.testing.assert_close(again.eval().text_model(ids).last_hidden_state, expected)


def test_a_plain_clip_stretches_too_and_twice(clip_folder: Path) -> None:
    model = CLIPModel.from_pretrained(clip_folder)
    stretch_text_positions(model, 100)
    stretch_text_positions(model, 200)
    assert model.text_model.embeddings.position_embedding.weight.shape == (200, 16)
    assert model.config.text_stretched_from == 77
    assert model.text_model.embeddings.position_embedding.weight.requires_grad


def test_what_cannot_be_stretched(clip_folder: Path) -> None:
    with pytest.raises(E2FashionError, match=r"context_length is 77 and the checkpoint reads 77 .*context_length=248"):
        stretched(clip_folder, 77)
    few = CLIPTextModel(CLIPTextConfig(hidden_size=8, num_attention_heads=1, max_position_embeddings=3))
    model = CLIPModel.from_pretrained(clip_folder)
    model.text_model = few
    with pytest.raises(E2FashionError, match="has 3 text positions, too few to stretch"):
        stretch_text_positions(model, 8)
