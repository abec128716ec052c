"""What end-to-end tests share: the smallest run that has every part, and a random CLIP checkpoint as others save it."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from e2fashion.models import E2Model
from e2fashion.models.tokenizer import text_special_ids, train_tokenizer

#: Overrides of a run that trains in about a second on the catalogue of conftest.py.
TINY = [
    "model.entities={brand: {}, season: {}}",
    "model.fusion_layers=[1]",
    "model.scratch.vision={layers: 2, width: 16, heads: 2}",
    "model.scratch.text={layers: 1, width: 16, heads: 2}",
    "model.scratch.projection_dim=8",
    "model.scratch.tokenizer=word",
    "model.scratch.patch_size=8",
    "image={size: 32, resize: squeeze, flip: true}",
    "text.template={brand} . {description}",
    "loader.batch_size=16",
    "accelerator=cpu",
    "logging={to: [], figures_every: 0}",
    "train.warmup_steps=2",
    "train.checkpoint_every_steps=2",
    "train.stages.main={epochs: 2, learning_rate: 0.01}",
]


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Equal names, and equal values to the bit."""
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def saved_weights(folder: Path) -> E2Model:
    """The model of a folder."""
    return E2Model.from_pretrained(folder)


def save_random_clip(
    folder: Path, texts: list[str], layers: int = 2, image_size: int = 32, patch_size: int = 8
) -> Path:
    """A plain CLIP with random weights, its BPE tokenizer trained on ``texts``, and its processor."""
    tokenizer = train_tokenizer(texts, kind="bpe", vocabulary=600, context_length=77)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={**tower, "num_hidden_layers": layers, "image_size": image_size, "patch_size": patch_size},
        text_config={
            **tower,
            "num_hidden_layers": 1,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 77,
            **text_special_ids(tokenizer),
        },
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    size = {"shortest_edge": image_size}
    crop = {"height": image_size, "width": image_size}
    processor = CLIPImageProcessorPil(size=size, crop_size=crop)
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder
