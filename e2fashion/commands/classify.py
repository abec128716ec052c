"""``classify``, ``tags fit``, ``tags predict`` and ``explain``."""

from __future__ import annotations

from pathlib import Path

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.classification.config import ClassifyConfig, TagsFitConfig, TagsPredictConfig
from e2fashion.tasks.localization.config import ExplainConfig

COMMANDS = Commands("classification.md")


@COMMANDS.add(
    "classify",
    "<model> [config.yaml] data=<catalogue> column=<tag> features=global split=test",
    "zero-shot classification of products: accuracy, F1, confusion figure",
    ClassifyConfig,
    positional=("model",),
)
def classify(config: ClassifyConfig, arguments: Arguments) -> str:
    """Append records, write a page with tables and confusion figures, and show it."""
    from e2fashion.report import keep_records
    from e2fashion.tasks.classification.classify import classify
    from e2fashion.tasks.classification.tables import published_rows, write_classification

    published = published_rows(config)
    result = classify(config, arguments.progress)
    keep_records(result.results, result.records, config.model)
    page = write_classification(result, published)
    return f"{page}\n\n{page.read_text(encoding='utf-8')}"


@COMMANDS.add(
    "tags fit",
    "<model> data=<catalogue> [columns=brand,season] [accuracy=0.9]",
    "fit the thresholds of tag prediction on val and measure it on test",
    TagsFitConfig,
    positional=("model",),
)
def fit_tags(config: TagsFitConfig, arguments: Arguments) -> str:
    """Store thresholds, append records and show them as tables."""
    from e2fashion.report import keep_records
    from e2fashion.tasks.classification.tags import fit_tags

    fitted = fit_tags(config, arguments.progress)
    return f"{fitted.file}: thresholds chosen on val; {keep_records(fitted.results, fitted.records, config.model)}"


@COMMANDS.add(
    "tags predict",
    "<model> <image or folder> ... [threshold=0] [on_error=skip]",
    "predict the tags of images, or none where the model is uncertain",
    TagsPredictConfig,
    positional=("model", "images..."),
)
def predict_tags(config: TagsPredictConfig, arguments: Arguments) -> str:
    """The tags of each image, and what was skipped; ``output`` keeps the tags as CSV."""
    import csv

    from e2fashion.disk import open_text
    from e2fashion.tasks.classification.tag_predictor import predict_tags

    predicted, skipped = predict_tags(config)
    if config.output:
        with open_text(Path(config.output)) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["image", "entity", "value", "nearest", "probability"])
            for image, tags in predicted:
                for entity, tag in tags.items():
                    writer.writerow([image, entity, tag.value or "", tag.best, f"{tag.score:.4f}"])
    lines = []
    for image, tags in predicted:
        lines.append(image)
        for entity, tag in tags.items():
            answer = tag.value if tag.value is not None else f"(not sure; nearest: {tag.best})"
            lines.append(f"  {entity}: {answer}  {100 * tag.score:.0f} %")
    if skipped:
        lines += [f"{len(skipped)} of {len(predicted) + len(skipped)} images were skipped:"]
        lines += [f"  {why}" for why in skipped]
    return "\n".join(lines)


@COMMANDS.add(
    "explain",
    "<model> [<image>] [text=...] [data=<catalogue> product_id=...]",
    "draw attribution maps of an image: stripe occlusion, selection maps, attention",
    ExplainConfig,
    positional=("model", "image"),
    page="explaining.md",
)
def explain(config: ExplainConfig, arguments: Arguments) -> str:
    """Draw the figure and list its panels."""
    from e2fashion.tasks.localization.explain import explain

    explained = explain(config)
    file = explained.draw(Path(config.output) if config.output else None)
    lines = [f"{file}:", *(f"  {': '.join(filter(None, (item.heading, item.subject)))}" for item in explained.maps)]
    if flat := [item.subject for item in explained.maps if not item.heatmap.heat.any()]:
        lines.append(f"No band serves better than the whole image: {'; '.join(flat)}.")
    return "\n".join(lines)
