"""Both towers of an encoder as ONNX files, with what prepares their input, checked against PyTorch."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.export.agreement import SAMPLE_TEXTS, check_agreement, sample_images
from e2fashion.export.config import ExportConfig
from e2fashion.export.openai_clip import Preprocess
from e2fashion.terminal import errors_alone
from e2fashion.types import E2FashionError

#: Loggers of the exporter, which report every pass.
VERBOSE = ("onnxscript", "onnx_ir", "torch.onnx")
IMAGE_FILE, TEXT_FILE = "image.onnx", "text.onnx"


class ImageTower(nn.Module):
    """Normalized pixels (B, 3, H, W) to ``image_embeds`` (B, C), an E2's ``region_embeds`` (B, E, C), unit vectors."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model = encoder.model
        self.regional = bool(encoder.entities)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        output = self.model.get_image_features(pixel_values=pixel_values, return_dict=True)
        images = F.normalize(output.pooler_output, dim=-1)
        return (images, F.normalize(output.region_features, dim=-1)) if self.regional else (images,)


class TextTower(nn.Module):
    """Token ids (B, L) int64 and their mask (B, L) int64 to L2-normalized ``text_embeds`` (B, C)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model = encoder.model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See the class."""
        output = self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        return F.normalize(output.pooler_output, dim=-1)


def export_onnx(
    encoder: Encoder, folder: Path, opset: int = ExportConfig.opset, tolerance: float = ExportConfig.tolerance
) -> float:
    """Write both files, the tokenizer and the image processor; returns the largest difference to the encoder.

    The batch is dynamic, and so is the length of texts; the resolution is fixed at the encoder's. Weights are in the
    files. Pixels are prepared outside (:class:`~e2fashion.export.openai_clip.Preprocess`, or the saved processor).

    Raises:
        E2FashionError: a library is missing, the encoder compares tokens, or onnxruntime computes something else.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise E2FashionError(f"{package} is not installed: pip install 'e2fashion[onnx]'.")
    require_single_vectors(encoder, "an ONNX export")
    folder.mkdir(parents=True, exist_ok=True)
    eager = replace(encoder, model=copy.deepcopy(encoder.model).cpu().float().eval())
    eager.model.set_attn_implementation("eager")  # plain operations, which every runtime knows
    pixels, tokens = sample_input(eager)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=eager.context_length)
    outputs = ["image_embeds", *(["region_embeds"] if eager.entities else [])]
    text_names, text_shapes = ["input_ids", "attention_mask"], ({0: batch, 1: length}, {0: batch, 1: length})
    _write(ImageTower(eager), (pixels,), folder / IMAGE_FILE, opset, ["pixel_values"], outputs, ({0: batch},))
    _write(TextTower(eager), tokens, folder / TEXT_FILE, opset, text_names, ["text_embeds"], text_shapes)
    eager.tokenizer.save_pretrained(folder)
    eager.transform.to_processor().save_pretrained(folder)
    return check_onnx(eager, folder, tolerance)


def sample_input(encoder: Encoder) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Pixels (3, 3, H, W), and token ids with their mask (3, L), of different images and texts."""
    preprocess = Preprocess(encoder.transform)
    pixels = torch.stack([preprocess(image) for image in sample_images(encoder)])
    tokens = encoder.tokenizer(
        list(SAMPLE_TEXTS),
        padding=True,
        truncation=True,
        max_length=encoder.context_length,
        return_attention_mask=True,  # published SigLIPs' give none of themselves
        return_tensors="pt",
    )
    return pixels, (tokens["input_ids"], tokens["attention_mask"])


def check_onnx(encoder: Encoder, folder: Path, tolerance: float = ExportConfig.tolerance) -> float:
    """The largest difference between the files and the encoder, for batches of three and of one.

    Raises:
        E2FashionError: it is above ``tolerance``.
    """
    import onnxruntime

    sessions = {
        file: onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
        for file in (IMAGE_FILE, TEXT_FILE)
    }
    pixels, (ids, mask) = sample_input(encoder)
    largest = 0.0
    for rows in (slice(None), slice(1, 2)):
        length = int(mask[rows].sum(1).max())
        with torch.no_grad():
            images = ImageTower(encoder)(pixels[rows])
            texts = TextTower(encoder)(ids[rows, :length], mask[rows, :length])
        inputs: dict[str, dict[str, Any]] = {
            IMAGE_FILE: {"pixel_values": pixels[rows].numpy()},
            TEXT_FILE: {"input_ids": ids[rows, :length].numpy(), "attention_mask": mask[rows, :length].numpy()},
        }
        expected: dict[str, Tensor] = {"text_embeds": texts}
        expected |= dict(zip(("image_embeds", "region_embeds"), images, strict=False))
        computed: dict[str, Tensor] = {}
        for file, session in sessions.items():
            names = [output.name for output in session.get_outputs()]
            values = session.run(names, inputs[file])
            computed |= {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}
        largest = max(largest, check_agreement(computed, expected, tolerance, "onnxruntime"))
    return largest


def _write(
    tower: nn.Module,
    inputs: tuple[Tensor, ...],
    file: Path,
    opset: int,
    input_names: list[str],
    output_names: list[str],
    shapes: tuple[dict[int, Any], ...],
) -> None:
    with errors_alone(VERBOSE), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            tower.eval(),
            inputs,
            input_names=input_names,
            output_names=output_names,
            opset_version=opset,
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(file), external_data=False)
