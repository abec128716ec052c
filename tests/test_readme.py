"""What README and docs tell a reader to type works: commands, YAML files, Python, links."""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tiny_encoder import build_tiny_encoder, save_tiny_run
from transformers import CLIPConfig, CLIPModel, CLIPProcessor

from e2fashion import ablation, cli, runner
from e2fashion.ablation import load_ablation
from e2fashion.config import load_config, load_prepare_config, split_names, split_numbers
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources import SOURCES
from e2fashion.data.text import TextTemplate
from e2fashion.features import KINDS
from e2fashion.losses.terms import LOSS_TERMS
from e2fashion.models import E2Output
from e2fashion.runner.captioning import check_caption_config
from e2fashion.runner.classification import published_rows
from e2fashion.schema import (
    CaptionEvaluateConfig,
    CaptionRunConfig,
    CaptionTrainConfig,
    CheckConfig,
    ClassifyConfig,
    CompareConfig,
    ComposeConfig,
    ConvertConfig,
    DescribeConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    IndexBuildConfig,
    IndexChangeConfig,
    IndexEvaluateConfig,
    IndexRemoveConfig,
    PrepareConfig,
    ProbeConfig,
    RecommendConfig,
    ReportConfig,
    RunConfig,
    SearchConfig,
    TagsFitConfig,
    TagsPredictConfig,
)
from e2fashion.tasks.captioning.readings import NEAREST, READINGS
from e2fashion.tasks.classification.zero_shot import fill_templates
from e2fashion.tasks.composed import check_arms
from e2fashion.tasks.localization.explain import METHODS as EXPLAINING
from e2fashion.tasks.retrieval.protocols import PROTOCOLS
from e2fashion.training import run_configs
from e2fashion.training.build import build_loss, build_source
from e2fashion.types import SPLITS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]
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
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [Snippet(page.name, text) for language, text in found if language in languages]


def commands() -> list[Snippet]:
    """Lines of shell blocks, ``code`` within sentences and tables, and the first lines of configuration files."""
    found = []
    for page in PAGES:
        lines = [line for block in blocks(page, "bash") for line in block.text.replace("\\\n", " ").splitlines()]
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        lines += [code for code in re.findall(r"`([^`\n]+)`", prose) if not re.search(r"\.\.\.|<", code)]
        found += [Snippet(page.name, line) for line in lines]
    for file in sorted((ROOT / "configs").rglob("*.yaml")):
        head = [line.removeprefix("#").strip() for line in file.read_text(encoding="utf-8").splitlines()]
        found += [Snippet(file.name, line) for line in head]
    words = [(snippet, snippet.text.split()) for snippet in found]
    verbs = [f"e2fashion {verb}" for verb in cli.VERBS]  # named in a sentence, not given to type
    return [s for s, split in words if len(split) > 1 and split[0] in TOOLS and s.text not in verbs]


def only_with(snippets: Sequence[Snippet], tool: str) -> list[Any]:
    return [pytest.param(snippet, id=str(snippet)) for snippet in snippets if snippet.text.split()[0] == tool]


COMMANDS = commands()


class Rehearsal:
    """The runner's functions, as far as they read configurations: nothing is trained or written."""

    def prepare(self, config: PrepareConfig, options: dict[str, Any], progress: bool = True) -> str:
        schema: Any = SOURCES[config.source]
        given = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(options))
        OmegaConf.to_container(given, throw_on_missing=True)
        assert config.output
        return "prepared"

    def describe(self, config: DescribeConfig) -> str:
        TextTemplate(config.template)
        return "described"

    def check(self, config: CheckConfig, progress: bool = True) -> tuple[str, bool]:
        TextTemplate(config.template)
        return "checked", True

    def train(self, place: Path, overrides: Sequence[str] = (), progress: bool = True) -> str:
        config_of_place(RunConfig, place, overrides)
        return "trained"

    def evaluate(self, config: EvaluateConfig, progress: bool = True) -> str:
        assert set(split_names(config.protocol)) <= set(PROTOCOLS)
        assert set(split_names(config.split)) <= set(SPLITS)
        return "evaluated"

    def probe(self, config: ProbeConfig, progress: bool = True) -> str:
        assert set(split_names(config.features)) <= set(KINDS)
        assert config.split in SPLITS
        assert split_names(config.entity)
        split_numbers("shots", config.shots)
        return "probed"

    def classify(self, config: ClassifyConfig, progress: bool = True) -> str:
        assert set(split_names(config.features)) <= set(KINDS)
        assert config.split in SPLITS
        assert config.column
        fill_templates(["a label"], config.templates)
        published_rows(config)
        return "classified"

    def compose(self, config: ComposeConfig, progress: bool = True) -> str:
        check_arms(split_names(config.arms))
        assert split_names(config.model)
        assert config.data
        return "composed"

    def explain(self, config: ExplainConfig) -> str:
        assert config.image or (config.data and config.product_id)
        assert set(split_names(config.methods or "")) <= set(EXPLAINING)
        return "explained"

    def convert(self, config: ConvertConfig) -> str:
        assert (config.source == "folder") != (config.target == "folder")
        assert config.target != "folder" or config.tokenizer
        assert config.checkpoint
        assert config.output
        return "converted"

    def export(self, config: ExportConfig) -> str:
        assert config.output
        return "exported"

    def tags_fit(self, config: TagsFitConfig, progress: bool = True) -> str:
        assert config.data
        return "fitted"

    def tags_predict(self, config: TagsPredictConfig, pictures: Sequence[str]) -> str:
        assert pictures
        return "predicted"

    def caption_train(self, place: Path, overrides: Sequence[str] = (), progress: bool = True) -> str:
        check_caption_config(config_of_place(CaptionTrainConfig, place, overrides))
        return "trained"

    def caption_run(self, config: CaptionRunConfig, pictures: Sequence[Path], progress: bool = True) -> str:
        assert config.reading in (*READINGS, NEAREST)
        assert pictures
        return "told"

    def caption_evaluate(self, config: CaptionEvaluateConfig, progress: bool = True) -> str:
        assert set(split_names(config.reading)) <= {*READINGS, NEAREST}
        assert config.split in SPLITS
        return "measured"

    def index_build(self, config: IndexBuildConfig, progress: bool = True) -> str:
        assert config.output
        return "built"

    def index_change(self, config: IndexChangeConfig, update: bool, progress: bool = True) -> str:
        assert config.source
        return "changed"

    def index_remove(self, config: IndexRemoveConfig) -> str:
        assert split_names(config.ids)
        return "removed"

    def index_describe(self, path: str) -> str:
        return "described"

    def index_evaluate(self, config: IndexEvaluateConfig) -> str:
        assert split_names(config.columns)
        return "evaluated"

    def search(self, config: SearchConfig) -> str:
        assert config.text or config.image
        return "found"

    def recommend(self, config: RecommendConfig) -> str:
        assert config.product or config.image
        return "walked"

    def compare(self, files: Sequence[Path], overrides: Sequence[str], progress: bool = True) -> str:
        own = {"data", "output", "split", "gallery_products"}
        load_config(CompareConfig, None, [word for word in overrides if word.partition("=")[0] in own])
        shared = [word for word in overrides if word.partition("=")[0] not in own - {"data"}]
        for file in files:
            load_config(RunConfig, file, shared)
        return "compared"

    def ablate(self, file: Path, overrides: Sequence[str] = (), **options: Any) -> tuple[str, bool]:
        load_ablation(file, overrides).chosen(options["only"])
        return "trained", True

    def report(self, config: ReportConfig, places: Sequence[Path]) -> str:
        assert places
        return "reported"


def config_of_place(schema: type[Any], place: Path, overrides: Sequence[str]) -> Any:
    """As the real one, for folders of runs that only the reader has."""
    if place.suffix == ".yaml":
        return load_config(schema, place, overrides)
    assert place.parts[0] == "runs"
    needed = ["data=catalogue", "encoder=model"] if schema is CaptionTrainConfig else ["data=catalogue"]
    return load_config(schema, None, [*needed, *overrides])


def replace_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal = Rehearsal()
    monkeypatch.setattr(ablation, "ablate", rehearsal.ablate)
    monkeypatch.setattr(run_configs, "config_of_place", config_of_place)
    for verb in (
        "prepare",
        "describe",
        "check",
        "train",
        "evaluate",
        "probe",
        "compare",
        "report",
        "classify",
        "compose",
        "explain",
        "convert",
        "export",
        "tags_fit",
        "tags_predict",
        "caption_train",
        "caption_run",
        "caption_evaluate",
        "index_build",
        "index_change",
        "index_remove",
        "index_describe",
        "index_evaluate",
        "search",
        "recommend",
    ):
        monkeypatch.setattr(runner, verb, getattr(rehearsal, verb))


@pytest.mark.parametrize("snippet", only_with(COMMANDS, "e2fashion"))
def test_a_command_of_ours_is_understood(
    snippet: Snippet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_runner(monkeypatch)
    monkeypatch.chdir(ROOT)
    words = shlex.split(re.sub(r"<[^>]*>", "placeholder", snippet.text).rstrip(".:"), comments=True)
    code = cli.main(words[1:])
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("words", [["train", "configs/run/nowhere.yaml", "data=x"], ["trian", "data=x"]])
def test_a_wrong_command_would_be_noticed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    replace_runner(monkeypatch)
    monkeypatch.chdir(ROOT)
    assert cli.main(words) == 1


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
        _, options = load_prepare_config(file, ["output=catalogue"])
        if (source := re.search(r"^source: (\w+)", snippet.text, re.MULTILINE)) and source[1] in SOURCES:
            OmegaConf.merge(OmegaConf.structured(SOURCES[source[1]]), OmegaConf.create(options))
    elif re.search(r"^rows:", snippet.text, re.MULTILINE):
        load_ablation(file, ["data=catalogue"])
    else:
        load_config(RunConfig, file, ["data=catalogue"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_python_of_the_readme_runs(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = build_tiny_encoder(synth_catalogue)
    save_tiny_run(synth_catalogue, tmp_path / "runs" / "mine")
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
        runner.export(ExportConfig(model="runs/mine", format=kind, output=place))
    names: dict[str, Any] = {}
    snippets = [*blocks(ROOT / "README.md", "python"), *blocks(ROOT / "docs" / "plugins.md", "python")]
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
    catalogue = prepare_catalogue(source, tmp_path / "catalogue", on_error="skip", val_fraction=0.2, progress=False)
    assert {split: counts["products"] for split, counts in catalogue.manifest.splits.items()} == {
        "train": 5,
        "val": 1,
        "test": 2,
    }
    assert catalogue.manifest.skipped == {"no picture": 1}


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
