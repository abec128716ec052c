"""Attention as a column of the figure of selected patches."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.eval.attention_rows import add_attention
from e2fashion.eval.report import selection_rows
from e2fashion.types import E2FashionError


def test_attention_joins_the_rows(synth_catalogue: Catalogue) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    rows = selection_rows(encoder, synth_catalogue, "test", 2)
    for before, row in zip(rows, add_attention(rows, encoder, "CLIP"), strict=True):
        assert list(row.maps) == ["brand", "CLIP"]
        assert row.maps["CLIP"].shape == row.maps["brand"].shape
        assert (row.selected["CLIP"], row.selected["brand"]) == ([], before.selected["brand"])
        assert row.tags["CLIP"] == "attention of layer 1"


def test_encoders_of_another_size_are_refused(synth_catalogue: Catalogue) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    rows = selection_rows(encoder, synth_catalogue, "test", 1)
    larger = [replace(row, picture=np.zeros((48, 48, 3), dtype=np.uint8)) for row in rows]
    with pytest.raises(E2FashionError, match="reads pictures of 32 px, the figure has 48 px"):
        add_attention(larger, encoder, "CLIP")
