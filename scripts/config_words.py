"""What every key of the schema means and where its default comes from: the words of ``docs/configuration.md``."""

from __future__ import annotations

from e2fashion.schema import (
    AblationConfig,
    CompareConfig,
    DescribeConfig,
    EntityConfig,
    EvaluateConfig,
    ImageConfig,
    LoaderConfig,
    LossConfig,
    ModelConfig,
    PrepareConfig,
    ProbeConfig,
    RunConfig,
    ScratchConfig,
    StageConfig,
    TextConfig,
    TextEntityConfig,
    TowerConfig,
    TrainConfig,
)

HEADER = """# Configuration

Made by `python -m scripts.config_reference` from the schema in `e2fashion/schema.py`; a test compares the two.

A configuration is a YAML file. It may name `base: [files relative to it]`: bases are merged in order, then the file,
then the `key=value` words of the command line. Everything is checked against the schema before work begins; a misspelt
key is an error that suggests the right one. Mappings are merged: to remove an entity or a stage write `null` for it
(`model.entities.season=null`), to remove all of them `{}`. Values are YAML; those with blanks or braces need the
shell's quotes: `"text.template={brand} . {description}"`.

Source of a default: **paper** (Qi, Zhao, Li, NeurIPS 2024), **code** (the authors' public code), **CLIP** (OpenAI's
model), **field** (how others evaluate), or **ours**. Defaults are those of the schema; the files in `configs/` set what
a run needs, `configs/train/_paper.yaml` the published recipe.
"""

SECTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "train: a run",
        RunConfig,
        """`e2fashion train <config.yaml> key=value ...`.

A run goes on only in a folder of the same identity: a hash of all keys but `name`, `data`, `output`, `threads`,
`accelerator`, `protocols`, `evaluate_splits`, `loader.workers`, `loader.cache_gb` and
`loader.evaluation_batch_size`, together with the catalogue's fingerprint.""",
    ),
    ("evaluate", EvaluateConfig, "`e2fashion evaluate <model> key=value ...`; `model` is the first word."),
    (
        "probe",
        ProbeConfig,
        "`e2fashion probe <model> key=value ...`; `model` is the first word ([probing.md](probing.md)).",
    ),
    (
        "data prepare",
        PrepareConfig,
        "`e2fashion data prepare <source> [config.yaml] key=value ...`; `source` may be the first word.",
    ),
    (
        "data describe",
        DescribeConfig,
        "`e2fashion data describe <catalogue> key=value ...`; `catalogue` is the first word.",
    ),
    (
        "compare",
        CompareConfig,
        "`e2fashion compare <baseline.yaml> <config.yaml> ... key=value ...`; every other key goes to every run.",
    ),
    (
        "ablate",
        AblationConfig,
        """`e2fashion ablate <ablation.yaml> key=value ... [--dry-run] [--only ROW] [--jobs N]`.

Every other key goes to the base, and so to every row: `train.precision=fp32`.""",
    ),
)

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
        "context_length": ("Tokens, start and end included; longer texts are cut, the end token kept", "CLIP"),
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
    EvaluateConfig: {
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "data": ("A prepared catalogue", "-"),
        "protocol": ("`full`, `full_multiview`, `sample_100`, separated by commas", "paper"),
        "split": ("`train`, `val`, `test`, separated by commas", "ours"),
        "name": ("What tables call the model; null: its folder's name", "ours"),
        "text": ("Template of the text; null: the one saved with the model, else the description", "ours"),
        "with_tags": ("`false` drops the tags from the template", "code"),
        "selection": ("Patches that are compared with true regions: `tokens`, `attention`, `occlusion` (dear)", "ours"),
        "resize": ("Overrides the saved processor's way of making a square", "ours"),
        "size": ("Overrides the saved processor's size", "ours"),
        "queries": ("`sample_100`: products that ask; null: all", "field"),
        "draws": ("`sample_100`: lists per query, pooled", "field"),
        "fill": ("`sample_100`: where a sub-category is too small, say so or `top_up` from others", "paper"),
        "seed": ("`sample_100`: of the candidate lists", "ours"),
        "batch_size": ("Products per step", "ours"),
        "workers": ("Processes that prepare batches", "ours"),
        "precision": ("`bf16` is faster; ranks are fp32 either way", "ours"),
        "accelerator": ("Where the encoder computes; `auto` takes a GPU if there is one", "ours"),
        "threads": ("Processor threads; null takes all", "ours"),
        "output": ("Records file; null: the run's `results.jsonl`, else `runs/evaluate/<model>/results.jsonl`", "ours"),
        "candidates": (
            "`sample_100`: folder that keeps its lists; null: `candidates/` beside the records. Lists in the "
            "catalogue's own `candidates/` are used as they are",
            "ours",
        ),
    },
    ProbeConfig: {
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "data": ("A prepared catalogue", "-"),
        "entity": ("Tag columns, or entities of the model, separated by commas", "-"),
        "features": ("`global`, `region` (the entity's own), `both` side by side, separated by commas", "ours"),
        "split": ("Where the probe is measured; it is fitted on train, its regularisation chosen on val", "ours"),
        "name": ("What tables call the model; null: its folder's name", "ours"),
        "min_examples": ("Classes with fewer products in train are left out and counted", "ours"),
        "fibre_columns": ("Columns of compositions: their classes are dominant fibres", "ours"),
        "shots": ("Examples per class of the few-shot curve, as in `1,4,16`; empty: none", "ours"),
        "draws": ("Random draws of those examples, averaged", "ours"),
        "strengths": ("Weights of half the squared norm beside the mean cross-entropy; val chooses", "ours"),
        "tolerance": ("A fit has converged when no component of its gradient is larger", "scikit-learn"),
        "max_iterations": ("A fit that needs more is reported as not converged", "ours"),
        "resamples": ("Of the bootstrap behind the intervals", "ours"),
        "seed": ("Of the draws and the bootstrap", "ours"),
        "resize": ("Overrides the saved processor's way of making a square", "ours"),
        "size": ("Overrides the saved processor's size", "ours"),
        "batch_size": ("Products per step", "ours"),
        "workers": ("Processes that prepare batches", "ours"),
        "precision": ("Of the encoder; fits are fp32 either way", "ours"),
        "accelerator": ("Where the encoder and the fits compute; `auto` takes a GPU if there is one", "ours"),
        "threads": ("Processor threads; null takes all", "ours"),
        "output": ("Records file; null: the run's `results.jsonl`, else `runs/probe/<model>/results.jsonl`", "ours"),
    },
    PrepareConfig: {
        "source": ("`kagl`, `fashiongen`, `folder`, `labelled`, `synthetic`", "-"),
        "output": ("The catalogue's folder", "-"),
        "on_error": ("`skip` leaves unfit rows out, counts them and lists them in `skipped.csv`", "ours"),
        "split_seed": ("Of the splits that are made here", "ours"),
        "val_fraction": ("Share of rows, where the source brings no val split", "ours"),
        "test_fraction": ("Share of rows, where the source brings no splits", "ours"),
        "max_text_characters": ("Longer descriptions are errors", "ours"),
        "max_pixels": ("Larger pictures are errors; read from the header, before decoding", "ours"),
        "overwrite": ("Replace another catalogue that lies in `output`", "ours"),
    },
    DescribeConfig: {
        "catalogue": ("A prepared catalogue", "-"),
        "tokenizer": ("Run folder, model folder or hub name whose tokenizer counts; null: words and marks", "ours"),
        "template": ("Text whose length is counted, as `text.template` of a run", "ours"),
        "context_length": ("Longer texts are counted; null: the tokenizer's own, else 77", "CLIP"),
    },
    CompareConfig: {
        "data": ("A prepared catalogue", "-"),
        "output": ("Folder of the report; each run gets a folder in it", "ours"),
        "split": ("Split that the report is about", "ours"),
        "gallery_products": ("Rows of each figure", "ours"),
    },
    AblationConfig: {
        "data": ("A prepared catalogue", "-"),
        "base": ("Run configuration that the rows change; relative to the file that names it", "-"),
        "rows": ("What each row changes: dotted keys of a run and their values; `{}` is the base itself", "-"),
        "seeds": ("Each row is trained once with each", "ours"),
        "baseline": ("Row that the others are compared with; null: no differences", "ours"),
        "optional": ("Rows that are left out, and listed, where the base lacks what they remove", "ours"),
        "split": ("Splits that every run is evaluated on, separated by commas", "ours"),
        "name": ("What the report is called; null: the file's name", "ours"),
        "output": ("Folder of the report and of the runs, `<row>/seed<k>`", "ours"),
        "reuse": ("Folders whose finished runs of the same identity are not trained again", "ours"),
    },
}
