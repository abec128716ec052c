"""Adapters of the towers: what is trained, what is saved, and layer-wise learning rates."""

from pathlib import Path

import pytest
import torch
from tiny import TINY, save_random_clip

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.models import E2Model
from e2fashion.training import build
from e2fashion.training import lora as lora_module
from e2fashion.training.checks import check_run
from e2fashion.training.config import LoraConfig, OptimizerConfig, RunConfig
from e2fashion.training.lora import add_lora, merged, without_adapted
from e2fashion.training.optimization import build_optimizer
from e2fashion.types import E2FashionError

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def clip(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(
        tmp_path_factory.mktemp("clip") / "clip", list(synth_catalogue.split("train")["description"])
    )


def config_of(catalogue: Catalogue, clip: Path, *overrides: str) -> RunConfig:
    words = [f"data={catalogue.path}", *TINY, f"model.checkpoint={clip}", *overrides]
    return load_config(RunConfig, None, words)


def build_tiny(catalogue: Catalogue, clip: Path) -> E2Model:
    config = config_of(catalogue, clip)
    return build.build_model(config, build.build_tokenizer(config, []))


def test_adapters_start_without_effect_and_merge_into_the_weights(synth_catalogue: Catalogue, clip: Path) -> None:
    model = build_tiny(synth_catalogue, clip).eval()
    pixels = torch.randn(2, 3, 32, 32)
    before, names = model.get_image_features(pixels).pooler_output, list(model.state_dict())
    add_lora(model, LoraConfig(vision=4, text=2, layers=["q_proj", "fc2"]))
    assert torch.equal(model.get_image_features(pixels).pooler_output, before)
    ranks = {name.split(".")[0]: p.shape[0] for name, p in model.named_parameters() if ".lora_A." in name}
    assert ranks == {"vision_model": 4, "text_model": 2}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    changed = model.get_image_features(pixels).pooler_output
    assert not torch.allclose(changed, before)
    plain = merged(model)
    assert list(plain.state_dict()) == names
    torch.testing.assert_close(plain.get_image_features(pixels).pooler_output, changed, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.get_image_features(pixels).pooler_output, changed)


def test_an_adapted_tower_trains_its_adapters_and_what_is_e2_s(synth_catalogue: Catalogue, clip: Path) -> None:
    model = build_tiny(synth_catalogue, clip)
    add_lora(model, LoraConfig(vision=4, layers=["v_proj"]))
    trained = without_adapted(model, [name for name, _ in model.named_parameters()], model.added_prefixes)
    vision = [name for name in trained if name.startswith("vision_model.")]
    kinds = {"lora" if ".lora_" in name else ".".join(name.split(".")[:2]) for name in vision}
    assert kinds == {"lora", "vision_model.selection_tokens", "vision_model.fusion_blocks"}
    assert [name for name in trained if name.startswith("text_model.")]
    assert "visual_projection.weight" in trained


def test_a_run_saves_plain_weights(synth_catalogue: Catalogue, clip: Path, tmp_path: Path) -> None:
    words = [f"output={tmp_path / 'run'}", "model.lora={vision: 2}", "train.layer_decay=0.8"]
    words += ["train.stages.main.freeze=[text_model.*, text_projection.*]", "train.chunk_size=6"]
    run = train_run(config_of(synth_catalogue, clip, *words), progress=False)
    model = E2Model.from_pretrained(run.model).state_dict()
    start = E2Model.from_pretrained(clip, ignore_mismatched_sizes=True, output_loading_info=True)[0].state_dict()
    same = {name for name in start if name in model and torch.equal(start[name], model[name])}
    assert not [name for name in model if "lora" in name]
    layer = "vision_model.encoder.layers.0.self_attn."
    assert {f"{layer}q_proj.weight", f"{layer}v_proj.weight"} & same == set()
    assert {f"{layer}k_proj.weight", f"{layer}q_proj.bias", "text_projection.weight"} <= same


def test_layers_far_from_the_output_learn_more_slowly(synth_catalogue: Catalogue, clip: Path) -> None:
    model = build_tiny(synth_catalogue, clip)
    optimizer = build_optimizer(model, OptimizerConfig(layer_decay=0.5), 1.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    of_name = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(rates) == len(of_name)
    assert of_name["vision_model.embeddings.patch_embedding.weight"] == 0.5**3
    assert of_name["vision_model.encoder.layers.0.mlp.fc1.bias"] == 0.5**2
    assert of_name["vision_model.encoder.layers.1.mlp.fc1.bias"] == 0.5
    assert of_name["text_model.encoder.layers.0.mlp.fc1.bias"] == 0.5
    assert of_name["text_model.embeddings.token_embedding.weight"] == 0.5**2
    for name in ("vision_model.selection_tokens.brand", "visual_projection.weight", "logit_scale"):
        assert of_name[name] == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.lora={vision: -1}", "model.lora.vision is -1: give a rank"),
        ("model.lora={text: 4, layers: []}", "model.lora has a rank and no layers"),
        ("train.layer_decay=0", "train.layer_decay is 0.0"),
        ("train.layer_decay=1.5", "train.layer_decay is 1.5"),
        ("train.stages.main.temperature_end=0", "train.stages.main.temperature_end is 0.0"),
    ],
)
def test_mistakes_are_refused_before_training(
    synth_catalogue: Catalogue, clip: Path, override: str, message: str
) -> None:
    with pytest.raises(E2FashionError, match=message):
        check_run(config_of(synth_catalogue, clip, override), synth_catalogue)


def test_a_layer_that_does_not_exist_is_refused(synth_catalogue: Catalogue, clip: Path) -> None:
    with pytest.raises(E2FashionError, match="attn_proj"):
        config_of(synth_catalogue, clip, "model.lora={vision: 4, layers: [attn_proj]}")


def test_a_missing_package_names_the_extra(
    synth_catalogue: Catalogue, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_module, "find_spec", lambda name: None)
    with pytest.raises(E2FashionError, match=r"model.lora needs peft.*e2fashion\[peft\]"):
        check_run(config_of(synth_catalogue, clip, "model.lora={vision: 4}"), synth_catalogue)
