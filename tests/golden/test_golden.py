"""What an earlier commit wrote is still read, and means the same; see README.md there."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from e2fashion.ablation.plan import load_ablation
from e2fashion.ablation.run import train as train_run
from e2fashion.ablation.state import finished_runs
from e2fashion.config import load_config, save_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation, build_source
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.encoder import EncoderIdentity, load_encoder
from e2fashion.records import append_records, read_records
from e2fashion.report import write_tables
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.captioning.captioner import load_captioner
from e2fashion.tasks.captioning.config import CaptionTrainConfig
from e2fashion.tasks.captioning.storage import load_decoder, save_decoder
from e2fashion.tasks.captioning.train import caption_identity
from e2fashion.tasks.classification.tag_predictor import load_tag_predictor
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import embed_catalogue, measure_retrieval
from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import EmbedConfig
from e2fashion.tasks.search.index import open_index
from e2fashion.tasks.search.upgrade import upgrade
from e2fashion.training import build
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import run_identity

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parents[1] / "configs"
SYSTEMS = ("e2", "filip", "ei_clip")
DECODERS = ("decap", "capdec")
EXPECTED = HERE / "expected.safetensors"
IDENTITIES = HERE / "identities.json"
DATA_FINGERPRINT = "4c97e4bd3477647493a231e5ab6971e90a491b71d474f861f273141bfded3760"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders in a place of their own, which is the working directory: paths in them are relative."""
    shutil.copytree(HERE, tmp_path / "golden", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.chdir(tmp_path / "golden")
    return tmp_path / "golden"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(HERE / "catalogue")


def run_identities() -> dict[str, str]:
    """Of every configuration of a run, on data without a name."""
    files = sorted((CONFIGS / "run").glob("*.yaml"))
    result = {}
    for file in files:
        config = load_config(RunConfig, file, ["data=catalogue"])
        config, _ = build.resolve_arithmetic(config, torch.device("cuda" if "finetune" in file.stem else "cpu"))
        result[file.stem] = run_identity(config, "golden")
    return result


def row_identities() -> dict[str, dict[str, str]]:
    """Of every row of every ablation."""
    result: dict[str, dict[str, str]] = {}
    for file in sorted((CONFIGS / "ablation").glob("*.yaml")):
        ablation = load_ablation(file, ["data=catalogue", "seeds=[0]"]).on("golden")
        result[file.stem] = {run.row: run.identity for run in ablation.runs}
    return result


def caption_identities() -> dict[str, str]:
    """Of every configuration of a caption decoder."""
    encoder = EncoderIdentity("golden", "f" * 64, 8)
    result = {}
    for file in sorted((CONFIGS / "caption").glob("*.yaml")):
        config = load_config(CaptionTrainConfig, file, ["data=catalogue", "encoder=e2"])
        if config.train.precision == "auto":
            config = replace(config, train=replace(config.train, precision="bf16"))
        result[file.stem] = caption_identity(config, "golden", encoder)
    return result


def embeddings() -> Iterator[tuple[str, Tensor]]:
    """Of test's images and texts by every model, and what each decoder says next to the embeddings of the first."""
    catalogue = Catalogue.load(HERE / "catalogue")
    for system in SYSTEMS:
        embedded = embed_catalogue(load_encoder(str(HERE / system)), catalogue, "test", progress=False)
        yield f"{system}/image", embedded.image_embeds
        yield f"{system}/text", embedded.text_embeds
        comparison = embedded.compare()
        yield f"{system}/scores", torch.stack([comparison.scores("t2i", row) for row in range(4)])
    generator = torch.Generator().manual_seed(0)
    embeds = torch.nn.functional.normalize(torch.randn(2, 8, generator=generator), dim=-1)
    for name in DECODERS:
        stored = load_decoder(HERE / name / "model")
        with torch.inference_mode():
            result = stored.decoder.eval().prefix(embeds)
            yield f"{name}/logits", stored.decoder.language_model(inputs_embeds=result).logits


@pytest.mark.parametrize("kind", ["run", "ablation", "caption"])
def test_configurations_have_the_identity_of_finished_runs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # They were made where bf16 is native; an identity counts what ``auto`` meant there.
    monkeypatch.setattr("e2fashion.arithmetic.multiplies_bf16", lambda device: True)
    monkeypatch.setattr("e2fashion.arithmetic.device_name", str)
    known = json.loads(IDENTITIES.read_text(encoding="utf-8"))[kind]
    result = {"run": run_identities, "ablation": row_identities, "caption": caption_identities}[kind]()
    assert {name: result[name] for name in known} == known


@pytest.fixture(scope="module")
def computed() -> dict[str, Tensor]:
    return dict(embeddings())


@pytest.mark.parametrize("name", sorted(load_file(EXPECTED)))
def test_models_compute_what_they_computed(name: str, computed: dict[str, Tensor]) -> None:
    known = load_file(EXPECTED)[name]
    assert computed[name].shape == known.shape
    assert torch.allclose(computed[name], known, atol=2e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_model_folder_is_saved_as_it_was(system: str, tmp_path: Path) -> None:
    known, made = HERE / system / "model", tmp_path / "model"
    load_encoder(str(HERE / system)).save_pretrained(made)
    joined = {"checksums.json"}  # since then
    assert {file.name for file in made.iterdir()} - joined == {file.name for file in known.iterdir()}
    weights, before = (load_file(folder / "model.safetensors") for folder in (made, known))
    assert weights.keys() == before.keys()
    assert all(torch.equal(weights[key], before[key]) for key in before)
    for name in ("config.json", "processor_config.json", "tokenizer.json"):
        content, former = (json.loads((folder / name).read_text(encoding="utf-8")) for folder in (made, known))
        # Baselines may get classes of their own.
        for key in ("transformers_version", *(["architectures"] if system != "e2" else [])):
            former.pop(key, None)
        assert holds(content, former)


def holds(content: object, former: object) -> bool:
    """Whether everything of ``former`` is in ``content``; keys may have joined."""
    if isinstance(content, dict) and isinstance(former, dict):
        return all(key in content and holds(content[key], value) for key, value in former.items())
    return content == former


def test_records_are_read_and_written_as_they_were(tmp_path: Path) -> None:
    records = read_records(HERE / "e2" / "results.jsonl", latest=False)
    append_records(tmp_path / "results.jsonl", records)
    # A checksum joined the end of each line.
    written = re.sub(rb', "checksum": "[0-9a-f]{32}"}', b"}", (tmp_path / "results.jsonl").read_bytes())
    assert written == (HERE / "e2" / "results.jsonl").read_bytes()
    assert read_records(HERE / "e2" / "results.jsonl") == records


def test_tables_of_a_finished_run(tmp_path: Path) -> None:
    write_tables(read_records(HERE / "e2" / "results.jsonl"), tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == (HERE / "report.md").read_text(encoding="utf-8")


def test_evaluation_finds_the_values_that_were_recorded(catalogue: Catalogue) -> None:
    known = {
        (r.protocol, r.direction, r.positives, r.metric): (r.value, r.low, r.high, r.queries, r.extra)
        for r in read_records(HERE / "e2" / "results.jsonl")
        if (r.task, r.split) == ("retrieval", "test")
    }
    config, lists = EvaluateConfig(protocol=["full", "sample_100"]), HERE / "e2" / "candidates"
    encoder = load_encoder(str(HERE / "e2"))
    result = measure_retrieval(encoder, catalogue, "test", config, candidates=lists, progress=False)
    assert {
        (r.protocol, r.direction, r.positives, r.metric): (r.value, r.low, r.high, r.queries, r.extra) for r in result
    } == known


def test_a_finished_run_stays_finished(place: Path) -> None:
    before = {
        file: file.read_bytes() for file in place.glob("e2/**/*") if file.is_file() and file.name != "record.json"
    }
    train_run(load_config(RunConfig, place / "e2" / "config.yaml"), progress=False)
    after = {file: file.read_bytes() for file in before if file.is_file()}
    changed = [str(file.relative_to(place)) for file in before if before[file] != after.get(file)]
    assert [name for name in changed if not name.endswith("config.yaml")] == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_configuration_of_a_run_gives_its_identity(system: str, tmp_path: Path) -> None:
    folder = RunFolder(HERE / system)
    config = load_config(RunConfig, folder.config)
    assert run_identity(config, DATA_FINGERPRINT) == folder.read_record()["identity"]
    save_config(config, tmp_path / "config.yaml")
    assert run_identity(load_config(RunConfig, tmp_path / "config.yaml"), DATA_FINGERPRINT) == run_identity(
        config, DATA_FINGERPRINT
    )


def test_finished_runs_are_found_by_identity() -> None:
    assert finished_runs([HERE])["f6bc038365b4"].path == HERE / "e2"


def test_a_catalogue_is_read(catalogue: Catalogue) -> None:
    assert catalogue.fingerprint == DATA_FINGERPRINT
    assert catalogue.tag_columns == ("brand", "season", "sub_category", "composition")
    assert {name: len(catalogue.split(name)) for name in catalogue.split_names} == {"train": 32, "val": 4, "test": 4}
    first = next(catalogue.samples("test"))
    assert first.image[:4] == b"\x89PNG" or first.image[:2] == b"\xff\xd8"
    assert first.regions is not None


def test_a_catalogue_is_written_as_it_was(tmp_path: Path) -> None:
    source = build_source("synthetic", {"products": 40, "image_size": 32, "views": 1, "seed": 0})
    config = Preparation(val_fraction=0.2, test_fraction=0.2)
    prepare_catalogue(source, tmp_path / "catalogue", config, progress=False)
    made, known = (json.loads((f / "manifest.json").read_text()) for f in (tmp_path / "catalogue", HERE / "catalogue"))
    assert made["source"]["options"].pop("detail_scale") == 1.0  # joined later
    assert {name: made[name] for name in known if name != "created_by"} == {
        name: value for name, value in known.items() if name != "created_by"
    }
    made_columns, columns = (
        Catalogue.load(f).split("test").features for f in (tmp_path / "catalogue", HERE / "catalogue")
    )
    assert {name: made_columns[name] for name in columns} == dict(columns)


def test_an_index_answers(place: Path) -> None:
    upgrade(Path("index"))
    index = open_index("index", load_encoder("e2"))
    catalogue = Catalogue.load("catalogue")
    assert list(index.product_ids) == list(catalogue.split("test")["product_id"])
    known = load_file("expected.safetensors")["e2/scores"]
    template = load_encoder("e2").template
    for row, scores in zip(catalogue.split("test"), known, strict=True):
        hits = {hit.product_id: hit.score for hit in index.search(template.render(row, row["description"]), top=4)}
        result = torch.tensor([hits[product] for product in index.product_ids])
        assert torch.allclose(result, scores, atol=2e-3)  # an index holds fp16


def test_an_index_holds_what_it_held(place: Path) -> None:
    encoder, catalogue = load_encoder("e2"), Catalogue.load("catalogue")
    made = build_index(encoder, catalogue, "made", EmbedConfig(split=["test"]))
    upgrade(Path("index"))
    known = open_index("index")
    assert made.facts.encoder.fingerprint == known.facts.encoder.fingerprint
    for product in known.product_ids:
        torch.testing.assert_close(made.vector_of(product), known.vector_of(product), atol=2e-3, rtol=0)


def test_a_tag_predictor_is_read(place: Path) -> None:
    predictor = load_tag_predictor("e2")
    known = json.loads((place / "e2" / "tags.json").read_text(encoding="utf-8"))
    assert [entity.entity for entity in predictor.entities] == [item["entity"] for item in known["entities"]]
    assert [list(entity.values) for entity in predictor.entities] == [item["values"] for item in known["entities"]]


@pytest.mark.parametrize("name", DECODERS)
def test_a_caption_decoder_tells_images(name: str, place: Path) -> None:
    encoder = load_encoder("e2")
    captioner = load_captioner(place / name, encoder, reading="project")
    embeds = load_file("expected.safetensors")["e2/image"]
    captions = captioner.caption(embeds)
    assert captions == json.loads(Path("captions.json").read_text(encoding="utf-8"))[name]
    save_decoder(load_decoder(place / name / "model"), place / "again")
    files = {file.relative_to(place / name / "model") for file in (place / name / "model").rglob("*") if file.is_file()}
    again = {file.relative_to(place / "again") for file in (place / "again").rglob("*") if file.is_file()}
    assert again - {Path("checksums.json")} == files
