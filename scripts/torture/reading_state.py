"""Readers of what this package writes: configurations, models, catalogues, indexes, runs, and what is kept of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.torture.child import run_in_child
from scripts.torture.fuzz import Reader
from scripts.torture.operations import Operations
from scripts.torture.scene import Scene, copy_tree, outcome
from scripts.torture.verbs import PROBE

Read = Callable[[Path, Path], object]


def state_readers(scene: Scene) -> list[Reader]:
    """All of them, with their intact input below the scene."""
    made = scene.path / "readers"
    run, data = str(scene.need_run()), f"data={scene.catalogue}"
    measured = _measured_run(scene, made / "measured")
    decoder = _decoder(scene, made / "decoder")
    return [
        Reader(
            "configurations", _configurations(scene, made / "configurations"), ("*.yaml",), _read_configuration, 1.0
        ),
        Reader("model folder", _copied(scene.run, made / "model_run"), ("model/*",), _read_model),
        Reader(
            "plain CLIP checkpoint", _converted(scene, made / "converted"), ("converted/*", "converted/*/*"), _convert
        ),
        Reader("catalogue", _copied(scene.catalogue, made / "catalogue"), ("*", "*/*"), _read_catalogue, 2.0),
        Reader("index", _copied(scene.need_index(), made / "index"), ("**/*",), _read_index, 2.0),
        Reader(
            "changed index",
            _copied(scene.need_index(), made / "changed"),
            ("**/*",),
            _change(str(scene.catalogue)),
            0.1,
            writes=True,
        ),
        Reader(
            "records", measured, ("run/results.jsonl", "run/record.json"), _command("report", "run", "output=r.md"), 0.1
        ),
        Reader("finished run", measured, ("run/*", "run/rankings/*"), _command("train", "run"), 0.05, writes=True),
        Reader(
            "features and rankings",
            measured,
            ("run/features/*", "run/rankings/*"),
            _command("probe", "run", data, *PROBE),
            0.05,
            writes=True,
        ),
        Reader(
            "interrupted run",
            _interrupted(scene, made / "interrupted"),
            INTERRUPTED,
            _command("train", "run"),
            0.05,
            True,
        ),
        Reader("tags.json", measured, ("run/tags.json",), _read_tags(run)),
        Reader("caption decoder", decoder, ("decoder/model/**/*", "decoder/memory/**/*"), _read_decoder(run), 0.5),
        Reader(
            "export facts",
            _exported(scene, made / "exported"),
            ("*/export.json",),
            _command("export", run, "format=sentence_transformers", "output=export"),
            0.05,
            writes=True,
        ),
        Reader(
            "sweep", _sweep(scene, made / "sweep"), ("sweep/**/*.json*", "sweep/**/*.yaml"), _dry_run(scene), 0.05, True
        ),
        Reader("ids to remove", _index_and_ids(scene, made / "shrunk"), ("ids.txt",), REMOVE, 0.3, writes=True),
    ]


INTERRUPTED = ("run/checkpoints/*/last.ckpt", "run/record.json", "run/config.yaml", "run/logs/**/*")


def _copied(source: Path, target: Path) -> Path:
    """A copy of ``source``."""
    shutil.copytree(source, target)
    return target


def _command(*args: str) -> Read:
    """A verb by its arguments, without the command line's handling of errors."""

    def read(_: Path, __: Path) -> object:
        from e2fashion.commands import COMMANDS
        from e2fashion.commands.registry import Arguments, sort_arguments

        name = " ".join(args[:2]) if " ".join(args[:2]) in COMMANDS else args[0]
        command = COMMANDS[name]
        arguments = Arguments(*sort_arguments(command, args[len(name.split()) :]), quiet=True)
        return command.run(command.configure(arguments), arguments)

    return read


REMOVE = _command("index", "remove", "index", "file=ids.txt")


def _read_configuration(workdir: Path, damaged: Path) -> object:
    from e2fashion.ablation.plan import load_ablation
    from e2fashion.config import load_config
    from e2fashion.data.config import build_source, load_prepare_config
    from e2fashion.published import load_published
    from e2fashion.tasks.captioning.config import CaptionTrainConfig
    from e2fashion.training.config import RunConfig
    from e2fashion.training.identity import run_identity

    if damaged.stem in ("run", "base"):
        return run_identity(load_config(RunConfig, workdir / "run.yaml"), "data")
    if damaged.stem == "ablation":
        return load_ablation(workdir / "ablation.yaml")
    if damaged.stem == "prepare":
        prepared, options = load_prepare_config(workdir / "prepare.yaml", [])
        return build_source(prepared.source, options)
    if damaged.stem == "published":
        return load_published(workdir / "published.yaml")
    return load_config(CaptionTrainConfig, workdir / "caption.yaml")


def _read_model(workdir: Path, _: Path) -> object:
    from e2fashion.encoder import load_encoder

    encoder = load_encoder(str(workdir))
    return encoder.embed_texts(["a red garment"]), encoder.embed_images(_picture())


def _read_catalogue(workdir: Path, _: Path) -> object:
    from e2fashion.data.catalogue import Catalogue
    from e2fashion.data.decode import decode_image

    opened = Catalogue.load(workdir)
    return [decode_image(sample.image).shape for name in opened.split_names for sample in opened.samples(name)]


def _read_index(workdir: Path, _: Path) -> object:
    from e2fashion.commands.search import description
    from e2fashion.tasks.search.index import open_index

    index = open_index(workdir)
    index.snapshot().check()
    return description(index), index.snapshot().hits([0, 1], [0.5, 0.4])


def _change(catalogue: str) -> Read:
    remove, sync = _command("index", "remove", ".", "ids=p01"), _command("index", "sync", ".", catalogue, "split=train")

    def change(workdir: Path, damaged: Path) -> object:
        return remove(workdir, damaged), sync(workdir, damaged)

    return change


def _read_tags(run: str) -> Read:
    from e2fashion.encoder import load_encoder

    encoder = load_encoder(run)

    def read(workdir: Path, _: Path) -> object:
        from e2fashion.tasks.classification.tag_predictor import load_tag_predictor

        return load_tag_predictor(encoder, workdir / "run" / "tags.json").predict_tags(_picture())

    return read


def _read_decoder(run: str) -> Read:
    from e2fashion.encoder import load_encoder

    encoder = load_encoder(run)

    def read(workdir: Path, _: Path) -> object:
        from e2fashion.tasks.captioning.captioner import load_captioner

        return load_captioner(workdir / "decoder", encoder).caption(encoder.embed_images(_picture()))

    return read


def _convert(workdir: Path, _: Path) -> object:
    args = ("converted/open_clip_model.safetensors", "source=open_clip", "tokenizer=converted/tokenizer")
    shutil.rmtree(workdir / "back", ignore_errors=True)
    return _command("convert", *args, "output=back")(workdir, workdir)


def _dry_run(scene: Scene) -> Read:
    def read(_: Path, __: Path) -> object:
        from e2fashion.ablation.plan import load_ablation
        from e2fashion.ablation.sweep import describe_ablation

        overrides = [f"data={scene.catalogue}", "output=sweep"]
        return describe_ablation(load_ablation(scene.path / "ablation.yaml", overrides))

    return read


def _picture() -> Any:
    from PIL import Image

    return Image.new("RGB", (16, 16), "red")


def _configurations(scene: Scene, folder: Path) -> Path:
    folder.mkdir(parents=True)
    text = (scene.path / "run.yaml").read_text(encoding="utf-8")
    (folder / "base.yaml").write_text(text, encoding="utf-8")
    (folder / "run.yaml").write_text(
        "base: [base.yaml]\nname: mine\ndata: x\ntrain: {weight_decay: 0.1}\n", encoding="utf-8"
    )
    ablation = (scene.path / "ablation.yaml").read_text(encoding="utf-8") + "data: x\noutput: y\n"
    (folder / "ablation.yaml").write_text(ablation, encoding="utf-8")
    caption = (scene.path / "caption.yaml").read_text(encoding="utf-8") + "encoder: x\ndata: y\n"
    (folder / "caption.yaml").write_text(caption, encoding="utf-8")
    prepare = {
        "source": "folder",
        "path": str(scene.raw),
        "output": "x",
        "tags": {"brand": "brand"},
        "val_fraction": 0.1,
    }
    (folder / "prepare.yaml").write_text(json.dumps(prepare), encoding="utf-8")
    shutil.copy(Path(__file__).resolve().parents[2] / "experiments" / "published.yaml", folder)
    return folder


def _made(scene: Scene, folder: Path, *commands: tuple[str, ...]) -> Path:
    """Run commands in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for args in commands:
        ended = run_in_child(scene.verb(args), folder)
        if ended.code != 0:
            raise RuntimeError(f"{' '.join(args)}: {outcome(ended)}")
    return folder


def _measured_run(scene: Scene, folder: Path) -> Path:
    """A run with everything that is kept of one: records, rankings, candidates, features, tags."""
    data = f"data={scene.catalogue}"
    shutil.copytree(scene.run, folder / "run")
    probe, tags = ("probe", "run", data, *PROBE), ("tags", "fit", "run", data, "accuracy=0.5", "resamples=20")
    return _made(scene, folder, ("evaluate", "run", data, "split=test"), probe, tags)


def _decoder(scene: Scene, folder: Path) -> Path:
    shutil.copytree(scene.need_decoder(), folder / "decoder")
    return folder


def _index_and_ids(scene: Scene, folder: Path) -> Path:
    shutil.copytree(scene.need_index(), folder / "index")
    (folder / "ids.txt").write_text("p01\np04\n", encoding="utf-8")
    return folder


def _converted(scene: Scene, folder: Path) -> Path:
    return _made(scene, folder, ("convert", str(scene.run), "target=open_clip", "lossy=true", "output=converted"))


def _exported(scene: Scene, folder: Path) -> Path:
    return _made(scene, folder, ("export", str(scene.run), "format=sentence_transformers", "output=export"))


def _sweep(scene: Scene, folder: Path) -> Path:
    args = ("ablate", str(scene.path / "ablation.yaml"), f"data={scene.catalogue}", "output=sweep")
    return _made(scene, folder, args)


def _interrupted(scene: Scene, folder: Path) -> Path:
    """A run that was killed behind its first checkpoints."""
    args = ("train", str(scene.path / "run.yaml"), f"data={scene.catalogue}", "output=run")
    for at in range(10, 60):
        copy_tree(None, folder)

        def action(at: int = at) -> int:
            Operations(folder, at)
            return scene.verb(args)()

        run_in_child(action, folder)
        if list(folder.glob("run/checkpoints/*/last.ckpt")):
            return folder
    raise RuntimeError(f"no checkpoint to resume from in {folder}")
