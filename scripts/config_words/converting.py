"""The words of ``docs/configuration.md`` about the keys of conversions."""

from __future__ import annotations

from e2fashion.schema import ConvertConfig

SECTIONS: tuple[tuple[str, type, str], ...] = (
    ("convert", ConvertConfig, "`e2fashion convert <checkpoint> key=value ...` ([checkpoints.md](checkpoints.md))."),
)

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    ConvertConfig: {
        "checkpoint": ("With `source=` a state dict's file; with `target=` a run, a model folder or a hub name", "-"),
        "source": ("Layout of the checkpoint; `folder` is ours, that of Transformers", "ours"),
        "target": ("Layout to write; one of the two is `folder`", "ours"),
        "output": ("The folder that is written", "-"),
        "tokenizer": (
            "Folder or hub name of the tokenizer that goes along; `none`: pictures alone; must be given",
            "-",
        ),
        "activation": (
            "Of the MLPs; null: what the layout or its configuration says, and an error where none does",
            "-",
        ),
        "config": ("open_clip's configuration; null: `open_clip_config.json` beside the checkpoint", "ours"),
        "vision_heads": ("Attention heads; null: the configuration's, else heads of width 64", "CLIP"),
        "text_heads": ("The same of the text tower", "CLIP"),
        "fusion_layers": ("Behind which layers the official code fuses; not in its state dict", "code"),
        "resize": ("How pictures become squares; null: the configuration's, else `crop`", "CLIP"),
        "template": ("Global text; null: the official code's for `e2_official`, else `{description}`", "code"),
        "check": ("Safetensors file of features that the original computed, to compare with", "ours"),
        "tolerance": ("Largest difference of a component of unit vectors to those features; fp16 needs 1e-3", "ours"),
        "lossy": ("`true` writes an E2 as a plain CLIP, without tokens, fusion blocks and regions", "ours"),
        "overwrite": ("`true` replaces a conversion that lies in the folder", "ours"),
    },
}
