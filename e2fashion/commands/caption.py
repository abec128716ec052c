"""``caption train``, ``caption run`` and ``caption evaluate``."""

from __future__ import annotations

from e2fashion.commands.registry import Arguments, Commands, load_run
from e2fashion.tasks.captioning.config import CaptionEvaluateConfig, CaptionRunConfig, CaptionTrainConfig

COMMANDS = Commands()


@COMMANDS.add(
    "caption train",
    "<config.yaml | decoder folder> encoder=<model> data=<catalogue>",
    "train a caption decoder on texts alone (DeCap, CapDec), or resume one",
    CaptionTrainConfig,
    load=load_run,
    page="captioning.md",
)
def train(config: CaptionTrainConfig, arguments: Arguments) -> str:
    """Train a decoder and show how good it is."""
    from e2fashion import runner

    return runner.caption_train(config, progress=arguments.progress)


@COMMANDS.add(
    "caption run",
    "<decoder folder> <image or folder> ... [reading=project] [output=<file.csv>]",
    "caption images with a trained decoder",
    CaptionRunConfig,
    positional=("decoder", "images..."),
    page="captioning.md",
)
def run(config: CaptionRunConfig, arguments: Arguments) -> str:
    """The caption of each image."""
    from e2fashion import runner

    return runner.caption_run(config, progress=arguments.progress)


@COMMANDS.add(
    "caption evaluate",
    "<decoder folder> data=<catalogue> split=test reading=direct,nearest,project",
    "measure captions of a split against baselines: BLEU, METEOR, ROUGE-L, CIDEr-D",
    CaptionEvaluateConfig,
    positional=("decoder",),
    page="captioning.md",
)
def evaluate(config: CaptionEvaluateConfig, arguments: Arguments) -> str:
    """Append records and show them as tables."""
    from e2fashion import runner

    return runner.caption_evaluate(config, progress=arguments.progress)
