"""``e2fashion convert``: others' checkpoints through the command line, and what can be done with what comes of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny import save_random_clip
from tiny_encoder import SETTINGS, build_tiny_encoder, save_tiny_run
from transformers import CLIPModel, CLIPVisionModelWithProjection

import e2fashion
from e2fashion.__main__ import main
from e2fashion.checkpoints.files import read_state_file, write_state_file
from e2fashion.checkpoints.openai import OpenAIShape, openai_shapes
from e2fashion.data.catalogue import Catalogue
from e2fashion.export.agreement import sample_images
from e2fashion.models.tokenizer import load_tokenizer
from e2fashion.records import read_records

Capture = pytest.CaptureFixture[str]
SIZES = OpenAIShape(
    vision_width=64,
    vision_mlp=256,
    vision_layers=2,
    patch_size=8,
    grid=4,
    text_width=64,
    text_mlp=256,
    text_layers=1,
    vocabulary=600,
    context=77,
    joint=16,
)


def said_by(capsys: Capture, code: int, *args: str) -> str:
    """What ``convert`` says when it returns ``code``."""
    assert main(["convert", *args]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


@pytest.fixture(scope="module")
def workshop(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights in OpenAI's layout, a tokenizer that fits, and an E2 with a word tokenizer."""
    folder = tmp_path_factory.mktemp("workshop")
    clip = save_random_clip(folder / "tokens", list(synth_catalogue.split("train")["description"]))
    vocabulary = len(load_tokenizer(clip))
    generator = torch.Generator().manual_seed(0)
    shapes = openai_shapes(OpenAIShape(**{**vars(SIZES), "vocabulary": vocabulary}))
    state = {key: torch.randn(shape, generator=generator) * 0.1 for key, shape in shapes.items()}
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": vocabulary}
    write_state_file(state | {key: torch.tensor(value) for key, value in numbers.items()}, folder / "clip.safetensors")
    torch.save(state, folder / "clip.pt")
    torch.save({"epoch": 1, "state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / "run.pt")
    save_tiny_run(synth_catalogue, folder / "e2")
    return folder


@pytest.fixture(autouse=True)
def in_a_copy(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(workshop, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def test_openai_s_layout_becomes_a_folder_and_goes_back(capsys: Capture, synth_catalogue: Catalogue) -> None:
    args = ("clip.safetensors", "source=openai", "tokenizer=tokens", "output=models/mine")
    printed = said_by(capsys, 0, *args)
    assert "2 layers of width 64, 1 heads, patches of 8 px at 32 px" in printed
    assert "activation: quick_gelu (OpenAI's CLIP knows no other)" in printed
    assert "left behind, for nothing reads them (3): context_length, input_resolution, vocab_size" in printed
    written = Path("models/mine/model.safetensors").stat().st_mtime_ns
    assert said_by(capsys, 0, *args) == printed  # the same conversion is found, not repeated
    assert Path("models/mine/model.safetensors").stat().st_mtime_ns == written
    assert "from `clip.safetensors` (layout: openai)" in Path("models/mine/README.md").read_text(encoding="utf-8")

    assert main(["evaluate", "models/mine", f"data={synth_catalogue.path}", "output=r.jsonl", "--quiet"]) == 0
    capsys.readouterr()
    assert {record.model for record in read_records(Path("r.jsonl"))} == {"mine"}
    model, _ = e2fashion.load("models/mine")
    assert model.encode_text(model.tokenize(["a red dress"])).shape == (1, 16)

    printed = said_by(capsys, 0, "models/mine", "target=openai", "output=back")
    assert "openai_clip.safetensors: read again, all" in printed
    assert "which is not CLIP's: the packages' tokenizers give ids with other meanings here" in printed
    back, original = (read_state_file(file).tensors for file in ("back/openai_clip.safetensors", "clip.pt"))
    assert back.keys() == original.keys()
    assert all(torch.equal(back[key], value) for key, value in original.items())
    assert load_tokenizer("back/tokenizer").get_vocab() == load_tokenizer("tokens").get_vocab()


def test_open_clip_goes_both_ways_with_its_configuration(capsys: Capture) -> None:
    printed = said_by(capsys, 1, "run.pt", "source=open_clip", "tokenizer=tokens", "output=models/a")
    assert "quick_gelu or gelu? A state dict does not hold its activation" in printed
    assert not Path("models/a").exists()
    args = ("source=open_clip", "tokenizer=tokens", "resize=squeeze", "activation=gelu")
    printed = said_by(capsys, 0, "run.pt", *args, "output=models/a")
    assert "activation: gelu (activation=)" in printed
    assert "was under 'state_dict'; not read: epoch" in printed
    said_by(capsys, 0, "models/a", "target=open_clip", "output=back")
    content = json.loads(Path("back/open_clip_config.json").read_text(encoding="utf-8"))
    assert content["model_cfg"]["quick_gelu"] is False
    assert content["preprocess_cfg"]["resize_mode"] == "squash"
    weights = "back/open_clip_model.safetensors"
    said_by(capsys, 0, weights, "source=open_clip", "tokenizer=tokens", "output=models/b")  # as its file says
    both = [e2fashion.load_encoder(f"models/{name}") for name in "ab"]
    assert both[0].fingerprint == both[1].fingerprint
    tanh = "activation=gelu_pytorch_tanh"
    assert "activation: gelu_pytorch_tanh (" in said_by(capsys, 0, "run.pt", *args[:3], tanh, "output=models/tanh")
    printed = said_by(capsys, 1, weights, "source=open_clip", "tokenizer=tokens", "output=c", "activation=quick_gelu")
    assert "contradicted (open_clip_config.json: gelu; activation=: quick_gelu)" in printed
    Path("vit-quickgelu.pt").write_bytes(Path("clip.pt").read_bytes())
    printed = said_by(capsys, 1, "vit-quickgelu.pt", *args, "output=c")
    assert "the file's name vit-quickgelu.pt: quick_gelu; activation=: gelu" in printed


def test_an_e2_as_a_plain_clip_says_what_is_lost(capsys: Capture, synth_catalogue: Catalogue) -> None:
    printed = said_by(capsys, 1, "e2", "target=open_clip", "output=plain")
    assert (
        "2 selection tokens of 1 entities (brand): 64 values; 1 fusion blocks behind layers 1: 3,072 values" in printed
    )
    assert "lossy=true writes the rest" in printed
    printed = said_by(capsys, 1, "e2", "target=open_clip", "output=plain", "lossy=true")
    assert "this model's end token 1 is not the last of" in printed  # a word tokenizer's
    assert "it is not an E2: target=openai" in said_by(capsys, 1, "tokens", "target=e2_official", "output=official")
    assert "its groups are sub_category, brand" in said_by(capsys, 1, "e2", "target=e2_official", "output=official")
    assert not Path("plain").exists()
    settings = ["model.scratch.tokenizer=bpe", "model.scratch.vocabulary=600"]
    build_tiny_encoder(synth_catalogue, [*SETTINGS, *settings]).save_pretrained(Path("bpe"))
    printed = said_by(capsys, 0, "bpe", "target=open_clip", "output=plain", "lossy=true")
    assert "lost: 2 selection tokens of 1 entities (brand): 64 values" in printed
    assert "of three random images keep a cosine of" in printed
    assert "texts were written as {brand} . {description}" in printed


def test_an_e2_goes_to_the_official_layout_and_comes_back(capsys: Capture, synth_catalogue: Catalogue) -> None:
    tower = "{layers: 2, width: 64, heads: 1}"
    settings = [
        "model.entities={}",
        "model.entities={sub_category: {}, brand: {}, description: {}, season: {}}",
        "model.fusion_layers=[1, 2]",
        f"model.scratch={{vision: {tower}, text: {tower}, tokenizer: bpe, vocabulary: 600}}",
    ]
    encoder = build_tiny_encoder(synth_catalogue, [*SETTINGS, *settings])
    encoder.save_pretrained(Path("ours"))
    assert "fusion_layers is [1, 2], there [8, 11]" in said_by(capsys, 1, "ours", "target=e2_official", "output=o")
    layers = "fusion_layers=[1,2]"
    printed = said_by(capsys, 0, "ours", "target=e2_official", "output=official", layers)
    assert "visual.ln_selection.bias, visual.ln_selection.weight, visual.proj, visual.proj_cls_mid" in printed
    assert "pools the first token of 'season' alone" in printed
    file = "official/official_e2.safetensors"
    args = ("source=e2_official", "tokenizer=ours", "resize=squeeze", "output=back", layers)
    printed = said_by(capsys, 0, file, *args)
    assert "global text: {composition}.{sub_category}.{brand}.{season}.{description}" in printed
    back, images = e2fashion.load_encoder("back"), sample_images(encoder)
    torch.testing.assert_close(back.embed_regions(images), encoder.embed_regions(images))
    torch.testing.assert_close(back.embed_texts("a red dress"), encoder.embed_texts("a red dress"))
    command = ["evaluate", "back", f"data={synth_catalogue.path}", "output=r.jsonl", "text={brand}. {description}"]
    assert main([*command, "--quiet"]) == 0


def test_images_alone_without_a_tokenizer(capsys: Capture) -> None:
    printed = said_by(capsys, 0, "clip.pt", "source=openai", "tokenizer=none", "output=models/blind")
    assert "no tokenizer: texts cannot be embedded, and load_encoder refuses the folder" in printed
    model = CLIPModel.from_pretrained("models/blind")
    assert model.get_image_features(torch.zeros(1, 3, 32, 32)).pooler_output.shape == (1, 16)
    tower = CLIPVisionModelWithProjection.from_pretrained(
        "models/blind"
    )  # reads the size in the configuration of the tower
    assert tower(torch.zeros(1, 3, 32, 32)).image_embeds.shape == (1, 16)
    with pytest.raises(e2fashion.E2FashionError, match="holds no tokenizer"):
        e2fashion.load_encoder("models/blind")


def test_an_id_beyond_the_embedding_is_refused(capsys: Capture) -> None:
    file = Path("tokens/tokenizer.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["vocab"]["u"] = 2**31
    file.write_text(json.dumps(content), encoding="utf-8")
    printed = said_by(capsys, 1, "clip.pt", "source=openai", "tokenizer=tokens", "output=o")
    assert f"with ids up to {2**31}, and the token embedding has" in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["clip.pt", "output=o"], "source is folder and target is folder: name the layout"),
        (["clip.pt", "source=openai", "target=open_clip", "output=o"], "source is openai and target is open_clip"),
        (["clip.pt", "source=openai", "output=o"], "which tokenizer goes along?"),
        (["clip.pt", "source=openai", "tokenizer=e2/model", "output=o"], ", and the token embedding has"),
        (["clip.pt", "source=openai", "tokenizer=models/nowhere", "output=tokens"], "holds no output of this command"),
        (["clip.pt", "source=openai", "tokenizer=./nowhere", "output=o"], "tokenizer './nowhere' is not a folder"),
        (["clip.pt", "source=openai", "tokenizer=none", "lossy=true", "output=o"], "lossy belong to a conversion"),
        (["tokens", "target=openai", "tokenizer=tokens", "output=o"], "tokenizer belong to a conversion with source="),
        (["tokens", "target=openai", "output=o"], "the image tower's heads have width 8, there 64"),
        (["tokens", "target=open_clip", "activation=gelu", "output=o"], "activation is gelu, and 'tokens' has quick_"),
        (["tokens", "source=openai", "tokenizer=none", "output=o"], "'tokens' is a folder: source= reads a state dict"),
        (["clip.pt", "source=openai", "tokenizer=none", "activation=gelu", "output=o"], "knows no other: quick_gelu"),
        (["clip.pt", "source=openai", "tokenizer=none", "vision_heads=4", "output=o"], "belong to open_clip"),
        (
            ["clip.pt", "source=openai", "tokenizer=none", "config=c.json", "output=o"],
            "config= belongs to source=open_",
        ),
        (["clip.pt", "source=e2_official", "tokenizer=none", "output=o"], "has 0 groups"),
        (["a", "b", "source=openai", "output=o"], "takes checkpoint and at most one configuration file"),
    ],
)
def test_what_is_not_said_or_does_not_fit_is_refused(args: list[str], message: str, capsys: Capture) -> None:
    printed = said_by(capsys, 1, *args)
    assert printed.startswith("error: ")
    assert message in printed
    assert not Path("o").exists()
