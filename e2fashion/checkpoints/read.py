"""A checkpoint in another layout as a model folder of ours, with everything that its state dict does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CLIPModel, PreTrainedTokenizerBase

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.checkpoints.files import StateFile, read_state_file
from e2fashion.checkpoints.official_e2 import official_e2_to_e2
from e2fashion.checkpoints.open_clip import (
    CONFIG_FILE,
    OpenClipConfig,
    agreed_activation,
    check_features,
    named_activation,
    read_open_clip_config,
    read_reference,
    without_text_prefix,
)
from e2fashion.checkpoints.openai import (
    LAYOUT_NAMES,
    Facts,
    OpenAIShape,
    check_openai_rules,
    check_state,
    clip_from_openai,
    openai_shapes,
    shape_of,
)
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD, ImageTransform
from e2fashion.disk import write_checksums
from e2fashion.encoder import Encoder
from e2fashion.hub import checked_hub_name
from e2fashion.models.tokenizer import load_tokenizer, text_special_ids
from e2fashion.types import E2FashionError

NO_TOKENIZER = "none"
#: The official code's global text; that of the others is the description alone.
TEMPLATES = {"e2_official": "{composition}.{sub_category}.{brand}.{season}.{description}"}
#: In open_clip an image tower wider than this has heads of another width than 64 (88, 104 ...), which only the
#: configuration says.
WIDEST_BY_RULE = 1024
ACTIVATION_REMEDY = (
    f"name it as activation=quick_gelu or activation=gelu, or name the {CONFIG_FILE} of the checkpoint as config=; "
    "check= with features of the original proves it"
)


@dataclass(frozen=True)
class Imported:
    """A model with what prepares its input, and notes on how it was read."""

    model: CLIPModel
    tokenizer: PreTrainedTokenizerBase | None
    transform: ImageTransform
    template: str
    notes: list[str]

    def save(self, folder: Path, name: str, origin: str) -> None:
        """Write the model folder; without a tokenizer only the image side of it is complete."""
        if self.tokenizer is None:
            self.model.save_pretrained(folder)
            self.transform.to_processor().save_pretrained(folder)
            write_checksums(folder)
            return
        template = TextTemplate(self.template)
        Encoder(self.model, self.tokenizer, self.transform, template, name).save_pretrained(folder, origin)


def import_checkpoint(config: ConvertConfig) -> Imported:
    """Read the state dict of a configuration as the layout that it names.

    Raises:
        E2FashionError: anything in it or about it that is missing, unknown, contradicted or does not fit.
    """
    if config.tokenizer is None:
        raise E2FashionError(
            "which tokenizer goes along? A state dict holds none. Name a folder that has it, the hub name of a CLIP "
            "with the same one (tokenizer=openai/clip-vit-base-patch32), or tokenizer=none for images alone"
        )
    file = Path(config.checkpoint)
    reference = read_reference(config.check) if config.check else None
    read = read_state_file(file)
    state = without_text_prefix(read.tensors) if config.source == "open_clip" else read.tensors
    sizes = OpenAIShape.of(state, f"'{file}'")
    tokenizer = None if config.tokenizer == NO_TOKENIZER else _fitting_tokenizer(config.tokenizer, sizes)
    special = {} if tokenizer is None else text_special_ids(tokenizer)
    described = _open_clip_config(file, config, sizes)
    activation, sources = _activation(file, config, read, described)
    notes: list[str] = []
    dropped: list[str] = []
    model: CLIPModel
    if config.source == "e2_official":
        model = official_e2_to_e2(state, config.fusion_layers, special, dropped)
        notes.append(
            "the last entity's region is the mean of both its tokens; the official code pools the first alone, so "
            "this one region differs from what that code computes"
        )
    else:
        heads = _heads(config, described, sizes)
        dropped = check_state(state, openai_shapes(sizes), sizes, LAYOUT_NAMES[config.source])
        if config.source == "openai":
            check_openai_rules(sizes, f"'{file}'")
        model = clip_from_openai(state, sizes, Facts(activation, *heads, special))
    if dropped:
        notes.insert(0, f"left behind, for nothing reads them ({len(dropped)}): {', '.join(dropped)}")
    if reference is not None:
        largest, other = check_features(model, reference, config.tolerance)
        notes.append(
            f"features in '{config.check}' agree: largest difference {largest:.2g} (with the other activation "
            f"{other:.2g})"
        )
    transform = ImageTransform(
        sizes.image_size,
        config.resize or described.resize or "crop",
        described.mean or CLIP_MEAN,
        described.std or CLIP_STD,
    )
    template = config.template or TEMPLATES.get(config.source, "{description}")
    first = [_sizes_note(model), f"activation: {activation} ({sources})", *_token_notes(config, tokenizer, described)]
    first.append(f"images become squares by {transform.resize}; global text: {template}")
    return Imported(model, tokenizer, transform, template, [*first, *read.notes, *notes])


def _fitting_tokenizer(source: str, sizes: OpenAIShape) -> PreTrainedTokenizerBase:
    """A tokenizer with one token per row of the embedding, whose end token is where OpenAI's layout reads a text."""
    if not Path(source).expanduser().is_dir():
        checked_hub_name(source, "tokenizer")
    tokenizer = load_tokenizer(source)
    highest = max(tokenizer.get_vocab().values())
    if len(tokenizer) != sizes.vocabulary or highest >= sizes.vocabulary:
        raise E2FashionError(
            f"tokenizer '{source}' has {len(tokenizer)} tokens with ids up to {highest}, and the token embedding has "
            f"{sizes.vocabulary} rows: name the one that the checkpoint was trained with (CLIP's has 49408)"
        )
    end = text_special_ids(tokenizer)["eos_token_id"]
    if end != sizes.vocabulary - 1:
        raise E2FashionError(
            f"tokenizer '{source}' ends a text with id {end}; this layout reads a text at its largest id, so the end "
            f"token must be the last, {sizes.vocabulary - 1}. Name the one that the checkpoint was trained with"
        )
    if tokenizer.model_max_length > sizes.context:
        tokenizer.model_max_length = sizes.context
    return tokenizer


def _open_clip_config(file: Path, config: ConvertConfig, sizes: OpenAIShape) -> OpenClipConfig:
    """The configuration that is named, or the one next to the checkpoint; without one it says nothing."""
    if config.source != "open_clip":
        if config.config:
            raise E2FashionError(f"config= belongs to source=open_clip; {LAYOUT_NAMES[config.source]} has none")
        return OpenClipConfig()
    path = Path(config.config) if config.config else file.parent / CONFIG_FILE
    return read_open_clip_config(path, sizes) if config.config or path.is_file() else OpenClipConfig()


def _activation(file: Path, config: ConvertConfig, read: StateFile, described: OpenClipConfig) -> tuple[str, str]:
    """The activation and who says so."""
    declared: dict[str, str] = {}
    if config.source != "open_clip":
        declared[f"{LAYOUT_NAMES[config.source]} knows no other"] = "quick_gelu"
    if described.activation:
        declared[config.config or CONFIG_FILE] = described.activation
    if config.source == "open_clip":
        named = {f"the file's name {file.name}": file.name, f"its folder's name {file.parent.name}": file.parent.name}
        declared |= named_activation(named | {f"'{key}' within the file": text for key, text in read.texts.items()})
    if config.activation:
        declared["activation="] = config.activation
    remedy = ACTIVATION_REMEDY
    if config.source == "openai":
        remedy = "weights that open_clip fine-tuned have the same keys: source=open_clip takes either activation"
    return agreed_activation(declared, remedy), ", ".join(declared)


def _heads(config: ConvertConfig, described: OpenClipConfig, sizes: OpenAIShape) -> tuple[int | None, int | None]:
    """Heads of the image and the text tower; None where OpenAI's rule of width 64 holds."""
    if config.source == "openai":
        if config.vision_heads or config.text_heads:
            raise E2FashionError(
                "OpenAI's layout has heads of width 64: vision_heads and text_heads belong to open_clip"
            )
        return None, None
    for key in ("vision_heads", "text_heads"):
        given, known = getattr(config, key), getattr(described, key)
        if given and known and given != known:
            raise E2FashionError(
                f"{key} is {given}, and the configuration of the checkpoint says {known}: leave it out"
            )
    vision = config.vision_heads or described.vision_heads
    if vision is None and sizes.vision_width > WIDEST_BY_RULE:
        raise E2FashionError(
            f"an open_clip image tower of width {sizes.vision_width} does not have heads of width 64 as a rule: name "
            f"its {CONFIG_FILE} as config=, or vision_heads="
        )
    return vision, config.text_heads or described.text_heads


def _sizes_note(model: CLIPModel) -> str:
    sizes = shape_of(model)
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    return (
        f"{model.num_parameters():,} parameters; image tower: {sizes.vision_layers} layers of width "
        f"{sizes.vision_width}, {vision.num_attention_heads} heads, patches of {sizes.patch_size} px at "
        f"{sizes.image_size} px; text tower: {sizes.text_layers} layers of width {sizes.text_width}, "
        f"{text.num_attention_heads} heads, {sizes.context} positions; joint space {sizes.joint}"
    )


def _token_notes(
    config: ConvertConfig, tokenizer: PreTrainedTokenizerBase | None, described: OpenClipConfig
) -> list[str]:
    if tokenizer is None:
        note = (
            "no tokenizer: texts cannot be embedded, and load_encoder refuses the folder until it holds one; "
            "Transformers' CLIPModel takes images, and token ids that you make yourself"
        )
    else:
        note = (
            f"tokenizer: '{config.tokenizer}', {len(tokenizer):,} tokens as the embedding has rows; texts are read "
            f"at the end token {text_special_ids(tokenizer)['eos_token_id']}"
        )
    if not described.tokenizer:
        return [note]
    return [note, f"the configuration names the tokenizer '{described.tokenizer}': see that this is the same one"]
