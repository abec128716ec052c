"""Weights come from their files and from nowhere else, whichever way a model is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_random_clip
from torch import Tensor
from transformers import AutoModel, CLIPTextConfig, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from e2fashion.encoder import load_encoder
from e2fashion.export.openai_clip import load as load_openai_style
from e2fashion.models import E2Model
from e2fashion.models.loading import only_our_errors, read_config
from e2fashion.tasks.captioning.storage import load_language_model as load_caption_language_model
from e2fashion.tasks.composed.modes import load_language_model
from e2fashion.terminal import prepare_terminal
from e2fashion.types import E2FashionError

TEXTS = [f"{colour} {kind} {number}" for colour in ("red", "blue") for kind in ("dress", "coat") for number in range(5)]
LAYER = "text_model.encoder.layers.0.mlp.fc1.weight"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(tmp_path_factory.mktemp("models") / "clip", TEXTS)


@pytest.fixture(scope="module")
def e2(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An E2 that was made of the CLIP, with its tokenizer and processor."""
    folder = tmp_path_factory.mktemp("models") / "e2"
    shutil.copytree(clip, folder)
    E2Model.from_clip(clip, entities={"brand": 2}, fusion_layers=[1]).save_pretrained(folder)
    return folder


def change_tensors(folder: Path, copy: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """A copy of a model folder with other tensors."""
    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def change_config(folder: Path, copy: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a model folder with another configuration."""
    shutil.copytree(folder, copy)
    content = json.loads((copy / "config.json").read_text())
    change(content)
    (copy / "config.json").write_text(json.dumps(content))
    return copy


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors[LAYER]


def rename(tensors: dict[str, Tensor]) -> None:
    tensors["text.other.weight"] = tensors.pop(LAYER)


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors[LAYER] = tensors[LAYER][:-1].clone()


def poison(tensors: dict[str, Tensor]) -> None:
    tensors[LAYER][0, 0] = float("nan")


def overflow(tensors: dict[str, Tensor]) -> None:
    tensors[LAYER][0, 0] = float("inf")


def make_integers(tensors: dict[str, Tensor]) -> None:
    tensors[LAYER] = tensors[LAYER].to(torch.int32)


def add(tensors: dict[str, Tensor]) -> None:
    tensors["text_model.encoder.layers.7.mlp.fc1.weight"] = torch.zeros(2)


DAMAGE = [
    (drop, rf"missing \(1\): {LAYER}"),
    (rename, rf"missing \(1\): {LAYER}; unknown \(1\): text\.other\.weight"),
    (reshape, rf"of another shape \(1\): {LAYER} \(31, 16\) instead of \(32, 16\)"),
    (poison, rf"not finite \(1\): {LAYER}"),
    (overflow, rf"not finite \(1\): {LAYER}"),
    (make_integers, rf"no floating point numbers \(1\): {LAYER}"),
    (add, r"unknown \(1\): text_model\.encoder\.layers\.7"),
]
LOADERS: dict[str, Callable[[Path], Any]] = {
    "load_encoder": lambda folder: load_encoder(str(folder)),
    "from_clip": lambda folder: E2Model.from_clip(folder, entities={"brand": 2}, fusion_layers=[1]),
    "openai_style": lambda folder: load_openai_style(str(folder)),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["clip", "e2"])
@pytest.mark.parametrize(("damage", "said"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_no_loader_fills_in_what_the_files_lack(
    damage: Callable[[dict[str, Tensor]], None],
    said: str,
    kind: str,
    loader: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    folder = change_tensors(request.getfixturevalue(kind), tmp_path / "damaged", damage)
    with pytest.raises(E2FashionError, match=rf"damaged.* has weights that are not those .*{said}"):
        LOADERS[loader](folder)


@pytest.mark.parametrize(("damage", "said"), DAMAGE[:5], ids=[damage.__name__ for damage, _ in DAMAGE[:5]])
@pytest.mark.parametrize("load", [E2Model.from_pretrained, AutoModel.from_pretrained], ids=["E2Model", "AutoModel"])
def test_from_pretrained_of_an_e2_is_as_strict(
    load: Callable[..., Any], damage: Callable[[dict[str, Tensor]], None], said: str, e2: Path, tmp_path: Path
) -> None:
    folder = change_tensors(e2, tmp_path / "damaged", damage)
    with pytest.raises(E2FashionError, match=said):
        load(folder)


def test_whoever_asks_for_the_report_judges_by_it(e2: Path, tmp_path: Path) -> None:
    folder = change_tensors(e2, tmp_path / "damaged", drop)
    _, report = E2Model.from_pretrained(folder, output_loading_info=True)
    assert set(report["missing_keys"]) == {LAYER}


def test_the_weights_of_a_whole_folder_are_those_of_its_file(clip: Path, e2: Path) -> None:
    for folder in (clip, e2):
        stored = load_file(folder / "model.safetensors")
        loaded = load_encoder(str(folder)).model.state_dict()
        assert stored.keys() == loaded.keys()
        assert all(torch.equal(value, loaded[name]) for name, value in stored.items())


def test_buffers_of_older_savers_are_no_stranger(clip: Path, tmp_path: Path) -> None:
    def add_positions(tensors: dict[str, Tensor]) -> None:
        for tower in ("text", "vision"):
            tensors[f"{tower}_model.embeddings.position_ids"] = torch.arange(77)[None]

    assert load_encoder(str(change_tensors(clip, tmp_path / "older", add_positions))).dimension == 8


@pytest.mark.parametrize(
    ("tower", "key", "value", "said"),
    [
        ("vision_config", "patch_size", 16, r"of another shape .*patch_embedding"),
        ("vision_config", "num_hidden_layers", 1, r"unknown \(16\): vision_model\.encoder\.layers\.1"),
        ("vision_config", "num_hidden_layers", 3, r"missing \(16\): vision_model\.encoder\.layers\.2"),
        ("vision_config", "num_hidden_layers", 10**9, r"1,000,000,000 layers, and its files hold"),
        ("vision_config", "image_size", 10**6, r"values, and its files hold"),
        ("text_config", "vocab_size", 10**9, r"values, and its files hold .*of another shape: text_model"),
        ("text_config", "hidden_size", 24, r"of another shape"),
    ],
)
def test_a_configuration_of_another_tower_is_refused(
    tower: str, key: str, value: int, said: str, clip: Path, tmp_path: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        content[tower][key] = value

    with pytest.raises(E2FashionError, match=said):
        load_encoder(str(change_config(clip, tmp_path / "other", change)))


@pytest.mark.parametrize("tower", ["text_config", "vision_config"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_norm_eps", None),
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", 0.0),
        ("attention_dropout", None),
        ("num_attention_heads", -2),
    ],
)
def test_numbers_that_spoil_every_feature_are_refused(
    tower: str, key: str, value: Any, clip: Path, tmp_path: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        content[tower][key] = value

    with pytest.raises(E2FashionError, match=rf"cannot be loaded: .*{key}"):
        load_encoder(str(change_config(clip, tmp_path / "other", change)))


def test_a_number_of_tokens_that_fills_the_memory_is_refused(e2: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["vision_config"]["entities"][0]["tokens"] = 99_999_999_999

    with pytest.raises(E2FashionError, match=r"tokens=99999999999; give a whole number from 0 to 1000"):
        load_encoder(str(change_config(e2, tmp_path / "many", change)))


def test_an_e2_that_lost_its_entities_does_not_become_a_clip(e2: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["vision_config"]["entities"] = []

    with pytest.raises(E2FashionError, match=r"unknown \(\d+\): region_heads\.brand"):
        load_encoder(str(change_config(e2, tmp_path / "plain", change)))


@pytest.mark.parametrize("kind", ["clip", "e2"])
def test_code_within_a_model_folder_is_never_run(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}

    folder = change_config(request.getfixturevalue(kind), tmp_path / "evil", change)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for load in LOADERS.values():
        with pytest.raises(E2FashionError, match=r"has custom code \(auto_map in config\.json\)"):
            load(folder)
    assert not (tmp_path / "ran").exists()


def test_nobody_is_asked_whether_to_run_code(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown type with code of its own is refused without a question, and a tokenizer's code is passed over."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    folder = tmp_path / "unknown"
    shutil.copytree(clip, folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard", "auto_map": {"AutoConfig": "evil.C"}}))
    with pytest.raises(E2FashionError, match=r"language model .* cannot be loaded"):
        load_language_model(str(folder))
    shutil.copy(clip / "config.json", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Unheard", "auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    load_encoder(str(folder))  # by the class that Transformers has for the files
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def gpt2(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights, and the CLIP's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    shutil.copytree(clip, folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=600, n_embd=16, n_layer=1, n_head=2, n_positions=32)).save_pretrained(folder)
    return folder


LM_LAYER = "transformer.h.0.mlp.c_fc.weight"


@pytest.mark.parametrize("way", ["caption", "compose"])
@pytest.mark.parametrize("damage", ["missing", "not finite", "of another shape"])
def test_language_models_are_compared_too(way: str, damage: str, gpt2: Path, tmp_path: Path) -> None:
    def load(folder: Path) -> Any:
        return load_language_model(str(folder)) if way == "compose" else load_caption_language_model(str(folder))

    def change(tensors: dict[str, Tensor]) -> None:
        result = tensors.pop(LM_LAYER)
        if damage != "missing":
            tensors[LM_LAYER] = result * float("inf") if damage == "not finite" else result[:3].clone()

    assert load(gpt2)
    with pytest.raises(E2FashionError, match=rf"{damage} \(1\): .*h\.0\.mlp\.c_fc\.weight"):
        load(change_tensors(gpt2, tmp_path / "damaged", change))


def test_other_tensors_of_a_language_model_are_said(
    gpt2: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A causal model does not read an additional classification head; a caption's GPT-2 has none."""

    def change(tensors: dict[str, Tensor]) -> None:
        tensors["score.weight"] = torch.zeros(2, 16)

    folder = change_tensors(gpt2, tmp_path / "more", change)
    assert load_language_model(str(folder))
    assert "1 tensors of its files are not read: score.weight" in caplog.text
    with pytest.raises(E2FashionError, match=r"unknown \(1\): score\.weight"):
        load_caption_language_model(str(folder))


def test_weights_that_are_pickles_are_named(clip: Path, tmp_path: Path) -> None:
    shutil.copytree(clip, tmp_path / "pickle")
    tensors = load_file(clip / "model.safetensors")
    torch.save(tensors, tmp_path / "pickle" / "pytorch_model.bin")
    (tmp_path / "pickle" / "model.safetensors").unlink()
    with pytest.raises(E2FashionError, match=r"holds no weights: model\.safetensors is missing.*e2fashion convert"):
        load_encoder(str(tmp_path / "pickle"))


def test_half_precision_is_read_as_it_is(clip: Path, tmp_path: Path) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].half()

    model = load_encoder(str(change_tensors(clip, tmp_path / "half", halve))).model
    assert model.dtype == torch.float32
    assert torch.equal(model.state_dict()[LAYER], load_file(clip / "model.safetensors")[LAYER].half().float())


def test_a_librarys_error_becomes_one_line() -> None:
    printed = r"^the model cannot be loaded: KeyError 'x'\. Fetch it again\.$"
    with pytest.raises(E2FashionError, match=printed), only_our_errors("the model", "Fetch it again."):
        {}["x"]
    with pytest.raises(KeyboardInterrupt), only_our_errors("the model"):
        raise KeyboardInterrupt


def test_transformers_own_words_are_not_shown(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = change_tensors(clip, tmp_path / "damaged", rename)
    with pytest.raises(E2FashionError):
        load_encoder(str(folder))
    load_encoder(str(clip))
    shown = capfd.readouterr()
    assert "LOAD REPORT" not in shown.err + shown.out + caplog.text
    assert "[transformers]" not in shown.err + shown.out
    assert "Loading weights" not in shown.err


def test_json_that_is_nested_too_deep(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(E2FashionError, match=r"^deep cannot be loaded"):
        read_config(tmp_path, (), "deep")


def test_verbs_show_no_warning_of_transformers(caplog: pytest.LogCaptureFixture) -> None:
    before = transformers_logging.get_verbosity()
    try:
        transformers_logging.set_verbosity_warning()
        CLIPTextConfig(vocab_size=10)  # its own default ids lie beyond
        assert "eos_token_id must be" in caplog.text
        caplog.clear()
        prepare_terminal()
        CLIPTextConfig(vocab_size=11)
        assert caplog.text == ""
    finally:
        transformers_logging.set_verbosity(before)
