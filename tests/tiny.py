"""What end-to-end tests share: the smallest run that has every part, and random checkpoints as others save them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

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


def siglip_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of words with the special tokens of SigLIP 2's, which as published ones gives no attention mask."""
    words = Tokenizer(WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(texts, WordLevelTrainer(special_tokens=["<pad>", "<eos>", "<unk>"], show_progress=False))
    words.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=64,
        model_input_names=["input_ids"],
    )


def save_random_siglip(folder: Path, texts: list[str]) -> Path:
    """A SigLIP with random weights, its processor, and :func:`siglip_tokenizer`.

    As in published checkpoints the configuration has another padding than the tokenizer.
    """
    tokenizer = siglip_tokenizer(texts)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = SiglipConfig(
        vision_config={**tower, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
        text_config={**tower, "num_hidden_layers": 1, "vocab_size": len(tokenizer)},
    )
    torch.manual_seed(0)
    model = SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(2.5)
        model.logit_bias.fill_(-5.0)
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
