"""``e2fashion caption train | run | evaluate`` from configuration files to captions and records, and their errors."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import GPT2Config, GPT2LMHeadModel

import e2fashion
from e2fashion.__main__ import main
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.metrics import captioning as metrics
from e2fashion.records import read_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.captioning.captioner import Captioner, NearestCaption, load_captioner, open_decoder
from e2fashion.tasks.captioning.config import CaptionEvaluateConfig, CaptionRunConfig, CaptionTrainConfig, PromptSource
from e2fashion.tasks.captioning.measure import evaluate_captions, read_captions
from e2fashion.tasks.captioning.tokens import CaptionBatch
from e2fashion.tasks.captioning.train import CaptionModule, check_caption_config, train_decoder
from e2fashion.training.callbacks import ResumeCheckpoint
from e2fashion.types import E2FashionError
from tests.tiny_encoder import SETTINGS, build_tiny_encoder

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "caption"
SMALL = [
    "accelerator=cpu",
    "model={layers: 1, heads: 2, width: 16}",
    "mapper={length: 2, layers: 1, heads: 2}",
    "train={epochs: 2, batch_size: 16, learning_rate: 0.01}",
    "length=20",
]


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    build_tiny_encoder(synth_catalogue).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def words(synth_catalogue: Catalogue, encoder: Path) -> list[str]:
    return [f"data={synth_catalogue.path}", f"encoder={encoder}", *SMALL]


@pytest.fixture(scope="module")
def decoder(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DeCap with everything on: noise, offset, prompts."""
    output = tmp_path_factory.mktemp("decap") / "run"
    options = ["prompt_entities=brand", "noise_variance=0.01", "modality_offset=true", f"output={output}"]
    assert main(["caption", "train", str(CONFIGS / "decap_small.yaml"), *words, *options, "--quiet"]) == 0
    return output


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_caption_configuration_is_valid_and_called_like_its_file(file: Path) -> None:
    config = load_config(CaptionTrainConfig, file, ["data=x", "encoder=y"])
    assert config.name == file.stem
    check_caption_config(config)


def test_a_finished_decoder_explains_itself_and_is_not_trained_again(
    decoder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    record = RunFolder(decoder).read_record()
    assert record["done"]
    assert record["method"] == "DeCap"
    assert record["captions"]["without_caption"] == 0
    stamp = (decoder / "model" / "caption.json").stat().st_mtime_ns
    assert main(["caption", "train", str(decoder), "--quiet"]) == 0
    assert "DeCap for the encoder 'tiny', best epoch" in capsys.readouterr().out
    assert (decoder / "model" / "caption.json").stat().st_mtime_ns == stamp
    for memory in (decoder / "memory").glob("*/embeds.npy"):
        whole = memory.read_bytes()
        memory.write_bytes(whole[:-1])
        assert main(["caption", "train", str(decoder), "--quiet"]) == 0
        assert memory.read_bytes() == whole
    assert main(["caption", "train", str(CONFIGS / "decap.yaml"), *words, f"output={decoder}"]) == 1
    assert "holds another run" in capsys.readouterr().err


def test_a_decoder_finds_its_encoder_from_anywhere_and_never_on_the_hub(
    decoder: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "caption"
    shutil.copytree(decoder, run)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    written = f"encoder: {encoder}"
    config = RunFolder(run).config
    text = config.read_text(encoding="utf-8")
    assert written in text
    config.write_text(text.replace(written, "encoder: models/tiny"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["caption", "run", str(run), str(tmp_path / "a.png"), "accelerator=cpu", "--quiet"]) == 0
    capsys.readouterr()
    record = json.loads(RunFolder(run).record.read_text(encoding="utf-8"))
    record.pop("checksum", None)
    del record["encoder_place"]  # as an older version wrote it
    RunFolder(run).record.write_text(json.dumps(record), encoding="utf-8")
    assert main(["caption", "run", str(run), str(tmp_path / "a.png"), "accelerator=cpu", "--quiet"]) == 1
    printed = capsys.readouterr().err
    assert f"tried {tmp_path}/models/tiny and {run}/models/tiny. Give encoder=<folder or hub name>." in printed


def test_training_lowers_the_loss(words: list[str], tmp_path: Path) -> None:
    config = load_config(
        CaptionTrainConfig, CONFIGS / "decap_small.yaml", [*words, f"output={tmp_path}/run", "train.epochs=8"]
    )
    folder = train_decoder(config, progress=False)
    losses = [float(line.split(",")[-1] or "nan") for line in _losses(folder)]
    assert losses[-1] < losses[0] - 1.0
    captioner = load_captioner(folder.path, load_encoder(config.encoder))
    texts = load_encoder(config.encoder).embed_texts(["x"])
    assert len(captioner.caption(texts)[0].split()) > 2


def _losses(folder: RunFolder) -> list[str]:
    with (next((folder.path / "logs" / "csv").glob("*/metrics.csv"))).open() as file:
        return [row["val/loss"] for row in csv.DictReader(file) if row["val/loss"]]


def test_an_interrupted_training_ends_as_one_in_one_go(words: list[str], tmp_path: Path) -> None:
    def train(name: str, *options: str) -> dict[str, torch.Tensor]:
        config = load_config(
            CaptionTrainConfig,
            CONFIGS / "decap_small.yaml",
            [*words, f"output={tmp_path / name}", f"memory={tmp_path}/memory", "train.epochs=3", *options],
        )
        folder = train_decoder(config, progress=False)
        return dict(GPT2LMHeadModel.from_pretrained(folder.model / "language_model").state_dict())

    whole = train("whole")
    stopping = CaptionModule.training_step
    steps = 0

    def interrupt(self: CaptionModule, batch: CaptionBatch, batch_idx: int) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 7:
            (checkpoint,) = [item for item in self.trainer.callbacks if isinstance(item, ResumeCheckpoint)]
            checkpoint.requested = True
        return stopping(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptionModule, "training_step", interrupt)
        with pytest.raises(E2FashionError, match="Resume with: e2fashion caption train"):
            train("parts")
    again = train("parts")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_every_reading_and_baseline_is_measured(
    decoder: Path, synth_catalogue: Catalogue, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = [f"data={synth_catalogue.path}", "split=test", "reading=direct,shifted,project,nearest", "tokenizer=words"]
    options = ["meteor=false", "beams=2", "accelerator=cpu", f"output={tmp_path}/results.jsonl"]
    assert main(["caption", "evaluate", str(decoder), *given, *options, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "| DeCap | tiny | direct, beams 2 | 0.01 | brand |" in shown
    assert "| nearest caption (CLIPRe) | tiny | nearest |" in shown
    assert "| most frequent caption |" in shown
    assert "tokenizer `words`, pycocoevalcap" in shown
    records = read_records(tmp_path / "results.jsonl")
    assert {record.metric for record in records} == {*metrics.CAPTION_METRICS} - {"METEOR"}
    assert {record.protocol for record in records} == {"", "direct", "shifted", "project", "nearest"}
    (cider,) = [record for record in records if (record.metric, record.protocol) == ("CIDEr", "nearest")]
    assert cider.low is not None
    assert cider.low <= cider.value <= (cider.high or 0.0)
    captions = read_captions(tmp_path / "captions" / "test-direct.jsonl")
    assert len(captions) == cider.queries
    assert captions[0].prompt in {row["brand"] for row in synth_catalogue.split("train")}


def test_a_prompt_is_read_off_regions_or_the_whole_image(
    decoder: Path, synth_catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_decoder(CaptionRunConfig(decoder=str(decoder), accelerator="cpu"))
    first, second, *_ = opened.stored.facts.prompt_tags["brand"]
    embeds = opened.encoder.embed_tags([first, second])
    regions = {"brand": embeds.flip(0)}
    sources: list[PromptSource] = ["image", "regions", "auto"]
    found = [opened.prompts(embeds, regions, opened.prompt_from_image(source)) for source in sources]
    assert found == [[first, second], [second, first], [second, first]]
    given = [f"data={synth_catalogue.path}", "reading=direct", "tokenizer=words", "meteor=false", "accelerator=cpu"]
    given += ["prompt_from=image", f"output={tmp_path}/results.jsonl", "--quiet"]
    assert main(["caption", "evaluate", str(decoder), *given]) == 0
    assert "| DeCap | tiny | direct | 0.01 | brand of the image |" in capsys.readouterr().out


def test_any_clip_has_prompts_from_the_whole_image(
    words: list[str], synth_catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [word for word in SETTINGS if "entities" not in word and "fusion" not in word]
    build_tiny_encoder(synth_catalogue, plain).save_pretrained(tmp_path / "plain")
    given = [word for word in words if not word.startswith("encoder=")]
    given += [f"encoder={tmp_path}/plain", f"output={tmp_path}/run", "prompt_entities=brand,season"]
    assert main(["caption", "train", str(CONFIGS / "decap_small.yaml"), *given, "--quiet"]) == 0
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    assert main(["caption", "run", f"{tmp_path}/run", f"{tmp_path}/a.png", "accelerator=cpu"]) == 0
    capsys.readouterr()
    given = [f"data={synth_catalogue.path}", "tokenizer=words", "meteor=false", "accelerator=cpu", "--quiet"]
    assert main(["caption", "evaluate", f"{tmp_path}/run", *given]) == 0
    assert "| brand,season of the image |" in capsys.readouterr().out
    assert main(["caption", "evaluate", f"{tmp_path}/run", *given, "prompt_from=regions"]) == 1
    assert "'plain' has no region of 'brand': write prompt_from=image or auto" in capsys.readouterr().err


def test_images_are_captioned(decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], encoder: Path) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    given = ["caption", "run", str(decoder), str(tmp_path), f"output={tmp_path}/captions.csv", "accelerator=cpu"]
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert (tmp_path / "captions.csv").read_text().startswith("image,caption")
    loaded = load_encoder(str(encoder))
    given = [f"decoder={decoder}", f"images={tmp_path}/b.png", "reading=nearest", "accelerator=cpu"]
    (captioned,) = e2fashion.caption(load_config(CaptionRunConfig, None, given), progress=False)
    assert captioned.file == tmp_path / "b.png"
    embeds = loaded.embed_images([tmp_path / "a.png", captioned.file])
    assert isinstance(load_captioner(decoder, loaded), Captioner)
    nearest = load_captioner(decoder, loaded, reading="nearest")
    assert isinstance(nearest, NearestCaption)
    assert nearest.caption(embeds)[1] == captioned.caption
    assert captioned.caption in nearest.memory.captions


def test_capdec_without_a_pretrained_model_is_labeled(words: list[str], tmp_path: Path, encoder: Path) -> None:
    config = load_config(CaptionTrainConfig, CONFIGS / "capdec.yaml", [*words, f"output={tmp_path}/scratch"])
    assert train_decoder(config, progress=False).read_record()["method"] == "CapDec (scratch LM)"
    tokenizer = load_encoder(str(encoder)).tokenizer
    pretrained = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2))
    pretrained.save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    config.lm, config.output = str(tmp_path / "gpt2"), str(tmp_path / "pretrained")
    assert train_decoder(config, progress=False).read_record()["method"] == "CapDec"
    config.length, config.output = 70, str(tmp_path / "long")
    with pytest.raises(E2FashionError, match="reads 64 tokens; prefix, prompt and caption need 73"):
        train_decoder(config, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["lm=nowhere/else/gpt2", "method=capdec"], "neither a model folder nor a hub name.*lm=scratch"),
        (["lm=gpt2"], "lm is 'gpt2', but DeCap's language model is trained from scratch"),
        (["caption={colour_of_the_sea}"], r"the field '\{colour_of_the_sea\}', which the catalogue lacks"),
        (["train.epochs=0"], "train.epochs is 0; give a number from 1"),
        (
            ["prompt_entities=brand,fit"],
            r"names 'fit', which is neither an entity of the encoder .* nor a tag column of",
        ),
        (["model.heads=3"], "model.width is 16, which model.heads=3 does not divide"),
        (["method=capdec", "mapper.heads=3"], "mapper.heads is 3, which does not divide"),
        (["memory_size=0"], "memory_size is 0"),
        (["noise_variance=-1"], "noise_variance is -1"),
        (["length=1"], "length is 1; give a number from 2"),
    ],
)
def test_a_mistake_in_training_is_named(words: list[str], options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=f"(?s){message}"):
        train_decoder(
            load_config(CaptionTrainConfig, CONFIGS / "decap_small.yaml", [*words, f"output={tmp_path}/x", *options]),
            progress=False,
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["reading=projected"],
            r"key 'reading\[0\]': Invalid value 'projected', expected one of .*'project'",
        ),
        (["reading=,"], "reading is empty"),
        (["length=30"], "length is 30, but the decoder was trained for captions of 20 tokens"),
        (["split=valid"], "has no split 'valid'"),
        (["beams=0"], "beams is 0"),
        (["batch_size=0"], "batch_size is 0"),
        (["clip_score={encoder}"], "clip_score names 'tiny', the encoder that the captions are made from"),
    ],
)
def test_a_mistake_in_evaluation_is_named(
    decoder: Path, encoder: Path, synth_catalogue: Catalogue, options: list[str], message: str
) -> None:
    given = [f"decoder={decoder}", f"data={synth_catalogue.path}", "accelerator=cpu"]
    given += [option.replace("{encoder}", str(encoder)) for option in options]
    with pytest.raises(E2FashionError, match=message):
        evaluate_captions(load_config(CaptionEvaluateConfig, None, given), progress=False)


def test_another_encoder_is_refused_with_both_names(decoder: Path, synth_catalogue: Catalogue, tmp_path: Path) -> None:
    wider = [word.replace("projection_dim=16", "projection_dim=8") for word in SETTINGS]
    build_tiny_encoder(synth_catalogue, wider).save_pretrained(tmp_path / "other")
    with pytest.raises(E2FashionError, match=r"was made with the encoder 'tiny' .*not with 'other'"):
        load_captioner(decoder, load_encoder(str(tmp_path / "other")))


def test_an_encoder_that_compares_tokens_is_refused(
    words: list[str], synth_catalogue: Catalogue, tmp_path: Path
) -> None:
    plain = [word for word in SETTINGS if "entities" not in word and "fusion" not in word]
    build_tiny_encoder(synth_catalogue, [*plain, "model.similarity=tokens"]).save_pretrained(tmp_path / "filip")
    given = [*words, f"encoder={tmp_path}/filip", f"output={tmp_path}/run"]
    with pytest.raises(E2FashionError, match="'filip' compares tokens"):
        train_decoder(load_config(CaptionTrainConfig, CONFIGS / "decap_small.yaml", given), progress=False)


def test_without_java_its_metrics_are_missing_with_a_warning(
    decoder: Path, synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path))
    given = [f"data={synth_catalogue.path}", "accelerator=cpu", "--quiet", f"output={tmp_path}/words.jsonl"]
    assert main(["caption", "evaluate", str(decoder), *given, "tokenizer=words"]) == 0
    assert "Java is not on the path: METEOR" in caplog.text
    assert "| n/a |" in capsys.readouterr().out
    given[-1] = f"output={tmp_path}/ptb.jsonl"
    assert main(["caption", "evaluate", str(decoder), *given]) == 1
    assert "Java is not on the path" in capsys.readouterr().err
