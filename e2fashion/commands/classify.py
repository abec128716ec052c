"""``classify``, ``tags fit``, ``tags predict`` and ``explain``."""

from __future__ import annotations

from e2fashion.commands.registry import Arguments, Commands
from e2fashion.tasks.classification.config import ClassifyConfig, TagsFitConfig, TagsPredictConfig
from e2fashion.tasks.localization.config import ExplainConfig

COMMANDS = Commands()


@COMMANDS.add(
    "classify",
    "<model> [config.yaml] data=<catalogue> column=<tag> features=global split=test",
    "zero-shot classification of products: accuracy, F1, confusion figure",
    ClassifyConfig,
    positional=("model",),
    page="classification.md",
)
def classify(config: ClassifyConfig, arguments: Arguments) -> str:
    """Append records and show the page of tables."""
    from e2fashion import runner

    return runner.classify(config, progress=arguments.progress)


@COMMANDS.add(
    "tags fit",
    "<model> data=<catalogue> [columns=brand,season] [accuracy=0.9]",
    "fit the thresholds of tag prediction on val and measure it on test",
    TagsFitConfig,
    positional=("model",),
    page="classification.md",
)
def fit_tags(config: TagsFitConfig, arguments: Arguments) -> str:
    """Keep thresholds, append records and show them as tables."""
    from e2fashion import runner

    return runner.tags_fit(config, progress=arguments.progress)


@COMMANDS.add(
    "tags predict",
    "<model> <image> ... [threshold=0]",
    "predict the tags of images, or none where the model is uncertain",
    TagsPredictConfig,
    positional=("model", "images..."),
    page="classification.md",
)
def predict_tags(config: TagsPredictConfig, arguments: Arguments) -> str:
    """The tags of each image."""
    from e2fashion import runner

    return runner.tags_predict(config)


@COMMANDS.add(
    "explain",
    "<model> [<image>] [text=...] [data=<catalogue> product_id=...]",
    "draw where a model looks in an image: stripe occlusion, selection maps, attention",
    ExplainConfig,
    positional=("model", "image"),
    page="explaining.md",
)
def explain(config: ExplainConfig, arguments: Arguments) -> str:
    """Draw the figure and list its panels."""
    from e2fashion import runner

    return runner.explain(config)
