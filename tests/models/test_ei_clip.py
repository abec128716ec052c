"""EI-CLIP (our interpretation): no effect initially and without tags; equal texts differ by their tags."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import TINY, save_random_clip

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.embedding import embed_split
from e2fashion.encoder import load_encoder
from e2fashion.models import E2Config, E2Model, EiClipModel, new_parameter_names
from e2fashion.models.ei_clip import EntityText
from e2fashion.records import read_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.training import build
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch, E2FashionError, Entity

CLIP_FT = ["model.entities={brand: null, season: null}", "model.fusion_layers=[]", "loss.region_weight=0.0"]
EI_CLIP = [*CLIP_FT, "model.text_entities={brand: {}, fabric: {column: composition}}", "text.template={description}"]
WITHOUT_E = [*EI_CLIP, "model.text_entities={brand: null, fabric: null}"]


@pytest.fixture(scope="module")
def clip(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = list(synth_catalogue.split("train")["description"])
    return save_random_clip(tmp_path_factory.mktemp("clip") / "clip", texts)


def loss_of(catalogue: Catalogue, clip: Path, *overrides: str) -> tuple[torch.Tensor, E2Model]:
    """The loss of the first training batch, before any step."""
    words = [f"data={catalogue.path}", *TINY, f"model.checkpoint={clip}", *overrides]
    config = load_config(RunConfig, None, words)
    check_run(config, catalogue)
    tokenizer = build.build_tokenizer(config, [])
    model = build.build_model(config, tokenizer)
    template = build.build_template(config, catalogue)
    data = build.build_datamodule(config, catalogue, template, build.build_transform(config), tokenizer)
    module = ContrastiveModule(model, build.build_loss(config))
    batch = module.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    return module.compute_loss(batch).total, model


def test_without_entities_it_is_clip_fine_tuning_to_the_bit(synth_catalogue: Catalogue, clip: Path) -> None:
    plain, clip_ft = loss_of(synth_catalogue, clip, *CLIP_FT, "text.template={description}")
    without, model = loss_of(synth_catalogue, clip, *WITHOUT_E)
    assert torch.equal(plain, without)
    assert model.state_dict().keys() == clip_ft.state_dict().keys()
    assert model.config.text_entities == []
    assert type(model) is E2Model


def test_training_starts_as_clip_fine_tuning(synth_catalogue: Catalogue, clip: Path) -> None:
    plain, _ = loss_of(synth_catalogue, clip, *WITHOUT_E)
    started, model = loss_of(synth_catalogue, clip, *EI_CLIP)
    assert torch.equal(plain, started)
    started.backward()
    assert isinstance(model, EiClipModel)
    assert all(bool(matrix.grad.ne(0).any()) for matrix in model.entity_text.matrices() if matrix.grad is not None)
    names = ["entity_text.gates", "entity_text.maps.brand.weight", "entity_text.maps.fabric.weight"]
    assert new_parameter_names(model) == names


def test_it_adds_what_the_gates_let_through_of_the_tags_that_are_there() -> None:
    part = EntityText([Entity("brand", "brand"), Entity("season", "season")], 3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        part.gates.copy_(torch.tensor([2.0, -1.0]))
        for matrix in part.matrices():
            matrix.copy_(torch.randn(3, 3, generator=generator))
    text, tags = torch.randn(2, 3, generator=generator), torch.randn(2, 2, 3, generator=generator)
    result = part(text, tags, torch.tensor([[True, True], [False, True]]))
    brand, season = part.matrices()
    open_gates = torch.tensor([2.0, -1.0]).sigmoid()
    first = text[0] + open_gates[0] * brand @ tags[0, 0] + open_gates[1] * season @ tags[0, 1]
    torch.testing.assert_close(result[0], first)
    torch.testing.assert_close(result[1], text[1] + open_gates[1] * season @ tags[1, 1])
    assert torch.equal(part(text, tags, torch.zeros(2, 2, dtype=torch.bool)), text)


@pytest.fixture(scope="module")
def run(synth_catalogue: Catalogue, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = [f"data={synth_catalogue.path}", f"output={tmp_path_factory.mktemp('ei') / 'run'}"]
    words = [*place, *TINY, f"model.checkpoint={clip}", *EI_CLIP, "train.stages.main.epochs=1"]
    return train_run(load_config(RunConfig, None, words), progress=False)


def test_it_trains_and_its_folder_is_evaluated_with_the_tags(run: RunFolder, synth_catalogue: Catalogue) -> None:
    assert {record.metric for record in read_records(run.results)} >= {"R@1", "SumR"}
    encoder = load_encoder(str(run.path))
    assert encoder.text_entities == (Entity("brand", "brand"), Entity("fabric", "composition"))
    with_tags = embed_catalogue(encoder, synth_catalogue, "val", progress=False)
    alone = embed_catalogue(encoder, synth_catalogue, "val", with_tags=False, progress=False)
    rows = synth_catalogue.split("val")
    texts = dict(zip(rows["product_id"], rows["description"], strict=True))
    expected = encoder.embed_texts([texts[product] for product in alone.product_ids])
    torch.testing.assert_close(alone.text_embeds, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(with_tags.text_embeds, alone.text_embeds, atol=1e-3)
    assert torch.equal(with_tags.text_group, alone.text_group)


def test_equal_texts_with_different_tags_are_embedded_apart(run: RunFolder) -> None:
    model = load_encoder(str(run.path)).model
    end = model.config.text_config.eos_token_id
    batch = Batch(
        pixel_values=torch.zeros(4, 3, 32, 32),
        input_ids=torch.tensor([[1, 5, end]] * 4),
        attention_mask=torch.ones(4, 3, dtype=torch.int64),
        tag_input_ids=torch.tensor([[1, 7, end], [1, 8, end]]),
        tag_attention_mask=torch.ones(2, 3, dtype=torch.int64),
        tag_index=torch.tensor([[0, 0], [1, 0], [0, 0], [0, 0]]),
        tag_present=torch.tensor([[True, False], [True, False], [True, False], [False, False]]),
        tag_value=torch.tensor([[70, 0], [80, 0], [70, 0], [0, 0]]),
        text_group=torch.tensor([9] * 4),
        product_ids=["a", "b", "c", "d"],
    )
    text = embed_split(model, [batch]).text_embeds
    assert torch.equal(text[0], text[2])
    assert not torch.equal(text[0], text[1])
    assert not torch.equal(text[0], text[3])


def test_it_does_not_go_with_tokens() -> None:
    with pytest.raises(E2FashionError, match=r"text_entities \['brand'\] join the text's one feature.*choose one"):
        E2Config(similarity="tokens", text_entities=["brand"])


def test_a_column_that_is_not_there_is_named(synth_catalogue: Catalogue) -> None:
    config = load_config(RunConfig, None, [f"data={synth_catalogue.path}", *TINY, "model.text_entities={fabric: {}}"])
    with pytest.raises(E2FashionError, match=r"lacks.*model.text_entities.fabric=null"):
        check_run(config, synth_catalogue)
