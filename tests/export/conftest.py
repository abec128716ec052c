"""An E2 and a plain CLIP as folders, and images that no preparation changes."""

from pathlib import Path

import pytest
from PIL import Image
from tiny import save_random_clip
from tiny_encoder import save_tiny_run

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.export.agreement import sample_images

TEXTS = ["a navy wool coat", "dress"]


@pytest.fixture(scope="session")
def folders(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders by kind."""
    folder = tmp_path_factory.mktemp("plugins")
    texts = [f"{text} number {number}" for text in (*TEXTS, "red cotton shirt") for number in range(3)]
    return {"e2": save_tiny_run(synth_catalogue, folder / "e2"), "clip": save_random_clip(folder / "clip", texts)}


@pytest.fixture(scope="session", params=["e2", "clip"])
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """The model folder of each kind."""
    return folders[request.param]


@pytest.fixture(scope="session")
def encoder(folder: Path) -> Encoder:
    """The encoder in it."""
    return load_encoder(str(folder))


@pytest.fixture(scope="session")
def samples(encoder: Encoder) -> list[Image.Image]:
    """Three images of the encoder's size."""
    return sample_images(encoder)
