"""The words of ``docs/configuration.md`` about the keys of a training run."""

from __future__ import annotations

from e2fashion.schema import (
    EntityConfig,
    ImageConfig,
    LoaderConfig,
    LossConfig,
    ModelConfig,
    RunConfig,
    RunLoggingConfig,
    ScratchConfig,
    StageConfig,
    TextConfig,
    TextEntityConfig,
    TowerConfig,
    TrainConfig,
)

SECTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "train: a run",
        RunConfig,
        """`e2fashion train <config.yaml> key=value ...`.

A run goes on only in a folder of the same identity: a hash of all keys but `name`, `data`, `output`, `threads`,
`accelerator`, `logging`, `protocols`, `evaluate_splits`, `loader.workers`, `loader.cache_gb` and
`loader.evaluation_batch_size`, together with the catalogue's fingerprint.""",
    ),
)

LOGGING: dict[str, tuple[str, str]] = {
    "to": ("Loggers beside CSV: `tensorboard`, `wandb`, `mlflow`; `[]`: none ([logging.md](logging.md))", "ours"),
    "online": ("Whether W&B and MLflow may reach their servers; false: everything stays in the folder", "ours"),
}

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    RunConfig: {
        "name": ("What tables call the run", "ours"),
        "seed": ("Of weights, order, views, augmentation and selection noise", "code"),
        "data": ("A prepared catalogue", "-"),
        "output": ("The run folder", "ours"),
        "threads": ("Processor threads; null takes all", "ours"),
        "accelerator": ("`auto` takes a GPU if there is one", "ours"),
        "devices": ("Processes that train together; above 1 the loss gathers all their products", "code"),
        "nodes": ("Machines with so many devices each; start the same command on every one (README)", "ours"),
        "protocols": ("Of the evaluation at the end, separated by commas", "paper"),
        "evaluate_splits": ("Splits that the run reads at its end, separated by commas", "ours"),
    },
    RunLoggingConfig: LOGGING
    | {"figures_every": ("Epochs between sample figures of val; 0: none ([logging.md](logging.md))", "ours")},
    ModelConfig: {
        "checkpoint": ("Folder or hub name of any CLIP; null builds `model.scratch`", "ours"),
        "entities": ("Tags that selection tokens search for, in the order of regions; `{}` is plain CLIP", "paper"),
        "fusion_layers": ("Finished transformer layers behind which a fusion block stands; paper: 8, 11", "code"),
        "selection": ("One patch a token (`hard`), a mixture of all (`soft`), or any (`random`, a control)", "paper"),
        "noise": ("On the selection's logits, in training only", "code"),
        "temperature": ("Of the selection's softmax", "code"),
        "patches_per_token": ("The mean of the k best patches is read; 1 is the paper's", "paper"),
        "drop_patches": ("Layers behind the last fusion block run without the patches", "code"),
        "token_gate": (
            "Learned bias on the attention of CLS and patches to the selection tokens, at its start; -10 hides them; "
            "null: no bias, as in the authors' code",
            "ours",
        ),
        "attention": ("Implementation; `eager` is faster in bf16 on a CPU at small sizes", "ours"),
        "projection_init": ("Image projection: CLIP's own, or drawn anew as the authors' code does", "ours"),
        "text_entities": ("Tags that join the text's feature (EI-CLIP, our reading); `{}` is plain CLIP", "ours"),
        "similarity": ("One vector each (CLIP), or every patch with every token of the text (FILIP)", "CLIP"),
    },
    TextEntityConfig: {
        "column": ("Catalogue column that holds its tags; null: the one of its own name", "ours"),
    },
    EntityConfig: {
        "column": ("Catalogue column that holds its tags; null: the one of its own name", "ours"),
        "tokens": ("Selection tokens", "paper"),
    },
    ScratchConfig: {
        "patch_size": ("Pixels along a patch; `image.size` must be a multiple of it", "ours"),
        "projection_dim": ("Width of the joint image-text space", "ours"),
        "activation": ("Of the transformers' MLPs", "CLIP"),
        "tokenizer": ("Pieces of words as in CLIP, or whole words (for small data)", "CLIP"),
        "vocabulary": ("The most tokens that are learnt from the training captions", "ours"),
    },
    TowerConfig: {
        "layers": ("Transformer layers", "ours"),
        "width": ("Width of the transformer", "ours"),
        "heads": ("Attention heads; they divide the width", "ours"),
    },
    TextConfig: {
        "template": ("Global text of a product; a missing tag goes with its separator", "ours"),
        "context_length": ("Tokens that a text may have, start and end included", "CLIP"),
        "overflow": (
            "Longer texts: cut the end, keep the first whole sentences, or stretch a checkpoint's positions to "
            "`context_length` ([data.md](data.md#long-texts))",
            "CLIP",
        ),
    },
    ImageConfig: {
        "size": ("Pixels along the square", "CLIP"),
        "resize": ("Ignore the aspect ratio, cut the long edge, or pad with black", "code"),
        "flip": ("Mirror half of the training pictures", "code"),
        "crop_scale": ("Smallest share of the picture that a random training crop keeps; 1.0: none", "code"),
    },
    LoaderConfig: {
        "batch_size": ("Products per training step and process", "code"),
        "evaluation_batch_size": ("Products per step of validation", "ours"),
        "workers": ("Processes that prepare batches; 0: the training process itself", "ours"),
        "cache_gb": ("Memory for resized pictures", "ours"),
    },
    LossConfig: {
        "region_weight": ("w in `(1 - w) global + w mean of entities`; 0 is CLIP fine-tuning", "paper"),
        "token_keep": (
            "With `similarity: tokens`: share of the most active tokens to compare; FILIP: 0.25",
            "ours",
        ),
        "half_precision_gather": ("With `similarity: tokens`: processes send tokens as bf16, as FILIP does", "ours"),
        "region_targets": ("Positives of a tag: its own product, or all that share its value (ours)", "code"),
    },
    TrainConfig: {
        "optimizer": ("The authors' code uses `adam`", "ours"),
        "betas": ("Of Adam", "code"),
        "weight_decay": ("Decoupled with `adamw`", "code"),
        "warmup_steps": ("Steps of linear warm-up before the cosine", "code"),
        "gradient_clip": ("Largest norm of the gradient; null: no bound", "code"),
        "checkpoint_every_steps": ("How much a killed run may lose", "ours"),
        "precision": ("Autocast; weights stay fp32. The authors' code uses `fp16`", "ours"),
        "stages": ("Fits with an optimiser each, in this order; each starts from the best model of the last", "code"),
    },
    StageConfig: {
        "epochs": ("Passes over the training products", "-"),
        "learning_rate": ("At the end of the warm-up", "-"),
        "parameters": ("Everything, or only what a CLIP checkpoint does not bring", "ours"),
        "freeze": ("Patterns of parameter names that are not trained, as in `text_model.*`", "ours"),
    },
}
