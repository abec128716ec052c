"""Configuration to objects, and what is refused before any work."""

from pathlib import Path

import pytest
import torch
from tiny import TINY, save_random_clip

from e2fashion.arithmetic import build_device
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import build_source
from e2fashion.models import E2Model
from e2fashion.training import build
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError, Entity


def config_of(catalogue: Catalogue, *overrides: str) -> RunConfig:
    return load_config(RunConfig, None, [f"data={catalogue.path}", *TINY, *overrides])


def model_of(catalogue: Catalogue, *overrides: str, trained: Path | None = None) -> E2Model:
    config = config_of(catalogue, *overrides)
    texts = build.training_texts(config, catalogue, build.build_template(config, catalogue))
    return build.build_model(config, build.build_tokenizer(config, texts), trained)


@pytest.fixture(scope="module")
def checkpoint(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(
        tmp_path_factory.mktemp("clip") / "clip", list(synth_catalogue.split("train")["description"])
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stages.main=null", "has no train.stages"),
        ("train.stages.main.epochs=-1", "train.stages.main.epochs is -1; give a number from 0"),
        ("train.stages.main.learning_rate=-0.1", "learning_rate is -0.1"),
        ("train.checkpoint_every_steps=0", "checkpoint_every_steps is 0; give a number from 1"),
        ("train.warmup_steps=-1", "warmup_steps is -1"),
        ("train.betas=[0.9]", "give two numbers"),
        ("devices=0", "devices is 0"),
        ("nodes=0", "nodes is 0"),
        ("nodes=2", "the rank of this machine is unknown.*torchrun --nnodes=2 --nproc-per-node=1"),
        ("devices=100", r"val split.* has 12 products, fewer than the 100 processes .*with 12 processes at most"),
        ("loader.batch_size=0", "loader.batch_size is 0"),
        ("loader.workers=-1", "loader.workers is -1"),
        ("image.size=0", "image.size is 0"),
        ("evaluate_splits=val,tset", r"Invalid value 'tset', expected one of"),
        ("protocols=full,sample100", "did you mean 'sample_100'"),
        ("text.template={brnd}", "Did you mean '{brand}'"),
        ("model.entities.fabric={}", r"lacks.*Its tag columns: .*model.entities.fabric=null"),
        (
            "text.overflow=stretch",
            r"model.checkpoint is null.*built with .*Set text.overflow=truncate",
        ),
        ("train.precision=fp16", "needs a GPU. On a CPU use train.precision=bf16 or fp32"),
    ],
)
def test_what_cannot_work_is_refused_before_work(synth_catalogue: Catalogue, override: str, message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        check_run(config_of(synth_catalogue, override), synth_catalogue)


def test_a_sound_run_passes(synth_catalogue: Catalogue) -> None:
    check_run(config_of(synth_catalogue, "train.precision=bf16", "protocols=sample_100"), synth_catalogue)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("image.size=30", r"image.size is 30, not a multiple of the patch size 8.*image.size=24 or 32"),
        ("image.size=4", r"Use image.size=8\."),
        ("model.scratch.vision.heads=3", "not a multiple of the number of attention heads"),
        ("model.scratch.activation=magic", "model.scratch.activation is 'magic'"),
        ("model.fusion_layers=[7]", r"fusion_layers=\[7\].*from 1 to 2"),
        ("model.scratch.vocabulary=2", "model.scratch.vocabulary is 2"),
        ("model.checkpoint=./gone", r"'\./gone' is not a folder"),
        ("text.context_length=1", r"text.context_length is 1; the text encoder reads from 2 to"),
    ],
)
def test_a_model_that_cannot_be_built(synth_catalogue: Catalogue, override: str, message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        model_of(synth_catalogue, override)


def test_an_entity_takes_the_column_of_its_name_unless_it_names_one(synth_catalogue: Catalogue) -> None:
    config = config_of(synth_catalogue, "model.entities={brand: null, fabric: {column: composition, tokens: 3}}")
    assert build.build_entities(config.model) == (Entity("season", "season", 2), Entity("fabric", "composition", 3))


def test_a_checkpoint_brings_tokenizer_and_weights(synth_catalogue: Catalogue, checkpoint: Path) -> None:
    model = model_of(synth_catalogue, f"model.checkpoint={checkpoint}", "model.attention=eager")
    clip = E2Model.from_clip(checkpoint)
    assert torch.equal(model.visual_projection.weight, clip.visual_projection.weight)
    assert model.text_model.config._attn_implementation == "eager"
    assert [entity.name for entity in model.config.vision_config.entity_list] == ["brand", "season"]


def test_texts_longer_than_a_checkpoint_s_positions_are_refused(synth_catalogue: Catalogue, checkpoint: Path) -> None:
    with pytest.raises(
        E2FashionError, match=r"text.context_length is 78; the text encoder reads from 2 to 77 tokens.*overflow=stretch"
    ):
        model_of(synth_catalogue, f"model.checkpoint={checkpoint}", "text.context_length=78")


def test_a_checkpoint_s_positions_are_stretched_once(
    synth_catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    words = [f"model.checkpoint={checkpoint}", "text.context_length=100", "text.overflow=stretch"]
    config = config_of(synth_catalogue, *words)
    model, tokenizer = model_of(synth_catalogue, *words), build.build_tokenizer(config, [])
    assert (model.config.text_config.max_position_embeddings, tokenizer.model_max_length) == (100, 100)
    model.save_pretrained(tmp_path)
    again = model_of(synth_catalogue, *words, trained=tmp_path)  # of a later stage
    assert torch.equal(
        again.text_model.embeddings.position_embedding.weight, model.text_model.embeddings.position_embedding.weight
    )
    with pytest.raises(E2FashionError, match="context_length is 77 and the checkpoint reads 77 tokens already"):
        model_of(synth_catalogue, words[0], words[2])


def test_the_loss_gathers_what_devices_and_nodes_bring(synth_catalogue: Catalogue) -> None:
    gathers = [build.build_loss(config_of(synth_catalogue, word)).gather for word in ("seed=1", "nodes=2", "devices=2")]
    assert gathers == [False, True, True]


def test_a_checkpoint_in_half_precision_becomes_fp32(
    synth_catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    E2Model.from_clip(checkpoint).half().save_pretrained(tmp_path / "half")
    build.load_tokenizer(checkpoint).save_pretrained(tmp_path / "half")
    model = model_of(synth_catalogue, f"model.checkpoint={tmp_path / 'half'}")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_later_stage_keeps_the_kind_of_attention(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    model_of(synth_catalogue).save_pretrained(tmp_path / "trained")
    model = model_of(synth_catalogue, "model.attention=eager", trained=tmp_path / "trained")
    assert model.vision_model.config._attn_implementation == "eager"


def test_region_weight_without_entities_is_clip_fine_tuning(synth_catalogue: Catalogue) -> None:
    loss = build.build_loss(config_of(synth_catalogue, "model.entities={brand: null, season: null}"))
    assert not loss.has_regions


def test_an_accelerator_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert build_device("cpu").type == "cpu"
    with pytest.raises(E2FashionError, match=r"accelerator is 'cuda'.*accelerator=cpu"):
        build_device("cuda")


def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert build_device("auto").type == "cuda"
    assert build_device("gpu").type == "cuda"


@pytest.mark.parametrize(
    ("key", "meant"), [("product", "products"), ("on_eror", "on_error"), ("max_pixel", "max_pixels")]
)
def test_a_misspelled_key_of_preparing_names_the_likely_one(key: str, meant: str) -> None:
    message = rf"'synthetic' has no key '{key}'. Did you mean: '{meant}'\? Its keys: .*image_size"
    with pytest.raises(E2FashionError, match=message):
        build_source("synthetic", {key: 3})


def test_an_option_of_the_wrong_kind_names_it() -> None:
    with pytest.raises(E2FashionError, match=r"source 'synthetic', key 'products': Value 'many' .* Integer\.$"):
        build_source("synthetic", {"products": "many"})
