"""A checkpoint of others as a model folder of ours, with everything that its state dict does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import CLIPModel, PreTrainedTokenizerBase

from e2fashion.checkpoints.activation import (
    agreed_activation,
    check_features,
    named_activation,
    read_reference,
)
from e2fashion.checkpoints.files import StateFile, read_state_file
from e2fashion.checkpoints.names import Facts, clip_from_openai, shape_of
from e2fashion.checkpoints.official_e2 import OFFICIAL_FUSION_LAYERS, official_e2_to_e2
from e2fashion.checkpoints.open_clip import (
    CONFIG_FILE,
    OpenClipConfig,
    read_open_clip_config,
    without_text_prefix,
)
from e2fashion.checkpoints.shapes import OpenAIShape, check_openai_rules, check_state, openai_shapes
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD, ImageTransform, Resize
from e2fashion.disk import write_checksums
from e2fashion.encoder import Encoder
from e2fashion.hub import checked_hub_name
from e2fashion.models.tokenizer import load_tokenizer, text_special_ids
from e2fashion.types import E2FashionError

Foreign = Literal["openai", "open_clip", "e2_official"]
NO_TOKENIZER = "none"
LAYOUT_NAMES: dict[Foreign, str] = {
    "openai": "OpenAI's CLIP",
    "open_clip": "open_clip",
    "e2_official": "the official E2 code",
}
#: The official code's global text; the others' reads the description alone.
TEMPLATES = {"e2_official": "{composition}.{sub_category}.{brand}.{season}.{description}"}
#: In open_clip an image tower wider than this has heads of another width than 64 (88, 104 ...), which only the
#: configuration says.
WIDEST_BY_RULE = 1024
ACTIVATION_REMEDY = (
    f"name it as activation=quick_gelu or activation=gelu, or name the {CONFIG_FILE} of the checkpoint as config=; "
    "check= with features of the original proves it"
)


@dataclass(frozen=True)
class ImportSettings:
    """What a state dict does not hold; see :class:`e2fashion.checkpoints.config.ConvertConfig`."""

    source: Foreign
    tokenizer: str | None = None
    activation: str | None = None
    config: str | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    fusion_layers: Sequence[int] = OFFICIAL_FUSION_LAYERS
    resize: Resize | None = None
    template: str | None = None
    check: str | None = None
    tolerance: float = 1e-3


@dataclass
class Imported:
    """A model with what prepares its input, and what there is to say of how it came about."""

    model: CLIPModel
    tokenizer: PreTrainedTokenizerBase | None
    transform: ImageTransform
    template: str
    said: list[str] = field(default_factory=list)

    def save(self, folder: Path, name: str, origin: str) -> None:
        """Write the model folder; without a tokenizer only the image side of it is complete."""
        if self.tokenizer is None:
            self.model.save_pretrained(folder)
            self.transform.to_processor().save_pretrained(folder)
            write_checksums(folder)
            return
        template = TextTemplate(self.template)
        Encoder(self.model, self.tokenizer, self.transform, template, name).save_pretrained(folder, origin)


def import_checkpoint(file: Path, settings: ImportSettings) -> Imported:
    """Read a state dict as the layout that is named.

    Raises:
        E2FashionError: anything in it or about it that is missing, unknown, contradicted or does not fit.
    """
    if settings.tokenizer is None:
        raise E2FashionError(
            "which tokenizer goes along? A state dict holds none. Name a folder that has it, the hub name of a CLIP "
            "with the same one (tokenizer=openai/clip-vit-base-patch32), or tokenizer=none for pictures alone"
        )
    reference = read_reference(settings.check) if settings.check else None
    read = read_state_file(file)
    state, where = read.tensors, f"'{file}'"
    if settings.source == "open_clip":
        state = without_text_prefix(state)
    sizes = OpenAIShape.of(state, where)
    tokenizer = None if settings.tokenizer == NO_TOKENIZER else _fitting_tokenizer(settings.tokenizer, sizes)
    special = {} if tokenizer is None else text_special_ids(tokenizer)
    config = _open_clip_config(file, settings, sizes)
    activation, who = _activation(file, settings, read, config)
    dropped: list[str] = []
    model: CLIPModel
    if settings.source == "e2_official":
        model = official_e2_to_e2(state, settings.fusion_layers, special, dropped)
    else:
        vision_heads, text_heads = _heads(settings, config, sizes)
        dropped = check_state(state, openai_shapes(sizes), sizes, LAYOUT_NAMES[settings.source])
        if settings.source == "openai":
            check_openai_rules(sizes, where)
        model = clip_from_openai(state, sizes, Facts(activation, vision_heads, text_heads, special))
    transform = ImageTransform(
        sizes.image_size,
        settings.resize or (config.resize if config else None) or "crop",
        (config.mean if config else None) or CLIP_MEAN,
        (config.std if config else None) or CLIP_STD,
    )
    template = settings.template or TEMPLATES.get(settings.source, "{description}")
    said = [_sizes_line(model), f"activation: {activation} ({who})", *_token_lines(settings, tokenizer, config)]
    said.append(f"pictures become squares by {transform.resize}; global text: {template}")
    said += read.notes
    if dropped:
        said.append(f"left behind, for nothing reads them ({len(dropped)}): {', '.join(dropped)}")
    if settings.source == "e2_official":
        said.append(
            "the last entity's region is the mean of both its tokens; the official code pools the first alone, so "
            "this one region differs from what that code computes"
        )
    if reference is not None:
        largest, other = check_features(model, reference, settings.tolerance)
        said.append(
            f"features in '{settings.check}' agree: largest difference {largest:.2g} (with the other activation "
            f"{other:.2g})"
        )
    return Imported(model, tokenizer, transform, template, said)


def _fitting_tokenizer(place: str, sizes: OpenAIShape) -> PreTrainedTokenizerBase:
    """A tokenizer with one token per row of the embedding, whose end token is where OpenAI's layout reads a text."""
    if not Path(place).expanduser().is_dir():
        checked_hub_name(place, "tokenizer")
    tokenizer = load_tokenizer(place)
    if len(tokenizer) != sizes.vocabulary:
        raise E2FashionError(
            f"tokenizer '{place}' has {len(tokenizer)} tokens, and the token embedding has {sizes.vocabulary} rows: "
            "name the one that the checkpoint was trained with (CLIP's has 49408)"
        )
    end = text_special_ids(tokenizer)["eos_token_id"]
    if end != sizes.vocabulary - 1:
        raise E2FashionError(
            f"tokenizer '{place}' ends a text with id {end}; this layout reads a text at its largest id, so the end "
            f"token must be the last, {sizes.vocabulary - 1}. Name the one that the checkpoint was trained with"
        )
    if tokenizer.model_max_length > sizes.context:
        tokenizer.model_max_length = sizes.context
    return tokenizer


def _open_clip_config(file: Path, settings: ImportSettings, sizes: OpenAIShape) -> OpenClipConfig | None:
    """The configuration that is named, or the one that lies beside the checkpoint."""
    if settings.source != "open_clip":
        if settings.config:
            raise E2FashionError(f"config= belongs to source=open_clip; {LAYOUT_NAMES[settings.source]} has none")
        return None
    place = Path(settings.config) if settings.config else file.parent / CONFIG_FILE
    return read_open_clip_config(place, sizes) if settings.config or place.is_file() else None


def _activation(
    file: Path, settings: ImportSettings, read: StateFile, config: OpenClipConfig | None
) -> tuple[str, str]:
    """The activation and who says so."""
    declared: dict[str, str] = {}
    if settings.source != "open_clip":
        declared[f"{LAYOUT_NAMES[settings.source]} knows no other"] = "quick_gelu"
    if config is not None:
        declared[settings.config or CONFIG_FILE] = config.activation
    if settings.source == "open_clip":
        named = {f"the file's name {file.name}": file.name, f"its folder's name {file.parent.name}": file.parent.name}
        declared |= named_activation(named | {f"'{key}' within the file": text for key, text in read.texts.items()})
    if settings.activation:
        declared["activation="] = settings.activation
    remedy = ACTIVATION_REMEDY
    if settings.source == "openai":
        remedy = "weights that open_clip fine-tuned have the same keys: source=open_clip takes either activation"
    return agreed_activation(declared, remedy), ", ".join(declared)


def _heads(
    settings: ImportSettings, config: OpenClipConfig | None, sizes: OpenAIShape
) -> tuple[int | None, int | None]:
    """Heads of the image and the text tower; None where OpenAI's rule of width 64 holds."""
    if settings.source == "openai":
        if settings.vision_heads or settings.text_heads:
            raise E2FashionError(
                "OpenAI's layout has heads of width 64: vision_heads and text_heads belong to open_clip"
            )
        return None, None
    given = (settings.vision_heads, settings.text_heads)
    said = (config.vision_heads, config.text_heads) if config else (None, None)
    for key, one, other in zip(("vision_heads", "text_heads"), given, said, strict=True):
        if one and other and one != other:
            raise E2FashionError(f"{key} is {one}, and the configuration of the checkpoint says {other}: leave it out")
    vision = given[0] or said[0]
    if vision is None and sizes.vision_width > WIDEST_BY_RULE:
        raise E2FashionError(
            f"an open_clip image tower of width {sizes.vision_width} does not have heads of width 64 as a rule: name "
            f"its {CONFIG_FILE} as config=, or vision_heads="
        )
    return vision, given[1] or said[1]


def _sizes_line(model: CLIPModel) -> str:
    sizes, towers = shape_of(model), model.config
    vision: Any = towers.vision_config
    text: Any = towers.text_config
    return (
        f"{model.num_parameters():,} parameters; image tower: {sizes.vision_layers} layers of width "
        f"{sizes.vision_width}, {vision.num_attention_heads} heads, patches of {sizes.patch_size} px at "
        f"{sizes.image_size} px; text tower: {sizes.text_layers} layers of width {sizes.text_width}, "
        f"{text.num_attention_heads} heads, {sizes.context} positions; joint space {sizes.joint}"
    )


def _token_lines(
    settings: ImportSettings, tokenizer: PreTrainedTokenizerBase | None, config: OpenClipConfig | None
) -> list[str]:
    lines = []
    if tokenizer is None:
        lines.append(
            "no tokenizer: texts cannot be embedded, and load_encoder refuses the folder until one lies in it; "
            "Transformers' CLIPModel takes pictures, and token ids that you make yourself"
        )
    else:
        ids = text_special_ids(tokenizer)
        lines.append(
            f"tokenizer: '{settings.tokenizer}', {len(tokenizer):,} tokens as the embedding has rows; texts are read "
            f"at the end token {ids['eos_token_id']}"
        )
    if config is not None and config.tokenizer:
        lines.append(f"the configuration names the tokenizer '{config.tokenizer}': see that this is the same one")
    return lines
