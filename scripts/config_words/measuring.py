"""The words of ``docs/configuration.md`` about the keys of what measures a trained encoder."""

from __future__ import annotations

from e2fashion.schema import (
    EvaluateConfig,
    ProbeConfig,
)

SECTIONS: tuple[tuple[str, type, str], ...] = (
    ("evaluate", EvaluateConfig, "`e2fashion evaluate <model> key=value ...`; `model` is the first word."),
    (
        "probe",
        ProbeConfig,
        "`e2fashion probe <model> key=value ...`; `model` is the first word ([probing.md](probing.md)).",
    ),
)

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    EvaluateConfig: {
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "data": ("A prepared catalogue", "-"),
        "protocol": ("`full`, `full_multiview`, `sample_100`, separated by commas", "paper"),
        "split": ("`train`, `val`, `test`, separated by commas", "ours"),
        "name": ("What tables call the model; null: its folder's name", "ours"),
        "text": ("Template of the text; null: the one saved with the model, else the description", "ours"),
        "with_tags": ("`false` drops the tags from the template", "code"),
        "selection": ("Patches against true regions: `tokens`, `attention`, `rollout`, `occlusion` (dear)", "ours"),
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
}
