"""A batch in chunks has the loss and the gradients of the batch in one piece, also over two processes."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from forked import of_two_ranks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from e2fashion.losses.contrastive import ContrastiveLoss, WeightedTerm
from e2fashion.losses.filip import TokenContrast
from e2fashion.losses.terms import CropTeacher, SwappedTags
from e2fashion.models import E2Config, E2Model, E2VisionConfig
from e2fashion.models.chunks import embed_in_chunks
from e2fashion.models.from_clip import JOINT_OPTIONS
from e2fashion.types import Batch

PRODUCTS = 7
ENTITIES = {"brand": 2, "season": 1}
E2: dict[str, Any] = {"entities": ENTITIES, "fusion_layers": [1, 2]}
MODELS: dict[str, dict[str, Any]] = {
    "clip": {},
    "e2": E2,
    "e2_noisy": E2 | {"noise": "gumbel"},
    "soft_noisy": E2 | {"noise": "gumbel", "selection": "soft"},
    "forms_noisy": E2
    | {
        "noise": "gumbel",
        "value_layer": 0,
        "value_gate": -1.0,
        "competition": True,
        "null_patch": True,
        "score_heads": 2,
        "value_scale": 2,
        "value_window": 3,
    },
    "random": E2 | {"noise": "gumbel", "selection": "random", "drop_patches": False},
    "filip_noisy": E2 | {"noise": "gumbel", "similarity": "tokens"},
    "ei_clip": E2 | {"text_entities": ["fabric"]},
    "sigmoid": E2 | {"logit_bias_init_value": -10.0},
    "filip_sigmoid": {"similarity": "tokens", "logit_bias_init_value": -10.0},
    "crop_teacher": {"entities": {"brand": 2}, "fusion_layers": [1, 2]},
    "crop_teacher_noisy": E2 | {"noise": "gumbel"},
    "swapped_tags": E2,
}
#: By the names of the models that are trained with them.
TERMS = {"crop_teacher": WeightedTerm(CropTeacher(window=2), 0.5), "swapped_tags": WeightedTerm(SwappedTags(), 0.5)}
EOS = 49
TEXT = {"vocab_size": 50, "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": EOS}


def build(name: str) -> E2Model:
    options = dict(MODELS[name])
    joint = {key: options.pop(key) for key in JOINT_OPTIONS if key in options}
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = E2Model(
        E2Config(
            text_config={**tower, **TEXT},
            vision_config=E2VisionConfig(**tower, image_size=16, patch_size=4, **{"noise": "none"} | options),
            projection_dim=8,
            **joint,
        )
    )
    with torch.no_grad():  # the usual small initial weights would hide differences
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    # In fp64: in fp32 the rounding of two plain steps with their rows in another order is above 1e-6.
    return model.train().double()


def make_batch(model: E2Model, seed: int = 0, share: float = 0.6) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    columns = len(model.region_heads.tokens_per_entity) + len(model.config.text_entity_list)

    def texts(lengths: Tensor) -> Tensor:
        ids = torch.randint(1, EOS, (len(lengths), 12), generator=generator)
        return torch.where(torch.arange(12) < lengths[:, None], ids, EOS)

    ids = texts(torch.randint(2, 11, (PRODUCTS,), generator=generator))
    tags = texts(torch.randint(1, 5, (5,), generator=generator))
    index = torch.randint(0, 5, (PRODUCTS, columns), generator=generator)
    return Batch(
        pixel_values=torch.randn(PRODUCTS, 3, 16, 16, generator=generator, dtype=torch.float64),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        tag_input_ids=tags,
        tag_attention_mask=torch.ones_like(tags),
        tag_index=index,
        tag_present=torch.rand(PRODUCTS, columns, generator=generator) < share,
        tag_value=index,
        text_group=torch.arange(PRODUCTS),
        swapped_input_ids=ids.roll(1, 0),
        swapped_attention_mask=torch.ones_like(ids),
        swapped_present=torch.arange(PRODUCTS) > 1,
    )


def embed(model: Any, batch: Batch, chunk_size: int | None, output_selection_maps: bool = False) -> Any:
    names = ("input_ids", "pixel_values", "attention_mask", "tag_input_ids", "tag_attention_mask", "tag_index")
    inputs = {name: getattr(batch, name) for name in (*names, "tag_present")}
    inputs["output_selection_maps"] = output_selection_maps
    return model(**inputs) if chunk_size is None else embed_in_chunks(model, chunk_size, **inputs)


class Step(nn.Module):
    """The loss of a model, as DDP wraps it."""

    def __init__(self, name: str, targets: str = "diagonal") -> None:
        super().__init__()
        self.model = build(name)
        tokens = TokenContrast() if "filip" in name else None
        entities = [entity.name for entity in self.model.config.vision_config.entity_list]
        terms = {key: term for key, term in TERMS.items() if name.startswith(key)}
        self.loss = ContrastiveLoss(entities, 0.4, targets, global_term=tokens, terms=terms)  # type: ignore[arg-type]

    def forward(self, batch: Batch, chunk_size: int | None) -> Tensor:
        torch.manual_seed(3)
        self.model.seed_selection_noise(3)
        if isinstance(self.loss.global_term, TokenContrast):
            self.loss.global_term = replace(self.loss.global_term, chunk_size=chunk_size)
        output = embed(self.model, batch, chunk_size, self.loss.reads_selection)
        return self.loss.of(output, batch, self.model).total


def gradients(step: nn.Module, batch: Batch, chunk_size: int | None) -> dict[str, Tensor]:
    step.zero_grad()
    loss = step(batch, chunk_size)
    loss.backward()
    found = {name.removeprefix("module."): p.grad for name, p in step.named_parameters() if p.grad is not None}
    return {"total": loss.detach(), **{name: value.clone() for name, value in found.items()}}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=1e-6, rtol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=3, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    chunk_size=st.integers(1, PRODUCTS),
    seed=st.integers(0, 100),
    share=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    targets=st.sampled_from(["diagonal", "same_value"]),
)
def test_chunks_equal_one_piece(name: str, chunk_size: int, seed: int, share: float, targets: str) -> None:
    step = Step(name, targets)
    batch = make_batch(step.model, seed, share)
    assert_equal(gradients(step, batch, chunk_size), gradients(step, batch, None))


@pytest.mark.parametrize("name", ["e2_noisy", "filip_noisy"])
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    step = Step(name)
    batch = make_batch(step.model)
    expected = gradients(step, batch, None)
    step.model.activation_checkpointing_enable({"use_reentrant": False})
    for chunk_size in (None, 3):
        assert_equal(gradients(step, batch, chunk_size), expected)


def test_the_noise_of_a_chunk_depends_on_its_place_alone() -> None:
    model = build("e2_noisy")
    batch = make_batch(model)
    noise = model.vision_model.selection_noise
    model.seed_selection_noise(5)
    whole = model.get_image_features(batch.pixel_values, output_selection_maps=True).selected_patches
    model.seed_selection_noise(5)
    for _ in range(2):  # as the first time after another pass
        with noise.of_chunk(4, PRODUCTS, 0):
            end = model.get_image_features(batch.pixel_values[4:], output_selection_maps=True).selected_patches
        assert torch.equal(end, whole[4:])
        other = model.get_image_features(batch.pixel_values, output_selection_maps=True).selected_patches
        assert not torch.equal(other, whole)


def test_activations_of_one_chunk_are_kept() -> None:
    step = Step("e2_noisy")
    batch = make_batch(step.model)

    def kept(chunk_size: int | None) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step(batch, chunk_size)
        return sum(sizes.values())

    assert kept(2) < 0.1 * kept(None)


CASES = [("e2", None), ("e2", 2), ("e2_noisy", None), ("e2_noisy", 3), ("sigmoid", 2), ("ei_clip", 2)]
CASES += [("crop_teacher", None), ("crop_teacher_noisy", None), ("crop_teacher_noisy", 2), ("swapped_tags", None)]
CASES += [("filip_noisy", None), ("filip_noisy", 2), ("filip_sigmoid", 2)]
CUT = 3


def of_rank(rank: int) -> list[dict[str, Tensor]]:
    results = []
    for name, chunk_size in CASES:
        step = Step(name)
        whole, rows = make_batch(step.model), slice(0, CUT) if rank == 0 else slice(CUT, None)
        tags = ("tag_input_ids", "tag_attention_mask", "product_ids")
        names = [item.name for item in fields(Batch) if item.name not in tags and getattr(whole, item.name) is not None]
        batch = replace(whole, **{name: getattr(whole, name)[rows] for name in names})
        results.append(gradients(DistributedDataParallel(step), batch, chunk_size))
    return results


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Tensor]]]:
    return of_two_ranks(of_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("number", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_chunks_over_two_processes(of_ranks: list[list[dict[str, Tensor]]], number: int) -> None:
    name, chunk_size = CASES[number]
    for results in of_ranks:
        if "noisy" not in name:  # else every process draws its own
            step = Step(name)
            assert_equal(results[number], gradients(step, make_batch(step.model), None))
        elif chunk_size:
            assert_equal(results[number], results[CASES.index((name, None))])
