"""Write an encoder for other software (ONNX, sentence-transformers), or find the same export; push it to the hub."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPProcessor

from e2fashion.disk import write_checksums
from e2fashion.disk.outputs import write_output
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.export.agreement import SAMPLE_TEXTS, check_agreement, sample_images
from e2fashion.export.config import ExportConfig
from e2fashion.export.onnx import export_onnx
from e2fashion.measuring import load_named_encoder
from e2fashion.models.registration import E2OpenedImageProcessorPil
from e2fashion.types import E2FashionError

FACTS_FILE = "export.json"
#: How sentence-transformers calls a CLIP of Transformers.
MODALITIES = {
    "text": {"method": "get_text_features", "method_output_name": "pooler_output"},
    "image": {"method": "get_image_features", "method_output_name": "pooler_output"},
}


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the export with its ``export.json``, or find the same one; returns what that file says.

    Raises:
        E2FashionError: the folder holds something else, a library is missing, the encoder compares tokens, or the
            export computes something else than the encoder.
    """
    encoder = load_named_encoder(config.model)
    wanted: dict[str, Any] = {"format": config.format, "fingerprint": encoder.fingerprint}
    if config.format == "onnx":
        wanted["opset"] = config.opset

    def write(folder: Path) -> dict[str, Any]:
        if config.format == "onnx":
            difference = export_onnx(encoder, folder, config.opset, config.tolerance)
        else:
            difference = export_sentence_transformers(encoder, folder, config.tolerance)
        return {
            **wanted,
            "model": encoder.name,
            "image_size": encoder.transform.size,
            "resize": encoder.transform.resize,
            "context_length": encoder.context_length,
            "dimension": encoder.dimension,
            "entities": [entity.name for entity in encoder.entities],
            "text_template": encoder.template.template,
            "largest_difference": difference,
            "torch": str(torch.__version__),
        }

    held_as = "the export of '{model}' as {format}"
    return write_output(Path(config.output), FACTS_FILE, wanted, write, held_as, config.overwrite)


def export_sentence_transformers(encoder: Encoder, folder: Path, tolerance: float = ExportConfig.tolerance) -> float:
    """Write the folder, read it again, and return the largest difference of its embeddings to the encoder's.

    The folder holds the model in the layout of Transformers, the pieces that sentence-transformers adds, and L2
    normalization. It is read after ``import e2fashion``, also that of a plain CLIP: its image processor is ours, which
    refuses strings, because the library takes a text that is the name of an image for that image, or downloads it.

    Raises:
        E2FashionError: the library is missing, the encoder compares tokens, or the embeddings differ.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise E2FashionError("sentence-transformers is not installed: pip install 'e2fashion[sentence_transformers]'.")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer

    require_single_vectors(encoder, "sentence-transformers")
    with tempfile.TemporaryDirectory(prefix="export-") as temporary:
        encoder.save_pretrained(Path(temporary))
        images = E2OpenedImageProcessorPil.from_pretrained(temporary, trust_remote_code=False, local_files_only=True)
        CLIPProcessor(image_processor=images, tokenizer=encoder.tokenizer).save_pretrained(temporary)
        tower: Any = Transformer(
            temporary,
            modality_config=MODALITIES,
            module_output_name="sentence_embedding",
            max_seq_length=encoder.context_length,
        )
        SentenceTransformer(modules=[tower, Normalize()], device="cpu").save(str(folder))
    read = SentenceTransformer(str(folder), device="cpu", trust_remote_code=False, local_files_only=True)
    samples: list[Any] = list(sample_images(encoder))
    computed = {
        "images": read.encode(samples, convert_to_tensor=True, show_progress_bar=False),
        "texts": read.encode(list(SAMPLE_TEXTS), convert_to_tensor=True, show_progress_bar=False),
    }
    expected = {"images": encoder.embed_images(samples), "texts": encoder.embed_texts(SAMPLE_TEXTS)}
    difference = check_agreement(computed, expected, tolerance, "sentence-transformers")
    write_checksums(folder)
    return difference


def push(encoder: Encoder, repository: str, private: bool = True) -> dict[str, Any]:
    """Upload model, processor and card as one commit; the repository is made if it does not exist.

    Args:
        encoder: the encoder, as :meth:`~e2fashion.encoder.Encoder.save_pretrained` writes it.
        repository: ``<user or organization>/<name>``.
        private: whether a new repository is private.

    Returns:
        The repository, the address of the commit, and the uploaded files.

    Raises:
        E2FashionError: the name is not of that form, or the hub refuses: no token, no permission, no connection.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if repository.count("/") != 1 or repository.startswith((".", "/", "~")) or Path(repository).exists():
        raise E2FashionError(
            f"output is '{repository}'; with format=hub it is a repository, as in output=<user>/<name>"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        encoder.save_pretrained(folder)
        files = sorted(file.name for file in folder.iterdir())
        api = HfApi()
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Add {encoder.name}")
        except (LocalTokenNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
            raise E2FashionError(
                f"the hub did not take '{repository}': {str(error).strip().splitlines()[0]} Log in by `hf auth login`, "
                "or set HF_TOKEN"
            ) from error
    return {"repository": repository, "commit": str(commit.commit_url), "files": files}
