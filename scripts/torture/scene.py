"""What every trial starts from: a table with images, a catalogue, a trained run, a decoder, an index; all tiny."""

from __future__ import annotations

import csv
import pkgutil
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.torture.child import Ended, run_in_child

PRODUCTS = 32
BRANDS, SEASONS = ("Amber", "Birch"), ("Summer", "Winter", "")

RUN = """\
name: tiny
seed: 0
accelerator: cpu
threads: 1
model:
  entities: {brand: {}, season: {}}
  fusion_layers: [1]
  scratch:
    vision: {layers: 2, width: 16, heads: 2}
    text: {layers: 1, width: 16, heads: 2}
    projection_dim: 8
    tokenizer: bpe
    vocabulary: 600
    patch_size: 8
image: {size: 16, resize: squeeze, flip: true}
text: {template: "{brand} . {description}"}
loader: {batch_size: 8}
logging: {to: [], figures_every: 0}
train:
  warmup_steps: 1
  checkpoint_every_steps: 1
  stages:
    new_parameters: {epochs: 1, learning_rate: 0.01, parameters: new}
    everything: {epochs: 1, learning_rate: 0.01}
"""
ABLATION = """\
base: run.yaml
baseline: e2
seeds: [0]
rows:
  e2: {train.stages.new_parameters: null}
  no_region_loss: {loss.region_weight: 0.0, train.stages.new_parameters: null}
"""
CAPTION = """\
name: tiny
accelerator: cpu
threads: 1
length: 12
logging: {to: []}
model: {layers: 1, heads: 2, width: 16}
mapper: {length: 2, layers: 1, heads: 2}
train: {epochs: 1, batch_size: 8, learning_rate: 0.01, checkpoint_every_steps: 1}
"""
PREPARED = ("val_fraction=0.25", "test_fraction=0.25", "tags={brand: brand, season: season}")


@dataclass(frozen=True)
class Scene:
    """The folder of the starting material; nothing in it changes once it is made."""

    path: Path

    @property
    def raw(self) -> Path:
        """``products.csv`` with its images."""
        return self.path / "raw"

    @property
    def catalogue(self) -> Path:
        """The prepared catalogue."""
        return self.path / "catalogue"

    @property
    def run(self) -> Path:
        """A finished training run."""
        return self.path / "run"

    @property
    def other_run(self) -> Path:
        """Another one, of another seed."""
        return self.path / "other_run"

    def verb(self, args: Sequence[str]) -> Callable[[], int]:
        """One command as an action of a child."""

        def action() -> int:
            from e2fashion.__main__ import main

            return main([*args, "--quiet"])

        return action

    def need(self, target: Path, args: Sequence[str]) -> Path:
        """``target``, made by a command if it is not there yet."""
        if not target.exists():
            ended = run_in_child(self.verb([*args, f"output={target}"]), self.path)
            if ended.code != 0:
                raise RuntimeError(f"the starting material cannot be made: {' '.join(args)}: {outcome(ended)}")
        return target

    def need_run(self) -> Path:
        """The finished run."""
        return self.need(self.run, ["train", str(self.path / "run.yaml"), f"data={self.catalogue}"])

    def need_other_run(self) -> Path:
        """The run of another seed."""
        return self.need(self.other_run, ["train", str(self.path / "run.yaml"), f"data={self.catalogue}", "seed=1"])

    def need_decoder(self) -> Path:
        """A trained caption decoder."""
        args = ["caption", "train", str(self.path / "caption.yaml"), f"encoder={self.need_run()}"]
        return self.need(self.path / "decoder", [*args, f"data={self.catalogue}"])

    def need_index(self) -> Path:
        """An index of the catalogue's train split."""
        args = ["index", "build", str(self.catalogue), f"model={self.need_run()}", "split=train", "commit_rows=8"]
        return self.need(self.path / "index", args)


def make_scene(folder: Path) -> Scene:
    """The starting material in an empty folder; runs are trained when they are first needed."""
    import_libraries()
    scene = Scene(folder.resolve())
    _write_raw(scene.raw)
    for name, text in (("run.yaml", RUN), ("ablation.yaml", ABLATION), ("caption.yaml", CAPTION)):
        (scene.path / name).write_text(text, encoding="utf-8")
    scene.need(scene.catalogue, ["data", "prepare", "folder", f"path={scene.raw}", *PREPARED])
    return scene


def import_libraries() -> None:
    """Import once, in the parent, all modules of the package, which import what every child would import for itself.

    Nothing here starts a thread.
    """
    import torch
    import transformers.models.clip
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401

    import e2fashion

    for module in pkgutil.walk_packages(e2fashion.__path__, "e2fashion."):
        import_module(module.name)
    if find_spec("sentence_transformers"):
        import_module("sentence_transformers")
    Image.init()
    torch.set_num_threads(1)


def outcome(ended: Ended) -> str:
    """How a child ended, in one line."""
    how = f"signal {ended.signal}" if ended.code is None else f"exit code {ended.code}"
    return f"{how}: {ended.last_line[:300]}"


def copy_tree(source: Path | None, target: Path) -> Path:
    """A fresh copy, or an empty folder."""
    shutil.rmtree(target, ignore_errors=True)
    if source is None:
        target.mkdir(parents=True)
    else:
        shutil.copytree(source, target, symlinks=True)
    return target


def _write_raw(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    with (folder / "products.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["product_id", "image", "description", "brand", "season"])
        for number in range(PRODUCTS):
            brand, season = BRANDS[number % 2], SEASONS[number % 3]
            pixels = generator.integers(0, 255, (20, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
            text = f"a {'red' if number % 2 else 'blue'} garment with {number} buttons"
            writer.writerow([f"p{number:02d}", f"images/{number}.png", text, brand, season])
