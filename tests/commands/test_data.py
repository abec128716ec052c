"""From a table of images to a catalogue, a trained model and a report; texts in the tokens of any tokenizer."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, save_random_clip
from tiny_encoder import save_tiny_run

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.models.tokenizer import load_tokenizer
from tests.command_line import Capture, done, refused


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_describing_counts_the_tokens_of_a_named_tokenizer(
    synth_catalogue: Catalogue, tmp_path: Path, capsys: Capture
) -> None:
    clip_folder = save_random_clip(tmp_path / "some-clip", list(synth_catalogue.split("train")["description"]))
    words = [f"tokenizer={clip_folder}", "template={brand} . {description}", "context_length=20"]
    printed = done(capsys, "data", "describe", str(synth_catalogue.path), *words)
    tokenizer, template = load_tokenizer(clip_folder), TextTemplate("{brand} . {description}")
    expected = []
    for split in synth_catalogue.split_names:
        texts = {s.product_id: template.render(s.tags, s.description) for s in synth_catalogue.samples(split)}
        expected.append(sum(len(tokenizer(text)["input_ids"]) > 20 for text in texts.values()))
    assert [int(count) for count in printed.partition("texts over 20 tokens")[2].split()[:3]] == expected
    assert expected[0] > 0
    assert f"tokens of {clip_folder}, of '{{brand}} . {{description}}'" in printed


def test_the_context_length_is_that_of_the_tokenizer(
    synth_catalogue: Catalogue, tmp_path: Path, capsys: Capture
) -> None:
    save_tiny_run(synth_catalogue, tmp_path / "mine")
    assert "texts over 12 tokens" in done(capsys, "data", "describe", str(synth_catalogue.path), "tokenizer=mine")
    assert "'gone/tokenizer/x' is not a folder" in refused(
        capsys, "data", "describe", str(synth_catalogue.path), "tokenizer=gone/tokenizer/x"
    )


def test_from_a_table_of_images_to_a_report(capsys: Capture) -> None:
    write_shop(Path("shop"))
    prepared = done(capsys, "data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "val_fraction=0.2")
    assert "train 14, val 4, test 2" in prepared
    assert "brand" in done(capsys, "data", "describe", "mine")
    run = ["train", "run.yaml", "data=mine", "train.stages.main.epochs=1", "loader.batch_size=8"]
    Path("run.yaml").write_text("name: first\n", encoding="utf-8")
    tiny = [word for word in TINY if not word.startswith("loader.batch_size")]
    assert "first: best model in" in done(capsys, *run, *tiny, "model.entities.season=null")
    assert "22 records appended to runs/first/results.jsonl" in done(
        capsys, "evaluate", "runs/first", "data=mine", "split=test"
    )
    table = done(capsys, "report", "runs/first", "output=table.md")
    assert Path("table.md").read_text(encoding="utf-8").strip() == table.strip()
    assert "Protocol `full` on test" in table
    assert "Protocol `full` on val" in table


def write_shop(folder: Path) -> None:
    """Twenty images and a table with foreign column names: among them a CMYK JPEG and a 16-bit PNG."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = ["sku,photo,title,label"]
    for number in range(20):
        pixels = generator.integers(0, 256, (40, 32, 3), dtype=np.uint8)
        name, picture = f"{number}.jpg", Image.fromarray(pixels)
        if number == 3:
            picture = picture.convert("CMYK")
        if number == 4:
            name, picture = "4.png", Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        picture.save(folder / name)
        lines.append(f"s{number},{name},A garment of number {number},{'Acme' if number % 2 else ''}")
    (folder / "products.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("shop.yaml").write_text(
        "source: folder\ncolumns: {product_id: sku, image: photo, description: title}\ntags: {brand: label}\n",
        encoding="utf-8",
    )


def test_an_over_long_text_stops_or_is_skipped(capsys: Capture) -> None:
    write_shop(Path("shop"))
    with Path("shop/products.csv").open("a", encoding="utf-8") as table:
        table.write(f"long,0.jpg,{'word ' * 2000},\n")
    command = ["data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "--quiet"]
    line = refused(capsys, *command)
    assert "line 22 (product long): over-long text in field 'description': 9,999 characters" in line
    assert not Path("mine").exists()
    assert "1 row skipped, listed in mine/skipped.csv" in done(capsys, *command, "on_error=skip")


def test_an_empty_table(capsys: Capture) -> None:
    write_shop(Path("shop"))
    Path("shop/products.csv").write_text("sku,photo,title,label\n", encoding="utf-8")
    command = ["data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "--quiet"]
    assert "has no rows" in refused(capsys, *command)


def test_a_catalogue_without_val_cannot_train(capsys: Capture) -> None:
    write_shop(Path("shop"))
    prepare = ["data", "prepare", "shop.yaml", "path=shop/products.csv", "output=mine", "val_fraction=0"]
    done(capsys, *prepare, "test_fraction=0")
    Path("run.yaml").write_text("name: first\n", encoding="utf-8")
    line = refused(capsys, "train", "run.yaml", "data=mine", *TINY, "model.entities.season=null")
    assert "has no split 'val'; it has: train" in line
    assert not Path("runs").exists()
