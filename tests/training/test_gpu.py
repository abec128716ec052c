"""What a CPU cannot show: the same features on a GPU, and every precision of training on it."""

from pathlib import Path

import pytest
import torch
from tiny import TINY
from tiny_encoder import build_tiny_encoder

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.training.config import RunConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device: this test needs one"),
]


def test_features_on_a_gpu_are_those_of_the_cpu(synth_catalogue: Catalogue) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    squares = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here = encoder.embed_squares(squares), encoder.embed_texts(["a red shirt", "a blue dress"])
    encoder.model.cuda()
    there = encoder.embed_squares(squares), encoder.embed_texts(["a red shirt", "a blue dress"])
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
def test_a_run_trains_on_a_gpu(synth_catalogue: Catalogue, tmp_path: Path, precision: str) -> None:
    words = [f"data={synth_catalogue.path}", f"output={tmp_path / 'run'}", *TINY]
    words += ["accelerator=gpu", f"train.precision={precision}"]
    folder = train_run(load_config(RunConfig, None, words), progress=False)
    parameters = list(load_encoder(str(folder.model)).model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in parameters)
    assert folder.read_record()["arithmetic"]["precision"].split(":")[0] != "auto"
