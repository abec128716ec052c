"""Text-conditioned pooling: each text and image on its own, the term's negatives, and no trace in evaluation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY
from torch import Tensor

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.losses.contrastive import ContrastiveLoss, WeightedTerm
from e2fashion.losses.terms import TextPooled
from e2fashion.models import E2Config, E2Model, TextPoolingModel, new_parameter_names
from e2fashion.models.chunks import embed_in_chunks
from e2fashion.models.text_pooling import TextPooling
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.training import build
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**TOWER, "vocab_size": 100, "max_position_embeddings": 16, "eos_token_id": 99, "pad_token_id": 0}


def model_of(**options: Any) -> E2Model:
    torch.manual_seed(0)
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    return E2Model(E2Config(text_config=TEXT, vision_config=vision, projection_dim=8, **options))


@pytest.mark.parametrize("width", [8, 128])
def test_each_text_reads_each_image(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    part, patches, texts = TextPooling(width), torch.randn(3, 5, width, generator=generator), torch.randn(4, width)
    heads = max(1, width // 64)
    found = part(patches, texts)
    for image in range(3):
        states = F.layer_norm(patches[image], (width,))
        for text in range(4):
            query = part.query(F.layer_norm(texts[text], (width,))).view(heads, -1)
            keys, values = (matrix(states).view(5, heads, -1) for matrix in (part.key, part.value))
            read = []
            for head in range(heads):
                shares = torch.softmax(keys[:, head] @ query[head] / query.shape[1] ** 0.5, 0)
                read.append(shares @ values[:, head])
            expected = F.cosine_similarity(part.output(torch.cat(read)), texts[text], dim=0)
            torch.testing.assert_close(found[image, text], expected, atol=1e-5, rtol=1e-5)


def output_of(similarities: Tensor | None, bias: float | None = None) -> Any:
    bias_ = None if bias is None else torch.tensor(bias)
    return SimpleNamespace(pooled_similarities=similarities, logit_scale=torch.tensor(1.5), logit_bias=bias_)


def test_negatives_are_other_images_under_a_text_and_other_texts_of_an_image() -> None:
    similarities = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    group = torch.tensor([7, 8, 7, 9])
    batch: Any = SimpleNamespace(text_group=group)
    logits, losses = similarities * torch.tensor(1.5).exp(), []
    for place in range(4):
        alike = [other for other in range(4) if group[other] == group[place]]
        under_text, of_image = logits[:, place].log_softmax(0), logits[place].log_softmax(0)
        losses += [-torch.stack([row[other] for other in alike]).mean() for row in (under_text, of_image)]
    torch.testing.assert_close(TextPooled()(output_of(similarities), batch), torch.stack(losses).mean())

    signs = torch.where(group[:, None] == group, 1.0, -1.0)
    pairs = -F.logsigmoid(signs * (logits - 3.0))
    torch.testing.assert_close(TextPooled()(output_of(similarities, -3.0), batch), pairs.sum() / 4)


def test_a_model_that_pools_nothing_is_refused() -> None:
    with pytest.raises(E2FashionError, match=r"'text_pooling' needs a model.*E2Config\(text_pooling=True\)"):
        TextPooled()(output_of(None), SimpleNamespace(text_group=torch.zeros(4)))  # type: ignore[arg-type]


def test_evaluation_is_that_of_clip_and_training_reaches_all_parts(
    pixels: Tensor, texts: dict[str, Tensor], tmp_path: Path
) -> None:
    plain, model = model_of(), model_of(text_pooling=True)
    assert type(plain) is E2Model
    assert type(model) is TextPoolingModel
    model.load_state_dict(plain.state_dict(), strict=False)
    model.save_pretrained(tmp_path)
    plain, model = plain.eval(), E2Model.from_pretrained(tmp_path)
    assert type(model) is TextPoolingModel
    before, after = (encoder(pixel_values=pixels, **texts) for encoder in (plain, model))
    assert torch.equal(before.image_embeds, after.image_embeds)
    assert torch.equal(before.text_embeds, after.text_embeds)
    assert after.pooled_similarities is None

    none = torch.zeros(4, 0)
    batch: Any = SimpleNamespace(text_group=torch.arange(4), tag_present=none, tag_value=none)
    loss = ContrastiveLoss(terms={"text_pooling": WeightedTerm(TextPooled())})
    model.train()
    results = []
    for embed in (model, partial(embed_in_chunks, model, 3)):
        model.zero_grad()
        result = loss.of(embed(pixel_values=pixels, **texts), batch)
        result.terms["text_pooling"].backward()
        results.append(result.total.detach())
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert {"visual_projection.weight", "text_projection.weight", "logit_scale"} <= reached
        assert set(new_parameter_names(model)) <= reached
        patches = model.vision_model.embeddings.patch_embedding.weight.grad
        assert patches is not None
        assert patches.ne(0).any()
    torch.testing.assert_close(results[0], results[1])


def test_the_term_brings_its_parts_and_without_it_there_are_none() -> None:
    words = ["data=d", *TINY, "model.entities={}", "loss.region_weight=0"]
    tokenizer = train_tokenizer(["a shirt"], kind="word", vocabulary=20, context_length=77)
    for term, kind in (("{weight: 0.5}", TextPoolingModel), ("null", E2Model)):
        config = load_config(RunConfig, None, [*words, f"loss.terms.text_pooling={term}"])
        assert type(build.build_model(config, tokenizer)) is kind
        assert bool(build.build_loss(config).terms) is (kind is TextPoolingModel)
    with pytest.raises(E2FashionError, match="is for FilipModel and TextPoolingModel at once: choose one"):
        model_of(text_pooling=True, similarity="tokens")


@pytest.mark.parametrize("processes", ["devices=2", "nodes=3"])
def test_several_processes_are_refused(synth_catalogue: Catalogue, processes: str) -> None:
    words = [f"data={synth_catalogue.path}", *TINY, "model.entities={}", "loss.region_weight=0", processes]
    with pytest.raises(E2FashionError, match=r"loss\.terms\.text_pooling compares the products of one process"):
        check_run(load_config(RunConfig, None, [*words, "loss.terms.text_pooling={weight: 1}"]), synth_catalogue)
