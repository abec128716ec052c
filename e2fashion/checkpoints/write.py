"""An encoder as a state dict in another layout: OpenAI's CLIP, open_clip, the official E2 code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.checkpoints.files import read_state_file, write_state_file
from e2fashion.checkpoints.official_e2 import UNUSED, e2_to_official, official_e2_to_e2
from e2fashion.checkpoints.open_clip import ACTIVATIONS, CONFIG_FILE, WEIGHTS_FILE, open_clip_config
from e2fashion.checkpoints.openai import HEAD_WIDTH, LAYOUT_NAMES, Facts, clip_from_openai, filled, shape_of, to_openai
from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD
from e2fashion.encoder import Encoder
from e2fashion.export.agreement import sample_images
from e2fashion.models.from_clip import REGIONAL_PREFIXES
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import ARGMAX_END, text_special_ids
from e2fashion.types import E2FashionError

FILES = {"openai": "openai_clip.safetensors", "open_clip": WEIGHTS_FILE, "e2_official": "official_e2.safetensors"}
TOKENIZER_FOLDER = "tokenizer"
_EPSILON = 1e-5
#: A sentence and its ids in the vocabulary of OpenAI's CLIP, by which that vocabulary is known.
CLIP_SENTENCE = ("a photo of a dog", [49406, 320, 1125, 539, 320, 1929, 49407])


def export_checkpoint(encoder: Encoder, folder: Path, config: ConvertConfig) -> list[str]:
    """Write the state dict and the tokenizer into ``folder``, read it again and compare; notes on it.

    Raises:
        E2FashionError: code of that layout would compute something else, or an E2 would lose parts and ``lossy`` is
            False; all that stands in the way is named.
    """
    if encoder.backbone == "siglip":
        raise E2FashionError(
            f"'{encoder.name}' has the towers of a SigLIP, which {LAYOUT_NAMES[config.target]} cannot hold: give a "
            "CLIP, or an E2 on one"
        )
    if config.target == "e2_official":
        notes = _write_official(encoder, folder, config.fusion_layers)
    else:
        notes = _write_plain(encoder, folder, config.target, config.lossy)
    encoder.tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
    return [*notes, *_input_notes(encoder, config.target)]


def _write_official(encoder: Encoder, folder: Path, fusion_layers: list[int]) -> list[str]:
    if not isinstance(encoder.model, E2Model) or not encoder.entities:
        raise E2FashionError(f"'{encoder.name}' has no entities, so it is not an E2: target=openai writes a plain CLIP")
    tensors = e2_to_official(encoder.model, fusion_layers)
    file = folder / FILES["e2_official"]
    write_state_file(tensors, file, layout="e2_official", activation="quick_gelu")
    back = official_e2_to_e2(read_state_file(file).tensors, fusion_layers, text_special_ids(encoder.tokenizer))
    filled = sorted(key for key in tensors if UNUSED.fullmatch(key))
    return [
        _same_tensors(back, encoder.model, file),
        f"filled in, for that code's forward pass never reads them: {', '.join(filled)}",
        f"the official code pools the first token of '{encoder.entities[-1].name}' alone: that region differs there, "
        "and its selection noise is on in evaluation too",
    ]


def _write_plain(encoder: Encoder, folder: Path, target: str, lossy: bool) -> list[str]:
    model = encoder.model
    lost = lost_parts(model)
    if lost and not lossy:
        raise E2FashionError(
            f"'{encoder.name}' is more than a plain CLIP, and {LAYOUT_NAMES[target]} cannot hold: {'; '.join(lost)}. "
            "Its image features would change too, for CLS attends to the tokens. lossy=true writes the rest"
        )
    reasons = obstacles(model, openai=target == "openai")
    if reasons:
        remedy = " (target=open_clip may take it)" if target == "openai" else ""
        raise E2FashionError(
            f"{LAYOUT_NAMES[target]} would compute something else with '{encoder.name}': {'; '.join(reasons)}{remedy}"
        )
    clip, file = plain_clip(model), folder / FILES[target]
    vision: Any = clip.config.vision_config
    text: Any = clip.config.text_config
    activation = str(text.hidden_act)
    write_state_file(to_openai(clip), file, layout=target, activation=activation)
    if target == "open_clip":
        transform = encoder.transform
        config = open_clip_config(clip, transform.resize, transform.mean, transform.std, transform.resample)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    facts = Facts(activation, vision.num_attention_heads, text.num_attention_heads)
    back = clip_from_openai(read_state_file(file).tensors, shape_of(clip), facts)
    notes = [_same_tensors(back, clip, file), f"activation: {activation}, which the state dict does not hold"]
    if lost:
        notes.append(f"lost: {'; '.join(lost)}")
        if not encoder.compares_tokens:
            notes.append(
                f"image embeddings of three random images keep a cosine of {_kept_cosine(encoder, clip):.3f} to the "
                "E2's (texts are unchanged): measure the plain CLIP before you rely on it"
            )
    return notes


def _same_tensors(back: CLIPModel, model: CLIPModel, file: Path) -> str:
    """Whether what was written is, read again, the model to the bit."""
    expected, read = model.state_dict(), back.state_dict()
    different = [key for key, value in expected.items() if key not in read or not torch.equal(value.cpu(), read[key])]
    if different or read.keys() - expected.keys():
        raise E2FashionError(
            f"'{file}', read again, is another model: {len(different)} tensors differ, {', '.join(different[:5])}. "
            "Do not use it, and report it with the versions of torch and transformers"
        )
    return f"{file.name}: read again, all {len(expected)} tensors are the model's to the bit"


def _kept_cosine(encoder: Encoder, clip: CLIPModel) -> float:
    """The smallest cosine between image embeddings of the E2 and of the CLIP within it."""
    images = sample_images(encoder)
    whole, rest = encoder.embed_images(images), replace(encoder, model=clip).embed_images(images)
    return float((whole * rest).sum(-1).min())


def _input_notes(encoder: Encoder, target: str) -> list[str]:
    """What prepares the input, as far as the layout does not hold it."""
    notes = [_tokenizer_note(encoder.tokenizer)]
    transform = encoder.transform
    differs = (transform.resize, transform.mean, transform.std) != ("crop", CLIP_MEAN, CLIP_STD)
    if differs and target != "open_clip":
        notes.append(
            f"images become squares by {transform.resize} with mean {transform.mean} and deviation {transform.std}; "
            "that code's preprocess crops, with CLIP's color statistics: prepare them as this model was trained"
        )
    positions = shape_of(encoder.model).context
    if encoder.context_length < positions:
        notes.append(f"texts were cut at {encoder.context_length} tokens in training, of {positions} positions")
    if encoder.template.template != "{description}":
        notes.append(f"texts were written as {encoder.template.template}")
    return notes


def _tokenizer_note(tokenizer: PreTrainedTokenizerBase) -> str:
    """Whether the tokenizer of those packages is the model's."""
    sentence, ids = CLIP_SENTENCE
    location = f"'{TOKENIZER_FOLDER}/' holds the model's tokenizer ({len(tokenizer):,} tokens)"
    if len(tokenizer) == 49408 and tokenizer(sentence)["input_ids"] == ids:
        return f"{location}: CLIP's vocabulary, which those packages' tokenizers have too"
    return f"{location}, which is not CLIP's: the packages' tokenizers give ids with other meanings here"


def obstacles(model: CLIPModel, openai: bool) -> list[str]:
    """Why a reader of OpenAI's layout (or of open_clip's, which has a configuration) would compute something else."""
    sizes, reasons = shape_of(model), []
    towers: dict[str, Any] = {"image": model.config.vision_config, "text": model.config.text_config}
    acts = {config.hidden_act for config in towers.values()}
    if openai and acts != {ACTIVATIONS[True]}:
        reasons.append(f"its activation is {' and '.join(sorted(acts))}, and OpenAI's code knows quick_gelu alone")
    elif len(acts) > 1 or not acts <= set(ACTIVATIONS.values()):
        reasons.append(
            f"its activation is {' and '.join(sorted(acts))}, and open_clip knows quick_gelu or gelu in both"
        )
    for name, config in towers.items():
        if config.layer_norm_eps != _EPSILON:
            reasons.append(f"the {name} tower's layer_norm_eps is {config.layer_norm_eps}, there {_EPSILON}")
        if openai and config.num_attention_heads * HEAD_WIDTH != config.hidden_size:
            width = config.hidden_size / config.num_attention_heads
            reasons.append(f"the {name} tower's heads have width {width:g}, there {HEAD_WIDTH}")
        if openai and config.intermediate_size != 4 * config.hidden_size:
            reasons.append(f"the {name} tower's MLP is not four times as wide as the tower")
    end = towers["text"].eos_token_id
    if end not in (ARGMAX_END, sizes.vocabulary - 1):
        reasons.append(
            f"texts are read there at their largest token id, and this model's end token {end} is not the last of "
            f"{sizes.vocabulary}"
        )
    return reasons


def lost_parts(model: CLIPModel) -> list[str]:
    """What a plain CLIP does not hold of a model, with counts; empty for a CLIP."""
    if not isinstance(model, E2Model):
        return []
    counts = {
        prefix: sum(value.numel() for key, value in model.named_parameters() if key.startswith(prefix))
        for prefix in REGIONAL_PREFIXES
    }
    vision, lost = model.config.vision_config, []
    entities = vision.entity_list
    names, tokens = ", ".join(entity.name for entity in entities), sum(entity.tokens for entity in entities)
    layers = vision.active_fusion_layers
    names_of_parts = {
        "vision_model.selection_tokens.": f"{tokens} selection tokens of {len(entities)} entities ({names})",
        "vision_model.fusion_blocks.": f"{len(layers)} fusion blocks behind layers {', '.join(map(str, layers))}",
        "vision_model.token_gates.": "the attention gates of the tokens",
        "vision_model.sub_patches.": "the embedding of parts of patches",
        "vision_model.value_window.": "the mixture of the patches around a patch",
        "region_heads.": f"{len(entities)} region projections with their LayerNorms",
    }
    lost += [f"{names_of_parts[prefix]}: {count:,} values" for prefix, count in counts.items() if count]
    return lost + model.departures()


def plain_clip(model: CLIPModel) -> CLIPModel:
    """The CLIP within a model; of an E2 with entities its image features differ, for CLS attends to the tokens."""
    if not isinstance(model, E2Model):
        return model
    towers: dict[str, Any] = {
        key: {name: value for name, value in getattr(model.config, key).to_dict().items() if name != "model_type"}
        for key in ("text_config", "vision_config")
    }
    known = set(CLIPConfig.sub_configs["vision_config"]().to_dict())
    towers["vision_config"] = {key: value for key, value in towers["vision_config"].items() if key in known}
    config = CLIPConfig(**towers, projection_dim=model.config.projection_dim)
    tensors = {key: value for key, value in model.state_dict().items() if not key.startswith(model.added_prefixes)}
    return filled(CLIPModel, config, tensors)
