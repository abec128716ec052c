"""The words of ``docs/configuration.md`` about the keys of classification, tags and explanations."""

from __future__ import annotations

from e2fashion.schema import ClassifyConfig, ExplainConfig, TagsFitConfig, TagsPredictConfig

SECTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "classify",
        ClassifyConfig,
        "`e2fashion classify <model> [config.yaml] key=value ...` ([classification.md](classification.md)).",
    ),
    (
        "tags fit",
        TagsFitConfig,
        "`e2fashion tags fit <model> key=value ...` ([classification.md](classification.md)).",
    ),
    (
        "tags predict",
        TagsPredictConfig,
        "`e2fashion tags predict <model> <picture> ... key=value ...` ([classification.md](classification.md)).",
    ),
    (
        "explain",
        ExplainConfig,
        "`e2fashion explain <model> [<picture>] key=value ...` ([explaining.md](explaining.md)).",
    ),
)

_ENCODING = {
    "resize": ("Overrides the saved processor's way of making a square", "ours"),
    "size": ("Overrides the saved processor's size", "ours"),
    "batch_size": ("Products per step", "ours"),
    "workers": ("Processes that prepare batches", "ours"),
    "precision": ("Of the encoder; comparisons are fp32 either way", "ours"),
    "accelerator": ("Where the encoder computes; `auto` takes a GPU if there is one", "ours"),
    "threads": ("Processor threads; null takes all", "ours"),
}
_TEMPLATES = {
    "region_weight": ("The region's share in `both`, from 0 to 1; null: the best on val", "ours"),
    "templates": ("Texts with a slot `{}` for the label; its embedding is their mean", "CLIP"),
    "region_templates": ("As `templates`, for what regions are compared with; in training the bare tag", "ours"),
}

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    ClassifyConfig: {
        **_TEMPLATES,
        **_ENCODING,
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "data": ("A prepared catalogue", "-"),
        "column": ("Tag column whose values are the classes", "-"),
        "features": (
            "`global`, `region` (the entity's own), `both` (a mean of the cosines), separated by commas",
            "ours",
        ),
        "entity": ("Whose region is read; null: the entity whose tags the column holds", "ours"),
        "split": ("Whose products are classified, among all values that occur there", "ours"),
        "wording": ("Words that stand for a value in the templates; others: the value itself", "ours"),
        "benchmark": ("Metric among the published values that stands beside ours", "ours"),
        "published": ("File of published values; null: none are shown", "ours"),
        "name": ("What tables call the model; null: its folder's name", "ours"),
        "resamples": ("Of the bootstrap behind the intervals", "ours"),
        "output": ("Records file; null: the run's `results.jsonl`, else `runs/classify/<model>/results.jsonl`", "ours"),
    },
    TagsFitConfig: {
        **_TEMPLATES,
        **_ENCODING,
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "data": ("A prepared catalogue: values of train, thresholds on val", "-"),
        "columns": ("Tag columns or entities, separated by commas; null: the entities, of a CLIP all columns", "ours"),
        "features": ("How entities are read; null: `region` of an E2, else `global`", "ours"),
        "accuracy": ("Share of val's answers that are to be right; the lowest threshold that reaches it", "ours"),
        "split": ("Where coverage and accuracy are measured; not val", "ours"),
        "name": ("What tables call the model; null: its folder's name", "ours"),
        "resamples": ("Of the bootstrap behind the intervals", "ours"),
        "file": ("What is written; null: `tags.json` in the run folder, else in `runs/tags/<model>`", "ours"),
        "output": ("Records file; null: the run's `results.jsonl`, else `runs/tags/<model>/results.jsonl`", "ours"),
    },
    TagsPredictConfig: {
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "file": ("What `tags fit` wrote; null: `tags.json` in the run folder", "ours"),
        "threshold": ("In the place of every threshold: 0 always answers", "ours"),
        "output": ("Table (CSV) that keeps the tags; null: they are only shown", "ours"),
        "batch_size": ("Pictures that are embedded at once", "ours"),
        "accelerator": ("Where the encoder computes; `auto` takes a GPU if there is one", "ours"),
        "threads": ("Processor threads; null takes all", "ours"),
    },
    ExplainConfig: {
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "image": ("A picture's file; may be the second word", "-"),
        "data": ("A prepared catalogue, in the place of `image`", "-"),
        "product_id": ("The product of `data` whose first picture is explained", "-"),
        "text": ("What occlusion looks for; several separated by `|`; null: a product's description and tags", "field"),
        "methods": ("`occlusion`, `tokens`, `attention`, `rollout`; null: the first two where they apply", "ours"),
        "square": ("Before occlusion: padded with grey as FashionCLIP does, or squared the model's own way", "field"),
        "grid": ("Rows and columns on which bands begin and end", "ours"),
        "name": ("What the figure calls the model; null: its folder's name", "ours"),
        "resize": ("Overrides the saved processor's way of making a square", "ours"),
        "size": ("Overrides the saved processor's size", "ours"),
        "batch_size": ("Masked pictures that are embedded at once; a GPU takes more", "ours"),
        "precision": (
            "Of the encoder; `bf16`: half of the time on processors that have it",
            "ours",
        ),
        "accelerator": ("Where the encoder computes; `auto` takes a GPU if there is one", "ours"),
        "threads": ("Processor threads; null takes all", "ours"),
        "output": ("The figure (PNG); null: in `runs/explain/<model>/`", "ours"),
    },
}
