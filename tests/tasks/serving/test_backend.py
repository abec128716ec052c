"""Batches of requests without a server."""

import io
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from tiny_encoder import build_tiny_encoder
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.serving.backend import Backend
from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.work import Work

CHOICE = {
    "labels": {"dress": "dress", "coat": "coat"},
    "templates": ["{}"],
    "features": "global",
    "entity": None,
    "region_weight": 0.5,
}


@pytest.fixture
def backend(synth_catalogue: Catalogue) -> Backend:
    return Backend(build_tiny_encoder(synth_catalogue), None, None, ServeConfig(model="tiny", batch_size=2))


def png(color: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(stream, "PNG")
    return stream.getvalue()


def test_a_batch_gives_what_each_request_gives_alone(backend: Backend) -> None:
    works = [
        Work("embed", ("a red dress", png("red"), "coat")),
        Work("embed", (b"garbage",)),
        Work("classify", (png("blue"),), CHOICE),
        Work("search", ("coat",), {"weight": 0.5, "where": {}, "top": 1, "thumbnail": 0}),
        Work("embed", (png("blue"),)),
        Work("describe"),
    ]
    together = backend.answer(works)
    assert [answer.status for answer in together] == [200, 422, 200, 422, 200, 200]
    assert [answer.batch for answer in together if answer.error is None] == [6, 6, 6, 6]
    for work, answer in zip(works, together, strict=True):
        [alone] = backend.answer([work])
        assert alone.error == answer.error
        if work.task == "embed" and answer.error is None:
            torch.testing.assert_close(
                torch.from_numpy(answer.result["embeds"]), torch.from_numpy(alone.result["embeds"])
            )
            assert answer.result["tokens"] == alone.result["tokens"]
        elif work.task == "classify":
            assert answer.result["images"][0]["label"] == alone.result["images"][0]["label"]


def test_a_request_that_breaks_the_model_breaks_no_other(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embed_texts = Encoder.embed_texts

    def embed(encoder: Encoder, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        if "break" in texts:
            raise RuntimeError("a bug")
        return embed_texts(encoder, texts, batch_size)

    monkeypatch.setattr(Encoder, "embed_texts", embed)
    answers = backend.answer([Work("embed", ("dress",)), Work("embed", ("break",)), Work("embed", ("coat",))])
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert "a bug" not in str(answers[1].error)
    assert "a bug" in caplog.text
