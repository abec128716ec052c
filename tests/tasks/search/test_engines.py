"""Actors of Ray embed what one process embeds, go on behind what was written, and may be killed."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.search import engines
from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import ContentConfig, EmbedConfig
from e2fashion.tasks.search.engines import connected
from e2fashion.types import E2FashionError

SIZES: dict[str, Any] = {"commit_rows": 16, "batch_size": 4}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, with a core for each of two actors."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'e2fashion[ray]'")
    with connected(EmbedConfig(engine="ray", workers=2)) as ray:
        yield ray


@pytest.fixture
def encoder(synth_catalogue: Catalogue) -> Encoder:
    """In one thread, as in an actor: sums depend on their number in the last bit."""
    torch.set_num_threads(1)
    return build_tiny_encoder(synth_catalogue)


@pytest.mark.slow
def test_actors_embed_what_one_process_embeds(
    ray: Any, encoder: Encoder, synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    content: dict[str, Any] = {"split": ["val", "test"], "vector": "image_text", "text_weight": 0.3} | SIZES
    there = build_index(encoder, synth_catalogue, tmp_path / "there", ContentConfig(engine="ray", workers=2, **content))
    here = build_index(encoder, synth_catalogue, tmp_path / "here", ContentConfig(**content))
    assert len(here) > 20
    assert there.snapshot().content == here.snapshot().content, "bit by bit: the content is over checksums of vectors"
    assert encoder.model.device.type == "cpu"


@pytest.mark.slow
def test_an_interrupted_build_goes_on_with_actors_of_which_one_is_killed(
    ray: Any, encoder: Encoder, photos: Path, tmp_path: Path
) -> None:
    log, killed = tmp_path / "log", tmp_path / "killed"
    (photos / "broken.png").write_bytes(b"no image")

    class Interrupted(Encoder):
        def embed_squares(self, squares: torch.Tensor) -> torch.Tensor:
            if log.exists():
                raise KeyboardInterrupt
            log.touch()
            return super().embed_squares(squares)

    class Killed(Encoder):
        def embed_squares(self, squares: torch.Tensor) -> torch.Tensor:
            if not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            with log.open("a") as file:
                file.write("x" * len(squares))
            return super().embed_squares(squares)

    sizes: dict[str, Any] = {"commit_rows": 3, "batch_size": 3, "on_error": "skip"}
    with pytest.raises(KeyboardInterrupt):
        build_index(Interrupted(**vars(encoder)), photos, tmp_path / "index", EmbedConfig(**sizes))
    actors = EmbedConfig(engine="ray", workers=1, **sizes)
    index = build_index(Killed(**vars(encoder)), photos, tmp_path / "index", actors)
    here = build_index(encoder, photos, tmp_path / "here", EmbedConfig(**sizes))
    assert killed.exists()
    assert len(index) == 7
    assert log.read_text() == "x" * (7 - 2), "two images and the broken one were in what was written"
    assert index.snapshot().content == here.snapshot().content
    assert list(index.facts.skipped) == list(here.facts.skipped) == ["broken"]


def test_what_ray_needs(encoder: Encoder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(E2FashionError, match="workers is 0; give a number from 1"):
        EmbedConfig(engine="ray")
    with pytest.raises(E2FashionError, match="address is 'auto', which engine=local does not use: add engine=ray"):
        EmbedConfig(address="auto")

    def refused(message: str, address: str | None = None) -> None:
        config = EmbedConfig(engine="ray", workers=1, address=address)
        with pytest.raises(E2FashionError, match=message):
            build_index(encoder, photos, tmp_path / "index", config)

    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    refused(r"engine=ray needs Ray. Install it: pip install 'e2fashion\[ray\]'")
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    refused("address is 'head'; give host:port of a Ray cluster, or auto", "head")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # a port that is taken and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        refused(rf"no Ray cluster answers at {address} \(.*refused\): start one", address)
