"""An encoder as a folder of ``sentence-transformers``, whose ``encode`` takes images and texts."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from transformers import CLIPProcessor

from e2fashion.disk import write_checksums
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.export.config import ExportConfig
from e2fashion.export.write import SAMPLE_TEXTS, check_agreement, sample_images
from e2fashion.models.registration import E2OpenedImageProcessorPil
from e2fashion.types import E2FashionError

#: How sentence-transformers calls a CLIP of Transformers.
MODALITIES = {
    "text": {"method": "get_text_features", "method_output_name": "pooler_output"},
    "image": {"method": "get_image_features", "method_output_name": "pooler_output"},
}


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
