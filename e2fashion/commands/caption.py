"""``caption train``, ``caption run`` and ``caption evaluate``."""

from __future__ import annotations

from e2fashion.commands.registry import Arguments, Commands, load_run
from e2fashion.tasks.captioning.config import CaptionEvaluateConfig, CaptionRunConfig, CaptionTrainConfig

COMMANDS = Commands("captioning.md")


@COMMANDS.add(
    "caption train",
    "<config.yaml | decoder folder> encoder=<model> data=<catalogue>",
    "train a caption decoder on texts alone (DeCap, CapDec), or resume one",
    CaptionTrainConfig,
    load=load_run,
)
def train(config: CaptionTrainConfig, arguments: Arguments) -> str:
    """Train a decoder and show its records."""
    from e2fashion.tasks.captioning.train import train_decoder

    folder = train_decoder(config, arguments.progress)
    record = folder.read_record()
    return (
        f"{folder.path}: {record['method']} for the encoder '{record['encoder']}', best epoch {record['best_epoch']} "
        f"by its loss on val, {-record['best']:.3f} per token; {record['seconds']:.0f} s"
    )


@COMMANDS.add(
    "caption run",
    "<decoder folder> <image or folder> ... [reading=project] [output=<file.csv>]",
    "caption images with a trained decoder",
    CaptionRunConfig,
    positional=("decoder", "images..."),
)
def run(config: CaptionRunConfig, arguments: Arguments) -> str:
    """One line per image; ``output`` keeps them as CSV."""
    import csv
    from pathlib import Path

    from e2fashion.disk import open_text
    from e2fashion.escape import visible
    from e2fashion.tasks.captioning.captioner import caption

    captioned = caption(config, arguments.progress)
    if config.output:
        with open_text(Path(config.output)) as stream:
            csv.writer(stream).writerows([("image", "caption"), *captioned])
    return "\n".join(f"{visible(str(item.file))}\t{visible(item.caption)}" for item in captioned)


@COMMANDS.add(
    "caption evaluate",
    "<decoder folder> data=<catalogue> split=test reading=direct,nearest,project",
    "measure captions of a split against baselines: BLEU, METEOR, ROUGE-L, CIDEr-D",
    CaptionEvaluateConfig,
    positional=("decoder",),
)
def evaluate(config: CaptionEvaluateConfig, arguments: Arguments) -> str:
    """Append records and show them as tables."""
    from e2fashion.report import keep_records
    from e2fashion.tasks.captioning.measure import evaluate_captions

    return keep_records(*evaluate_captions(config, arguments.progress), config.decoder)
