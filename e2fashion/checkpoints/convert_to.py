"""An encoder as a state dict of others: OpenAI's CLIP, open_clip, the official E2 code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPModel, PreTrainedTokenizerBase

from e2fashion.checkpoints.convert_from import LAYOUT_NAMES, Foreign
from e2fashion.checkpoints.files import read_state_file, write_state_file
from e2fashion.checkpoints.names import Facts, clip_from_openai, shape_of, to_openai
from e2fashion.checkpoints.official_e2 import UNUSED, e2_to_official, official_e2_to_e2
from e2fashion.checkpoints.open_clip import CONFIG_FILE, WEIGHTS_FILE, open_clip_config
from e2fashion.checkpoints.plain import lost_parts, obstacles, plain_clip
from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD
from e2fashion.encoder import Encoder
from e2fashion.export.agreement import sample_pictures
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import text_special_ids
from e2fashion.types import E2FashionError

FILES: dict[Foreign, str] = {
    "openai": "openai_clip.safetensors",
    "open_clip": WEIGHTS_FILE,
    "e2_official": "official_e2.safetensors",
}
TOKENIZER_FOLDER = "tokenizer"
#: A sentence and its ids in the vocabulary of OpenAI's CLIP, by which that vocabulary is known.
CLIP_SENTENCE = ("a photo of a dog", [49406, 320, 1125, 539, 320, 1929, 49407])


def export_checkpoint(
    encoder: Encoder, folder: Path, target: Foreign, fusion_layers: Sequence[int], lossy: bool
) -> list[str]:
    """Write the state dict and the tokenizer into ``folder``, read it again and compare; what there is to say.

    Raises:
        E2FashionError: code of that layout would compute something else, or an E2 would lose parts and ``lossy`` is
            False; all that stands in the way is named.
    """
    if target == "e2_official":
        said = _write_official(encoder, folder, fusion_layers)
    else:
        said = _write_plain(encoder, folder, target, lossy)
    encoder.tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
    return [*said, *_around(encoder, target)]


def _write_official(encoder: Encoder, folder: Path, fusion_layers: Sequence[int]) -> list[str]:
    if not isinstance(encoder.model, E2Model) or not encoder.entities:
        raise E2FashionError(f"'{encoder.name}' has no entities, so it is no E2: target=openai writes a plain CLIP")
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


def _write_plain(encoder: Encoder, folder: Path, target: Foreign, lossy: bool) -> list[str]:
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
        config = open_clip_config(clip, transform.resize, transform.mean, transform.std)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    facts = Facts(activation, vision.num_attention_heads, text.num_attention_heads)
    back = clip_from_openai(read_state_file(file).tensors, shape_of(clip), facts)
    said = [_same_tensors(back, clip, file), f"activation: {activation}, which the state dict does not hold"]
    if lost:
        said.append(f"lost: {'; '.join(lost)}")
        if not encoder.compares_tokens:
            said.append(
                f"image embeddings of three random pictures keep a cosine of {_kept_cosine(encoder, clip):.3f} to the "
                "E2's (texts are unchanged): measure the plain CLIP before you rely on it"
            )
    return said


def _same_tensors(back: CLIPModel, model: CLIPModel, file: Path) -> str:
    """Whether what was written is, read again, the model to the bit."""
    expected, found = model.state_dict(), back.state_dict()
    different = [key for key, value in expected.items() if key not in found or not torch.equal(value.cpu(), found[key])]
    if different or found.keys() - expected.keys():
        raise E2FashionError(
            f"'{file}', read again, is another model: {len(different)} tensors differ, {', '.join(different[:5])}. "
            "Do not use it, and report it with the versions of torch and transformers"
        )
    return f"{file.name}: read again, all {len(expected)} tensors are the model's to the bit"


def _kept_cosine(encoder: Encoder, clip: CLIPModel) -> float:
    """The smallest cosine between image embeddings of the E2 and of the CLIP within it."""
    pictures = sample_pictures(encoder)
    whole, rest = encoder.embed_images(pictures), replace(encoder, model=clip).embed_images(pictures)
    return float((whole * rest).sum(-1).min())


def _around(encoder: Encoder, target: Foreign) -> list[str]:
    """What prepares the input, as far as the layout does not hold it."""
    said = [_tokenizer_line(encoder.tokenizer)]
    transform = encoder.transform
    own_way = (transform.resize, transform.mean, transform.std) != ("crop", CLIP_MEAN, CLIP_STD)
    if own_way and target != "open_clip":
        said.append(
            f"pictures become squares by {transform.resize} with mean {transform.mean} and deviation {transform.std}; "
            "that code's own preprocess crops, with CLIP's colours: prepare them as this model was trained"
        )
    positions = shape_of(encoder.model).context
    if encoder.context_length < positions:
        said.append(f"texts were cut at {encoder.context_length} tokens in training, of {positions} positions")
    if encoder.template.template != "{description}":
        said.append(f"texts were written as {encoder.template.template}")
    return said


def _tokenizer_line(tokenizer: PreTrainedTokenizerBase) -> str:
    """Whether those packages' own tokenizer is the model's."""
    sentence, ids = CLIP_SENTENCE
    place = f"'{TOKENIZER_FOLDER}/' holds the model's tokenizer ({len(tokenizer):,} tokens)"
    if len(tokenizer) == 49408 and tokenizer(sentence)["input_ids"] == ids:
        return f"{place}: CLIP's vocabulary, which those packages' own tokenizers have too"
    return f"{place}, which is not CLIP's: the packages' own tokenizers give ids that mean other words here"
