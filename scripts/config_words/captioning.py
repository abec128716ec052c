"""The words of ``docs/configuration.md`` about the keys of captioning."""

from __future__ import annotations

from e2fashion.schema import (
    CaptionEvaluateConfig,
    CaptionFitConfig,
    CaptionMapperConfig,
    CaptionModelConfig,
    CaptionRunConfig,
    CaptionTrainConfig,
    LoggingConfig,
)
from scripts.config_words.run import LOGGING

SECTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "caption train",
        CaptionTrainConfig,
        "`e2fashion caption train <config.yaml> key=value ...` ([captioning.md](captioning.md)).",
    ),
    (
        "caption run",
        CaptionRunConfig,
        "`e2fashion caption run <decoder> <picture or folder> ... key=value ...`; `decoder` is the first word.",
    ),
    (
        "caption evaluate",
        CaptionEvaluateConfig,
        "`e2fashion caption evaluate <decoder> key=value ...`; `decoder` is the first word.",
    ),
)

READING = "`project` (into the memory), `direct`, `shifted` (by the modality offset), `nearest` (caption of the memory)"

_TELLING: dict[str, tuple[str, str]] = {
    "decoder": ("Folder of a finished `caption train`", "-"),
    "encoder": ("Where the decoder's encoder lies; null: where it lay in training", "ours"),
    "temperature": ("`project`: what similarities are multiplied with before the softmax", "DeCap"),
    "beams": ("1 is greedy (DeCap); CapDec has 5", "DeCap"),
    "length": ("The most tokens of a caption; null: as in training", "ours"),
    "length_penalty": ("Beams are compared by their log probability over length to this power", "CapDec"),
    "batch_size": ("Pictures told at once", "ours"),
    "accelerator": ("Where encoder and decoder compute; `auto` takes a GPU if there is one", "ours"),
    "threads": ("Processor threads; null takes all", "ours"),
}

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    CaptionTrainConfig: {
        "name": ("Name of the decoder's folder", "ours"),
        "encoder": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "data": ("A prepared catalogue; its texts alone are read", "-"),
        "output": ("Folder of the decoder", "ours"),
        "memory": ("Folder of support memories, which decoders may share; null: `memory/` in `output`", "ours"),
        "seed": ("Of weights, order, dropout and noise", "ours"),
        "threads": ("Processor threads; null takes all", "ours"),
        "accelerator": ("`auto` takes a GPU if there is one", "ours"),
        "method": ("`decap`: one linear prefix token. `capdec`: a transformer mapper", "ours"),
        "lm": ("`scratch`, or folder or hub name of a GPT-2 (`method: capdec`)", "DeCap"),
        "caption": ("Template of what is told", "ours"),
        "text": ("Template of what the encoder embeds; null: the one it was trained with", "ours"),
        "length": ("The most tokens of a caption, its end among them (published: 20, 67)", "ours"),
        "stop": ("A mark behind which a caption ends too (CapDec: `.`); null: none", "DeCap"),
        "prompt_entities": ("Entities whose tags stand before the caption, separated by commas", "ours"),
        "prompt_length": ("The most tokens of that prompt", "ours"),
        "memory_size": ("The most captions of the memory, and of training; a seeded choice of more", "DeCap"),
        "noise_variance": ("Per dimension, added to embeddings in training (CapDec: 0.016 at C = 512)", "DeCap"),
        "modality_offset": ("Keep mean text minus mean picture of train, for `reading=shifted`", "CapDec"),
    },
    LoggingConfig: LOGGING,
    CaptionModelConfig: {
        "layers": ("Layers of the language model from scratch", "DeCap"),
        "heads": ("Attention heads", "DeCap"),
        "width": ("Width", "DeCap"),
        "dropout": ("Of embeddings, attention and residuals", "DeCap"),
    },
    CaptionMapperConfig: {
        "length": ("Prefix tokens, and learned constants behind them", "CapDec"),
        "layers": ("Transformer layers", "CapDec"),
        "heads": ("Attention heads", "CapDec"),
    },
    CaptionFitConfig: {
        "epochs": ("Passes over the texts; the one with the least loss on val is kept", "DeCap"),
        "learning_rate": ("Of AdamW, falling in a straight line to zero", "DeCap"),
        "warmup_steps": ("Steps in which it rises, at most a tenth of all", "DeCap"),
        "batch_size": ("Captions per step (published: 2 x 64)", "DeCap"),
        "weight_decay": ("On matrices alone", "ours"),
        "label_smoothing": ("Of the cross-entropy while training", "DeCap"),
        "gradient_clip": ("Largest norm of the gradient; null: none", "ours"),
        "precision": ("Of training; `fp16` needs a GPU", "ours"),
        "checkpoint_every_steps": ("Steps between checkpoints to resume from", "ours"),
    },
    CaptionRunConfig: {
        **_TELLING,
        "reading": (READING, "DeCap"),
        "output": ("CSV file of pictures and captions; null: none", "ours"),
    },
    CaptionEvaluateConfig: {
        **_TELLING,
        "data": ("A prepared catalogue", "-"),
        "split": ("`train`, `val` or `test`", "ours"),
        "reading": (f"{READING}, separated by commas", "DeCap"),
        "baselines": ("Also the most frequent caption of train, told of every picture", "ours"),
        "tokenizer": ("`ptb` is COCO's and needs Java; `words` compares with itself alone", "field"),
        "meteor": ("`false` leaves METEOR out, which takes Java, seconds and 2 GB", "field"),
        "clip_score": ("A separate, fixed encoder for CLIPScore; null: none", "ours"),
        "workers": ("Processes that prepare pictures", "ours"),
        "output": ("Records file; null: the decoder's `results.jsonl`. Captions are kept beside it", "ours"),
    },
}
