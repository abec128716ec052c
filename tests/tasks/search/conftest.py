"""Images of one color each, in files."""

from pathlib import Path

import pytest
from PIL import Image

SHADES = {
    "red_1": (250, 5, 5),
    "red_2": (200, 30, 20),
    "green_1": (0, 240, 10),
    "green_2": (40, 200, 40),
    "blue_1": (0, 0, 255),
    "blue_2": (60, 60, 190),
    "grey": (120, 120, 120),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven images, named after their color."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, color in SHADES.items():
        Image.new("RGB", (12, 16), color).save(folder / f"{name}.png")
    return folder
