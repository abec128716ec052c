"""Every file under configs/: valid, and able to train; the paper's recipe end to end on files in the true layout."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from tiny import save_random_clip

from e2fashion.__main__ import main
from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import PrepareConfig, load_prepare_config, source_options
from e2fashion.data.prepare import prepare
from e2fashion.data.sources import SOURCES
from e2fashion.encoder import load_encoder
from e2fashion.models import E2Model
from e2fashion.records import read_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.tasks.composed.sources import open_source
from e2fashion.training.config import RunConfig

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PROTOCOLS = {"full", "full_multiview", "sample_100"}
QUICKSTART = sorted((CONFIGS / "run").glob("quickstart_*.yaml"))
FINETUNE = sorted((CONFIGS / "run").glob("finetune_*.yaml"))
KAGL = [*sorted((CONFIGS / "run").glob("kagl_small_*.yaml")), CONFIGS / "run" / "kagl_pretrain.yaml"]
PRETRAINED = sorted((CONFIGS / "run").glob("kagl_pretrained_*.yaml"))


@pytest.mark.parametrize("file", sorted((CONFIGS / "run").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_run_configuration_is_valid_and_called_like_its_file(file: Path) -> None:
    config = load_config(RunConfig, file, ["data=catalogue"])
    assert config.name == file.stem.removeprefix("quickstart_")
    assert any(config.train.stages.values())


@pytest.mark.parametrize("file", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_data_configuration_has_only_options_of_its_source(file: Path) -> None:
    schema: Any = SOURCES[OmegaConf.load(file).source]
    path = ["path=raw"] if "path" in {item.name for item in fields(schema)} else []
    config, options = load_prepare_config(file, ["output=catalogue", *path])
    assert source_options(config.source, options)
    assert isinstance(config, PrepareConfig)


def test_no_configuration_names_a_path_of_one_machine() -> None:
    assert not [file for file in CONFIGS.rglob("*.yaml") if "/work/" in file.read_text(encoding="utf-8")]


def small(config: Path, catalogue: Catalogue, output: Path, *overrides: str) -> RunFolder:
    """The run of a configuration for a step or two, with towers of the same depth and next to no width."""
    shape = ["model.scratch.vision={width: 16, heads: 2}", "model.scratch.text={layers: 1, width: 16, heads: 2}"]
    short = ["image.size=32", "train.stages.main.epochs=1", "loader.batch_size=32", "accelerator=cpu"]
    place = [f"data={catalogue.path}", f"output={output}"]
    return train_run(load_config(RunConfig, config, [*place, *shape, *short, *overrides]), progress=False)


@pytest.mark.parametrize("file", QUICKSTART, ids=lambda file: file.stem)
def test_the_quickstart_trains(file: Path, synth_catalogue: Catalogue, tmp_path: Path) -> None:
    folder = small(file, synth_catalogue, tmp_path / "run")
    assert folder.read_record()["stages"]["main"]["best_epoch"] == 1


@pytest.fixture(scope="module")
def kagl(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Forty products in the layout of metadata.csv."""
    folder = tmp_path_factory.mktemp("kagl")
    (folder / "images").mkdir()
    columns = "article_type,brand,season,sub_category,colour,gender,usage,master_category,composition,year"
    lines = [f"image,name,{columns},description,group,split,id"]
    generator = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(generator.integers(0, 256, (24, 18, 3), dtype=np.uint8)).save(folder / f"images/{number}.jpg")
        brand = "" if number % 5 == 0 else f"Brand{number % 3}"
        tags = f"Shirts,{brand},Fall,Topwear,Red,Men,Casual,Apparel,,2012"
        lines.append(f"images/{number}.jpg,{brand} shirt {number},{tags},,g{number},,{number}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config, options = load_prepare_config(
        CONFIGS / "data" / "kagl.yaml", [f"path={folder}", f"output={folder / 'catalogue'}"]
    )
    prepare(config, options, progress=False)
    return Catalogue.load(folder / "catalogue")


@pytest.mark.parametrize("file", KAGL, ids=lambda file: file.stem)
def test_the_small_real_catalogue_trains(file: Path, kagl: Catalogue, tmp_path: Path) -> None:
    folder = small(file, kagl, tmp_path / "run", "loader.batch_size=16")
    entities = [entity.name for entity in load_encoder(str(folder.path)).entities]
    assert entities == (["sub_category", "brand", "season", "article_type"] if "e2" in file.stem else [])


@pytest.mark.parametrize("file", PRETRAINED, ids=lambda file: file.stem)
def test_the_small_pretrained_systems_train(file: Path, kagl: Catalogue, tmp_path: Path) -> None:
    texts = list(kagl.split("train")["description"])
    clip = save_random_clip(tmp_path / "clip", texts, layers=6, image_size=112, patch_size=16)
    stages = [f"train.stages.{stage}.epochs=1" for stage in ("new_parameters", "everything")]
    place = [f"data={kagl.path}", f"output={tmp_path / 'run'}", f"model.checkpoint={clip}", "accelerator=cpu"]
    folder = train_run(load_config(RunConfig, file, [*place, *stages]), progress=False)
    assert folder.read_record()["stages"]["everything"]["done"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Sixty products in the table of docs/own_catalogue.md, prepared by the example that is said to fit it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "photos").mkdir()
    page = (CONFIGS.parent / "docs" / "own_catalogue.md").read_text(encoding="utf-8")
    lines = [next(line for line in page.splitlines() if line.startswith("sku,"))]
    generator = np.random.default_rng(0)
    for number in range(60):
        Image.fromarray(generator.integers(0, 256, (24, 18, 3), dtype=np.uint8)).save(folder / f"photos/{number}.jpg")
        label = ("Acme", "n/a", "Comme")[number % 3]
        kind, color = ("Shirts", "Polos")[number % 2], ("navy", "ecru")[number % 4 // 2]
        lines.append(f"{number},{number}.jpg,Long shirt number {number // 4},{label},Fall,{kind},{color}")
    (folder / "products.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config, options = load_prepare_config(
        CONFIGS / "data" / "folder_example.yaml", [f"path={folder / 'products.csv'}", f"output={folder / 'catalogue'}"]
    )
    prepare(config, options, progress=False)
    return Catalogue.load(folder / "catalogue")


@pytest.mark.parametrize("file", FINETUNE, ids=lambda file: file.stem)
def test_a_pretrained_clip_is_fine_tuned_on_an_own_catalogue(file: Path, shop: Catalogue, tmp_path: Path) -> None:
    clip = save_random_clip(tmp_path / "clip", list(shop.split("train")["description"]), layers=12, image_size=224)
    overrides = [f"data={shop.path}", f"output={tmp_path / 'run'}", f"model.checkpoint={clip}", "accelerator=cpu"]
    overrides += ["train.stages.everything.epochs=1", "loader={batch_size: 24, workers: 0}", "image.size=32"]
    folder = train_run(load_config(RunConfig, file, overrides), progress=False)
    stages, encoder = folder.read_record()["stages"], load_encoder(str(folder.path))
    of_clip = "clip" in file.stem
    assert [entity.name for entity in encoder.entities] == ([] if of_clip else ["sub_category", "brand"])
    assert encoder.fusion_layers == (() if of_clip else (8, 11))
    assert ("skipped" in stages["new_parameters"]) == of_clip
    assert stages["everything"]["best"] > 0
    start = E2Model.from_clip(clip).visual_projection.weight
    moved = (encoder.model.visual_projection.weight - start).abs().max()
    assert moved < 1e-3  # CLIP's projection, fine-tuned and not newly initialized


@pytest.fixture(scope="module")
def fashiongen(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Thirty products of Fashion-Gen's two files, prepared by the configuration that goes with them."""
    pytest.importorskip("h5py", reason="h5py is not installed: pip install e2fashion[fashiongen]")
    folder = tmp_path_factory.mktemp("fashiongen")
    write_fashiongen(folder / "raw", {"train": [2, 1] * 11, "validation": [1, 2] * 4})
    config, options = load_prepare_config(
        CONFIGS / "data" / "fashiongen.yaml",
        [f"path={folder / 'raw'}", f"output={folder / 'catalogue'}", "val_fraction=0.25"],
    )
    prepare(config, options, progress=False)
    return Catalogue.load(folder / "catalogue")


def write_fashiongen(folder: Path, views: dict[str, list[int]]) -> None:
    """Both files in the official layout, with brands, seasons and sub-categories that vary and are sometimes absent."""
    import h5py

    folder.mkdir()
    generator = np.random.default_rng(0)
    first = 0
    for part, counts in views.items():
        products = [first + number for number, count in enumerate(counts) for _ in range(count)]
        first += len(counts)
        rows = len(products)
        with h5py.File(folder / f"fashiongen_256_256_{part}.h5", "w") as file:
            colours = generator.integers(0, 256, (rows, 1, 1, 3), dtype=np.uint8)
            file["input_image"] = np.broadcast_to(colours, (rows, 256, 256, 3))
            file["index"] = file["index_2"] = np.arange(rows)[:, None]
            file["input_productID"] = np.array(products, dtype=np.float64)[:, None]
            file["input_msrpUSD"] = np.full((rows, 1), 95.0)
            texts = {
                "name": [f"Shirt {p}" for p in products],
                "description": [f"Long sleeve été shirt number {p}. Tonal stitching." for p in products],
                "concat_description": [f"Shirt {p}" for p in products],
                "category": ["TOPS"] * rows,
                "subcategory": [("SHIRTS", "POLOS")[p % 2] for p in products],
                "brand": [("Acme", "Comme", "")[p % 3] for p in products],
                "season": [("SS2017", "FW2016")[p // 2 % 2] for p in products],
                "composition": ["" if p % 4 == 0 else f"{90 + p % 7}% cotton." for p in products],
                "gender": ["Men"] * rows,
                "department": ["CLOTHING"] * rows,
                "pose": ["id_gridfs_1"] * rows,
            }
            for column, cells in texts.items():
                file[f"input_{column}"] = np.array([cell.encode("latin-1") for cell in cells], dtype="S60")[:, None]


@pytest.fixture(scope="module")
def clip_vit(fashiongen: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP with the layers, resolution and patches of ViT-B/32."""
    texts = list(fashiongen.split("train")["description"])
    return save_random_clip(tmp_path_factory.mktemp("clip") / "vit", texts, layers=12, image_size=224, patch_size=32)


def fashiongen_run(name: str, catalogue: Catalogue, checkpoint: Path, output: Path) -> RunFolder:
    overrides = [
        f"data={catalogue.path}",
        f"output={output}",
        f"model.checkpoint={checkpoint}",
        "accelerator=cpu",
        "train.precision=bf16",
        "train.stages.new_parameters.epochs=1",
        "train.stages.everything.epochs=1",
        "loader={batch_size: 8, workers: 0}",
        "evaluate_splits=val,test",
    ]
    return train_run(load_config(RunConfig, CONFIGS / "run" / f"{name}.yaml", overrides), progress=False)


def test_the_paper_s_e2_end_to_end(fashiongen: Catalogue, clip_vit: Path, tmp_path: Path) -> None:
    folder = fashiongen_run("fashiongen_e2", fashiongen, clip_vit, tmp_path / "run")
    stages = folder.read_record()["stages"]
    assert list(stages) == ["everything", "new_parameters"]  # the record sorts its keys
    assert all("best" in stage for stage in stages.values())
    encoder = load_encoder(str(folder.path))
    assert [entity.name for entity in encoder.entities] == ["composition", "sub_category", "brand", "season"]
    assert encoder.fusion_layers == (8, 11)
    records = read_records(folder.results)
    assert {(r.split, r.protocol) for r in records} == {(s, p) for s in ("val", "test") for p in PROTOCOLS}
    assert {r.text for r in records} == {"{composition}.{sub_category}.{brand}.{season}.{description}"}


def test_the_local_e2_of_fashiongen_end_to_end(fashiongen: Catalogue, clip_vit: Path, tmp_path: Path) -> None:
    folder = fashiongen_run("fashiongen_e2_local", fashiongen, clip_vit, tmp_path / "run")
    assert load_encoder(str(folder.path)).model.config.region_score_weight is not None
    assert {r.protocol for r in read_records(folder.results)} == {*PROTOCOLS, "full_regions"}


def test_the_paper_s_clip_ft_end_to_end(fashiongen: Catalogue, clip_vit: Path, tmp_path: Path) -> None:
    folder = fashiongen_run("fashiongen_clip_ft", fashiongen, clip_vit, tmp_path / "run")
    stages = folder.read_record()["stages"]
    assert stages["new_parameters"] == {"done": True, "skipped": "nothing to train"}
    assert stages["everything"]["trained_parameters"] == folder.read_record()["parameters"]
    assert {r.protocol for r in read_records(folder.results)} == PROTOCOLS
    assert load_encoder(str(folder.path)).entities == ()


def test_the_zero_shot_row_of_the_same_checkpoint(
    fashiongen: Catalogue, clip_vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "zero_shot.jsonl"
    overrides = [f"data={fashiongen.path}", f"output={file}", "split=test", f"protocol={','.join(sorted(PROTOCOLS))}"]
    assert main(["evaluate", str(clip_vit), *overrides, "--quiet"]) == 0
    assert {r.protocol for r in read_records(file)} == PROTOCOLS
    assert "| vit |" in capsys.readouterr().out


def test_an_own_catalogue_has_product_lines_of_several_colors(shop: Catalogue) -> None:
    source = open_source(ComposeConfig(model=["clip"], data=str(shop.path), split="train"))
    assert source.settings["line"] == "brand, name"
    [queries] = source.queries()["other_colour"]
    assert {text for texts in queries.instructions for text in texts} == {"in navy", "in ecru"}
