"""``text.overflow`` from the command to the records, and in the model's folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from tiny import TINY, save_random_clip

from e2fashion import load_encoder
from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.evaluation import evaluate
from e2fashion.records import read_records
from e2fashion.report import write_tables
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.training.config import RunConfig


def train(catalogue: Catalogue, folder: Path, *words: str) -> RunFolder:
    own = [f"data={catalogue.path}", f"output={folder}", "name=tried", "model.entities={}", "model.fusion_layers=[]"]
    quick = "train.stages.main={epochs: 1, learning_rate: 0.001}"
    return train_run(load_config(RunConfig, None, [*TINY, *own, quick, *words]), progress=False)


def test_a_stretched_checkpoint_is_saved_and_measured_with_its_longer_context(
    synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    texts = list(synth_catalogue.split("train")["description"])
    clip = save_random_clip(tmp_path / "clip", texts)
    words = [f"model.checkpoint={clip}", "text.overflow=stretch", "text.context_length=100"]
    folder = train(synth_catalogue, tmp_path / "run", *words)
    encoder = load_encoder(str(folder.path))
    assert (encoder.context_length, encoder.text_overflow, encoder.text_stretched_from) == (100, "stretch", 77)
    assert encoder.tokenizer.model_max_length == 100
    long, as_before = " ".join(texts)[:600], dataclasses.replace(encoder, text_context_length=77)
    assert not torch.equal(encoder.embed_texts(long), as_before.embed_texts(long))
    saved = json.loads((folder.model / "config.json").read_text(encoding="utf-8"))
    assert saved["text_config"]["max_position_embeddings"] == 100
    assert folder.read_record()["texts"]["stretched_from"] == 77
    assert "text.overflow=stretch" in folder.log.read_text(encoding="utf-8")
    assert evaluate(EvaluateConfig(model=str(folder.path), data=str(synth_catalogue.path), selection=[]), False)[1]


def test_what_long_texts_lose_is_recorded_and_reported(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    overflow = "first_sentences"
    folder = train(synth_catalogue, tmp_path / "run", "text.context_length=12", f"text.overflow={overflow}")
    counts = folder.read_record()["texts"]
    assert counts["overflow"] == overflow
    assert counts["long"] > 0
    assert max(counts["shortened"], counts["truncated"]) <= counts["long"] <= counts["shortened"] + counts["truncated"]
    encoder = load_encoder(str(folder.path))
    assert (encoder.text_overflow, encoder.context_length) == (overflow, 12)
    measured = [record.extra["texts"] for record in read_records(folder.results) if record.task == "retrieval"]
    assert measured
    assert all((result["overflow"], result["context_length"]) == (overflow, 12) for result in measured)
    assert f"(text.overflow={overflow})" in write_tables(read_records(folder.results))
