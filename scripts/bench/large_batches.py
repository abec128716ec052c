"""Peak memory and speed of training steps by batch size: plain, with checkpointed layers, and in chunks."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from e2fashion.models.modeling_e2 import E2Model
from e2fashion.training.optimization import build_optimizer
from e2fashion.types import Batch
from scripts.bench.encoders import ENTITIES, VIT_B32, Shape, random_e2
from scripts.bench.harness import Context, Result, in_fresh_process, memory_mb
from scripts.bench.training_step import module_of

_TOWER = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
QUICKSTART: Shape = {
    "vision_config": {**_TOWER, "num_hidden_layers": 6, "image_size": 112, "patch_size": 16},
    "text_config": {**_TOWER, "num_hidden_layers": 3, "vocab_size": 4096, "eos_token_id": 4095},
}
"""The shape of ``configs/run/quickstart_e2.yaml``, with four entities."""
SHAPES = ((QUICKSTART, [4, 5]), (VIT_B32, [8, 11]))
WORDS, TAG_WORDS, DISTINCT = 21, 4, 0.6
"""Tokens of a text and of a tag, and distinct tags per product, about those of KAGL."""
QUICKSTART_NUMBER, B32_NUMBER = 0, 1
POINTS = (
    *(
        (QUICKSTART_NUMBER, batch, chunk, layers)
        for batch in (64, 256, 1024, 2048)
        for chunk, layers in ((0, 0), (0, 1), (64, 0))
    ),
    *((B32_NUMBER, batch, chunk, layers) for batch in (16, 64) for chunk, layers in ((0, 0), (0, 1), (16, 0))),
    (B32_NUMBER, 1024, 16, 0),
)
"""Shape, batch, chunk (0: none), whether layers are checkpointed."""


def random_batch(model: E2Model, products: int) -> Batch:
    """Noise as images, and texts of random tokens."""
    generator = torch.Generator().manual_seed(0)
    text, vision = model.config.text_config, model.config.vision_config
    distinct = max(1, round(DISTINCT * products))

    def texts(count: int, words: int) -> torch.Tensor:
        ids = torch.randint(1, text.eos_token_id - 1, (count, words), generator=generator)
        return torch.cat([ids, torch.full((count, 1), text.eos_token_id)], dim=1)

    ids, tags = texts(products, WORDS), texts(distinct, TAG_WORDS)
    index = torch.randint(0, distinct, (products, len(ENTITIES)), generator=generator)
    size = (products, 3, vision.image_size, vision.image_size)
    return Batch(
        pixel_values=torch.randint(0, 256, size, dtype=torch.uint8, generator=generator),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        tag_input_ids=tags,
        tag_attention_mask=torch.ones_like(tags),
        tag_index=index,
        tag_present=torch.rand(index.shape, generator=generator) < 0.9,
        tag_value=index,
        text_group=torch.arange(products),
    )


def measure_step(shape: int, products: int, chunk: int, layers: int) -> dict[str, float]:
    """``peak_mb`` of the process and ``seconds`` of one step of AdamW, the first one (there is no other in memory)."""
    sizes, fusion_layers = SHAPES[shape]
    module = module_of(random_e2(ENTITIES, shape=sizes, fusion_layers=fusion_layers), Path(), 1e-6, "adamw")
    module.chunk_size = chunk or None
    if layers:
        module.model.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = build_optimizer(module.model, module.config, module.learning_rate)
    module.train()
    batch = module.on_after_batch_transfer(random_batch(module.model, products), 0)
    start = time.perf_counter()
    module.model.seed_selection_noise(0)
    module.compute_loss(batch).total.backward()
    optimizer.step()
    return {"peak_mb": memory_mb("VmHWM"), "seconds": time.perf_counter() - start}


def large_batches(context: Context) -> list[Result]:
    """Every point once, in a process of its own; there is no target."""
    del context
    results = []
    for shape, products, chunk, layers in POINTS:
        found = in_fresh_process(measure_step, shape, products, chunk, layers)
        name = "quickstart's E2, 112 px" if shape == QUICKSTART_NUMBER else "ViT-B/32, 224 px"
        how = f"chunks of {chunk}" if chunk else "checkpointed layers" if layers else "plain"
        measured = f"{found['peak_mb'] / 1000:.2f} GB, {products / found['seconds']:.1f} images/s"
        results.append(Result("large batches", f"{name}, batch {products:,}, {how}", "-", measured))
    return results
