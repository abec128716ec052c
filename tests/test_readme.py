"""The commands, YAML files, Python snippets and links in README and docs work."""

import contextlib
import importlib.util
import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import save_random_clip
from tiny_encoder import build_tiny_encoder, save_tiny_run
from transformers import CLIPConfig, CLIPModel, CLIPProcessor

from e2fashion import commands as registered
from e2fashion.__main__ import argument_parser, main, parse
from e2fashion.ablation.plan import load_ablation
from e2fashion.commands import registry
from e2fashion.config import load_config, load_with_options
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation, PrepareConfig, build_source, load_prepare_config
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources import SOURCES
from e2fashion.data.transforms import ImageTransform
from e2fashion.encoder import load_encoder
from e2fashion.export.config import ExportConfig
from e2fashion.export.write import export
from e2fashion.models import E2Output
from e2fashion.models.tokenizer import load_tokenizer
from e2fashion.tasks.captioning.config import CaptionTrainConfig
from e2fashion.training.build import LOSS_TERMS, build_loss
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TOOLS = ("e2fashion", "make", "python")


@dataclass(frozen=True)
class Snippet:
    """A fenced block or a line of one, and the page that it stands on."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0][:70]}"


def blocks(page: Path, *languages: str) -> list[Snippet]:
    result = FENCE.findall(page.read_text(encoding="utf-8"))
    return [Snippet(page.name, text) for language, text in result if language in languages]


def commands() -> list[Snippet]:
    """Lines of shell blocks, ``code`` within sentences and tables, and the first lines of configuration files."""
    result = []
    for page in PAGES:
        lines = [line for block in blocks(page, "bash") for line in block.text.replace("\\\n", " ").splitlines()]
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        lines += [code for code in re.findall(r"`([^`\n]+)`", prose) if not re.search(r"\.\.\.|<", code)]
        result += [Snippet(page.name, line) for line in lines]
    for file in sorted((ROOT / "configs").rglob("*.yaml")):
        head = [line.removeprefix("#").strip() for line in file.read_text(encoding="utf-8").splitlines()]
        result += [Snippet(file.name, line) for line in head]
    words = [(snippet, snippet.text.split()) for snippet in result]
    verbs = [f"e2fashion {verb}" for verb in registered.COMMANDS]  # named in a sentence, not given to type
    return [s for s, split in words if len(split) > 1 and split[0] in TOOLS and s.text not in verbs]


def only_with(snippets: Sequence[Snippet], tool: str) -> list[Any]:
    return [pytest.param(snippet, id=str(snippet)) for snippet in snippets if snippet.text.split()[0] == tool]


COMMANDS = commands()


def configured(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The configuration that a command reads, as far as the command itself does before it begins."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(registry, "config_of_path", config_of_path)
    command, arguments = parse(*argument_parser().parse_known_args(words))
    return command.configure(arguments)


def config_of_path(schema: type[Any], place: Path, overrides: Sequence[str]) -> Any:
    """As the real one, for folders of runs that only the reader has."""
    if place.suffix == ".yaml":
        return load_config(schema, place, overrides)
    assert place.parts[0] == "runs"
    needed = ["data=catalogue", "encoder=model"] if schema is CaptionTrainConfig else ["data=catalogue"]
    return load_config(schema, None, [*needed, *overrides])


@pytest.mark.parametrize("snippet", only_with(COMMANDS, "e2fashion"))
def test_a_command_of_ours_is_understood(
    snippet: Snippet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(re.sub(r"<[^>]*>", "placeholder", snippet.text).rstrip(".:"), comments=True)[1:]
    if {"--help", "--version"} & set(words):
        with contextlib.suppress(SystemExit):
            assert main(words) == 0
        assert capsys.readouterr().out
    else:
        assert configured(words, monkeypatch) is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "configs/run/nowhere.yaml", "data=x"], "nowhere.yaml' does not exist"),
        (["trian", "data=x"], "Did you mean 'train'"),
        (["evaluate", "model", "dta=x"], "Did you mean: 'data'"),
    ],
)
def test_a_wrong_command_would_be_noticed(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(E2FashionError, match=message):
        configured(words, monkeypatch)


@pytest.mark.parametrize("snippet", only_with(COMMANDS, "make"))
def test_a_make_target_exists(snippet: Snippet) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(snippet.text.split()[1])}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("snippet", only_with(COMMANDS, "python"))
def test_a_module_that_is_run_exists(snippet: Snippet) -> None:
    words = snippet.text.split()
    place = ROOT / words[2].replace(".", "/") if words[1] == "-m" else ROOT / words[1]
    assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()


@pytest.mark.parametrize(
    "snippet", [pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page, "yaml")]
)
def test_a_yaml_file_fits_the_schema(snippet: Snippet, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    named = re.match(r"# (configs/\S+)", snippet.text)
    file = tmp_path / (named[1] if named else "configs/given.yaml")
    file.write_text(snippet.text, encoding="utf-8")
    if re.search(r"^source:", snippet.text, re.MULTILINE):
        source = re.search(r"^source: (\w+)", snippet.text, re.MULTILINE)
        if source is None or source[1] in SOURCES:
            load_prepare_config(file, ["output=catalogue", *(["path=raw"] if "path:" not in snippet.text else [])])
        else:  # of a package that the reader writes
            load_with_options(PrepareConfig, file, ["output=catalogue"], lambda named: None)
    elif re.search(r"^rows:", snippet.text, re.MULTILINE):
        load_ablation(file, ["data=catalogue"])
    else:
        load_config(RunConfig, file, ["data=catalogue"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_readme_is_short_and_its_numbers_are_those_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 120
    table = readme.partition("<!-- results: begin -->")[2].partition("<!-- results: end -->")[0]
    numbers = re.findall(r"[\d.]+ (?:\[[^]]*\]|± [\d.]+)", table)
    assert len(numbers) >= 3
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert not [number for number in numbers if number not in results]


def test_the_python_of_the_readme_runs(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    save_tiny_run(synth_catalogue, tmp_path / "runs" / "mine")
    shutil.copytree(tmp_path / "runs" / "mine", tmp_path / "runs" / "quickstart" / "e2")
    text = {"vocab_size": len(encoder.tokenizer), "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    image = {"image_size": 32, "patch_size": 16, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 12}
    clip = tmp_path / "models" / "clip-vit-base-patch32"
    CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=8)).save_pretrained(clip)
    CLIPProcessor(encoder.transform.to_processor(), encoder.tokenizer).save_pretrained(clip)
    (tmp_path / "photos").mkdir()
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (40, 60), "navy").save(tmp_path / "photos" / name)
    monkeypatch.chdir(tmp_path)
    for kind, place in (("onnx", "exports/mine_onnx"), ("sentence_transformers", "exports/mine_st")):
        export(ExportConfig(model="runs/mine", format=kind, output=place))
    names: dict[str, Any] = {}
    pages = (ROOT / "README.md", ROOT / "docs" / "embedding.md", ROOT / "docs" / "plugins.md")
    snippets = [snippet for page in pages for snippet in blocks(page, "python")]
    assert len(snippets) >= 3
    for snippet in snippets:
        exec(compile(snippet.text, str(snippet), "exec"), names)
    assert names["scores"].shape == (2, 2)
    assert names["text"] == "Calderwick . a navy wool coat"
    assert [entity["name"] for entity in names["e2"].config.vision_config.entities] == ["brand", "season"]


def documented_module(file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of ``docs/extending.md`` that begins with the comment ``# <file>``."""
    text = next(
        block.text for block in blocks(ROOT / "docs" / "extending.md", "python") if block.text.startswith(f"# {file}\n")
    )
    (folder / Path(file).name).write_text(text, encoding="utf-8")
    name = f"documented_{Path(file).stem}"
    specification = importlib.util.spec_from_file_location(name, folder / Path(file).name)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, name, module)
    specification.loader.exec_module(module)
    return module


def test_the_documented_script_trains_without_our_commands(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = list(synth_catalogue.split("train")["description"])
    checkpoint = save_random_clip(tmp_path / "clip", texts, layers=3)
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    script = next(text for language, text in FENCE.findall(page) if text.startswith("# train_mine.py"))
    for written, here in {
        "openai/clip-vit-base-patch32": str(checkpoint),
        "catalogues/mine": str(synth_catalogue.path),
        "fusion_layers=[8, 11]": "fusion_layers=[1, 2]",
        "max_epochs=2,": "max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,",
        "AutoTokenizer.from_pretrained(checkpoint)": "load_tokenizer(checkpoint)",
        "CatalogueDataModule(": "partial(CatalogueDataModule, transform=ImageTransform(32))(",
    }.items():
        assert written in script
        script = script.replace(written, here)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"load_tokenizer": load_tokenizer, "partial": partial, "ImageTransform": ImageTransform}
    exec(compile(script, "train_mine.py", "exec"), names)
    encoder = load_encoder("models/mine")
    assert [entity.name for entity in encoder.entities] == ["brand", "season"]
    assert dict(names["trainer"].lightning_module.hparams) == {
        "learning_rate": 1e-5,
        "seed": 0,
        "optimizer": "adamw",
        "betas": [0.9, 0.999],
        "weight_decay": 1e-4,
        "warmup_steps": 100,
        "layer_decay": 1.0,
    }


def test_the_documented_functions_do_what_commands_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = ROOT / "tests" / "golden"
    shutil.copytree(golden / "catalogue", tmp_path / "catalogues" / "mine")
    shutil.copytree(golden / "decap", tmp_path / "runs" / "captions")
    shutil.copytree(golden / "e2", tmp_path / "runs" / "quickstart" / "e2")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 60), "navy").save(tmp_path / "photos" / "1.jpg")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    # The run exists; the decoder was trained for it and does not know where it is.
    for written, here in {
        '"configs/run/quickstart_e2.yaml", ["data=catalogues/mine"]': '"runs/quickstart/e2/config.yaml", CHANGES',
        'decoder="runs/captions"': 'decoder="runs/captions", encoder="runs/quickstart/e2"',
    }.items():
        assert written in text
        text = text.replace(written, here)
    names: dict[str, Any] = {"CHANGES": ["data=catalogues/mine", "output=runs/quickstart/e2"]}
    exec(compile(text, "api.md", "exec"), names)
    assert names["run"].path == Path("runs/quickstart/e2")
    assert names["file"] == names["run"].results
    assert {record.split for record in names["records"]} == {"test"}
    assert {record.task for record in names["probed"][1]} == {"probe"}
    assert names["explained"].maps[0].heatmap.heat.shape == (32 * 32,)
    assert names["captions"][0].file == Path("photos/1.jpg")


def test_the_documented_source_prepares_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = documented_module("e2fashion/data/sources/lookbook.py", tmp_path, monkeypatch)
    monkeypatch.setitem(SOURCES, "lookbook", module.LookbookSource)
    data = tmp_path / "lookbook"
    for number in range(9):
        (data / str(number)).mkdir(parents=True)
        facts = {"title": f"Dress {number}", "sold_in": "train" if number < 6 else "test"}
        maker = {"maker": "Acme"} if number % 2 else {}
        (data / str(number) / "product.json").write_text(json.dumps({**facts, **maker}))
        for view in range(2 if number < 8 else 0):
            Image.new("RGB", (8, 8), (30 * number, 90 * view, 0)).save(data / str(number) / f"{view}.jpg", quality=100)
    source = build_source("lookbook", {"path": str(data)})
    catalogue = prepare_catalogue(
        source, tmp_path / "catalogue", Preparation(on_error="skip", val_fraction=0.2), progress=False
    )
    assert {split: counts["products"] for split, counts in catalogue.manifest.splits.items()} == {
        "train": 5,
        "val": 1,
        "test": 2,
    }
    assert catalogue.manifest.skipped == {"no image": 1}


def test_the_documented_loss_adds_its_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = documented_module("e2fashion/losses/uniformity.py", tmp_path, monkeypatch)
    monkeypatch.setitem(LOSS_TERMS, "uniformity", module.Uniformity)
    words = ["data=d", "train.stages.main={epochs: 1, learning_rate: 0.1}"]
    yaml = next(block.text for block in blocks(ROOT / "docs" / "extending.md", "yaml") if "uniformity" in block.text)
    (tmp_path / "run.yaml").write_text(yaml, encoding="utf-8")
    (weighted,) = build_loss(load_config(RunConfig, tmp_path / "run.yaml", words)).terms.values()
    image = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    pairs = [(image[i] - image[j]).square().sum() for i in range(5) for j in range(i)]
    slow = torch.stack([torch.exp(-2 * distance) for distance in pairs]).mean().log()
    assert weighted.weight == 0.1
    torch.testing.assert_close(weighted.term(E2Output(image_embeds=image), None), slow)
