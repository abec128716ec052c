"""The variants of E2 (FILIP, EI-CLIP): created by every way in, numbers pinned, folders of before loaded."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from e2fashion.models import E2Config, E2Model, E2VisionModelWithProjection, EiClipModel, FilipModel
from e2fashion.types import E2FashionError

END = 19
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**TOWER, "vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 18, "eos_token_id": END}
VISION = {**TOWER, "image_size": 16, "patch_size": 8}
REGIONS = {"entities": {"brand": 2, "season": 1}, "fusion_layers": [1]}

#: Configuration, vision configuration, class; then what the code computed when every variant was a branch of E2's
#: forward pass: CLIP's loss, the norm of its gradient, the sums of absolute logits and of absolute tag embeddings.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], type[E2Model], tuple[float, ...]]] = {
    "e2": ({}, REGIONS, E2Model, (1.10245, 0.03679, 1.94174, 10.3345)),
    "filip": ({"similarity": "tokens"}, {}, FilipModel, (1.10421, 0.18062, 1.87975, 0.0)),
    "e2_on_filip": ({"similarity": "tokens"}, REGIONS, FilipModel, (1.10283, 0.11792, 3.96018, 10.3345)),
    "ei_clip": ({"text_entities": ["fabric"]}, {}, EiClipModel, (1.10297, 0.1211, 18.02711, 0.0)),
    "e2_with_ei_clip": ({"text_entities": ["fabric"]}, REGIONS, EiClipModel, (1.12023, 0.31337, 7.83627, 8.69299)),
}


def configuration(options: dict[str, Any], vision: dict[str, Any]) -> E2Config:
    return E2Config(text_config=TEXT, vision_config={**VISION, **vision}, projection_dim=8, **options)


def built(options: dict[str, Any], vision: dict[str, Any]) -> E2Model:
    """Weights of some size, drawn by name: equal whatever order the modules are created in."""
    model = E2Model(configuration(options, vision))
    for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.numel() ** -0.25)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
    return model.eval()


def inputs(entities: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    return {
        "input_ids": torch.tensor([[18, 5, 6, END, END], [18, 7, 8, 9, END], [18, 3, END, END, END]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1] * 5, [1, 1, 1, 0, 0]]),
        "pixel_values": torch.randn(3, 3, 16, 16, generator=generator),
        "tag_input_ids": torch.tensor([[18, 2, END], [18, 4, END]]),
        "tag_attention_mask": torch.ones(2, 3, dtype=torch.int64),
        "tag_index": torch.tensor([[0], [1], [0]]).expand(3, entities),
        "tag_present": torch.tensor([[True], [True], [False]]).expand(3, entities),
    }


def entities_of(model: E2Model) -> int:
    return len(model.config.vision_config.entities) + len(model.config.text_entities)


def measured(model: E2Model) -> tuple[float, ...]:
    model.zero_grad()
    output = model(**inputs(entities_of(model)), return_loss=True)
    output.loss.backward()
    gradients = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    logits = torch.stack([output.logits_per_image, output.logits_per_text])
    values: list[Tensor] = [
        output.loss,
        torch.stack(gradients).norm(),
        logits.abs().sum(),
        output.tag_embeds.abs().sum(),
    ]
    return tuple(float(value.detach()) for value in values)


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_one_model_with_branches(name: str) -> None:
    options, vision, kind, known = CASES[name]
    model = built(options, vision)
    assert type(model) is kind
    assert measured(model) == pytest.approx(known, rel=5e-4)


@pytest.mark.parametrize("name", CASES)
def test_every_way_in_creates_the_variant(name: str, tmp_path: Path) -> None:
    options, vision, kind, _ = CASES[name]
    model = built(options, vision)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["E2Model"]  # what folders of before the variants say
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    expected = measured(model)
    others = [
        E2Model.from_pretrained(tmp_path),
        AutoModel.from_pretrained(tmp_path),
        kind.from_pretrained(tmp_path),
        copy.deepcopy(model),
    ]
    for other in others:
        assert type(other) is kind
        assert measured(other.eval()) == expected
    reread = E2Model.from_clip(tmp_path, **_regions(vision))
    assert type(reread) is kind
    half = E2VisionModelWithProjection.from_pretrained(tmp_path, output_loading_info=True)[1]
    assert not half["missing_keys"]
    assert not half["unexpected_keys"]


def _regions(vision: dict[str, Any]) -> dict[str, Any]:
    return {"entities": vision["entities"], "fusion_layers": vision["fusion_layers"]} if vision else {}


def test_a_variant_of_one_s_own_is_created_by_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    class WideModel(E2Model):
        @classmethod
        def is_for(cls, config: E2Config) -> bool:
            return bool(getattr(config, "wide", False))

    try:
        assert type(built({"wide": True}, {})) is WideModel
        assert type(built({}, REGIONS)) is E2Model
        with pytest.raises(E2FashionError, match="is for FilipModel and WideModel at once: choose one"):
            built({"wide": True, "similarity": "tokens"}, {})
    finally:
        monkeypatch.setattr(WideModel, "is_for", classmethod(lambda cls, config: False))
