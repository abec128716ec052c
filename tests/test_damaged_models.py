"""Every file of a model, a decoder and a run, damaged at random: it works, or one line of ours says why not."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mutations import flips, other_values
from tiny import save_random_clip
from tiny_encoder import save_tiny_run
from torch import Tensor

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.checkpoints.read import import_checkpoint
from e2fashion.checkpoints.write import export_checkpoint
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder, EncoderIdentity, load_encoder
from e2fashion.export.write import export_sentence_transformers
from e2fashion.models import E2Model
from e2fashion.models.tokenizer import load_tokenizer
from e2fashion.tasks.captioning.config import CaptionModelConfig
from e2fashion.tasks.captioning.decoder import CaptionDecoder, build_language_model, build_prefix
from e2fashion.tasks.captioning.storage import DecoderFacts, PrefixFacts, StoredDecoder, load_decoder, save_decoder
from e2fashion.tasks.captioning.tokens import CaptionTokens
from e2fashion.tasks.classification.tag_predictor import TagPredictor, TagValues, load_tag_predictor, save_tag_predictor
from e2fashion.training.fit import NEEDED, damage_of
from e2fashion.types import E2FashionError

#: Copies of each file; more find nothing else here, and take longer.
COUNT = 6
TEXTS = [f"{colour} {kind} {number}" for colour in ("red", "blue") for kind in ("dress", "coat") for number in range(5)]


def one_line_or_fine(load: Callable[[], Any], why: str) -> Any:
    """What ``load`` gives; None after an error of ours of one line."""
    try:
        return load()
    except E2FashionError as error:
        printed = str(error)
    assert len(printed.strip().splitlines()) == 1, f"{why}: {printed}"
    return None


def damaged(content: bytes, seed: int) -> list[bytes]:
    """Bytes, and of JSON values too."""
    copies = list(flips(content, COUNT, seed))
    return copies + list(other_values(content, COUNT, seed)) if content.lstrip().startswith(b"{") else copies


@pytest.fixture(scope="module")
def models(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {"e2": save_tiny_run(synth_catalogue, place / "e2"), "clip": save_random_clip(place / "clip", TEXTS)}


def files_of(kind: str) -> list[tuple[str, str]]:
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "processor_config.json"]
    return [(kind, name) for name in names]


@pytest.mark.parametrize(("kind", "name"), [*files_of("e2"), *files_of("clip")])
def test_a_damaged_model_folder_fails_in_one_line_or_tells_texts_apart(
    kind: str, name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models[kind], folder)
    content = (folder / name).read_bytes()
    for number, copy in enumerate(damaged(content, seed=len(content))):
        (folder / name).write_bytes(copy)
        encoder = one_line_or_fine(lambda: load_encoder(str(folder)), f"{name}, copy {number}")
        if encoder is not None:
            assert all(bool(torch.isfinite(value).all()) for value in encoder.model.state_dict().values())
            texts = encoder.embed_texts(["blue", "a red dress"])
            assert bool(torch.isfinite(texts).all())


def converted(models: dict[str, Path], folder: Path) -> None:
    """The folder that a conversion to open_clip's layout and back leaves."""
    plain = load_encoder(str(models["clip"]))
    (folder / "there").mkdir()
    export_checkpoint(plain, folder / "there", ConvertConfig(target="open_clip"))
    file = str(folder / "there" / "open_clip_model.safetensors")
    config = ConvertConfig(file, source="open_clip", tokenizer=str(models["clip"]))
    import_checkpoint(config).save(folder / "model", "clip", "")


#: Folders that load_encoder reads, and what writes them; the damaged model is in their folder ``model``.
WRITERS: dict[str, Callable[[dict[str, Path], Path], object]] = {
    "model": lambda models, folder: load_encoder(str(models["clip"])).save_pretrained(folder / "model"),
    "run": lambda models, folder: shutil.copytree(models["e2"], folder / "model"),
    "conversion": converted,
    "export": lambda models, folder: export_sentence_transformers(load_encoder(str(models["e2"])), folder / "model"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_flipped_bit_of_a_weight_or_a_tokenizer_is_noticed(
    writer: str, models: dict[str, Path], tmp_path: Path
) -> None:
    WRITERS[writer](models, tmp_path)
    folder, opened = tmp_path / "model", str(tmp_path if writer == "run" else tmp_path / "model")
    load_encoder(opened)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4] ^= 1  # the lowest bit of the last weight's fraction
    weights.write_bytes(content)
    printed = (
        r"model\.safetensors is damaged: its content .* if the change is meant, delete checksums\.json in its folder\."
    )
    loads: list[Callable[[], Any]] = [lambda: load_encoder(opened), lambda: E2Model.from_clip(folder)]
    if writer in ("run", "export"):
        loads.append(lambda: E2Model.from_pretrained(folder))
    for load in loads:
        with pytest.raises(E2FashionError, match=printed):
            load()
    content[-4] ^= 1
    weights.write_bytes(content)
    load_encoder(opened)
    with (folder / "tokenizer.json").open("a") as stream:
        stream.write("\n")
    for load in (lambda: load_encoder(opened), lambda: load_tokenizer(folder)):
        with pytest.raises(E2FashionError, match=r"tokenizer\.json is damaged: it has .* bytes"):
            load()
    (folder / "checksums.json").unlink()  # the way out that the error names, and an earlier version's folder
    load_encoder(opened)


def test_what_people_edit_in_a_model_folder_is_theirs(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models["e2"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"text_template": "{description}"}))
    (folder / "README.md").unlink()
    assert load_encoder(str(folder)).template.template == "{description}"


@pytest.mark.parametrize(
    ("name", "keys", "value", "message"),
    [
        ("config.json", ["vision_config", "patch_size"], None, "has patch_size None: correct its config.json"),
        ("processor_config.json", ["image_processor", "image_mean"], ["0", 0.5, 0.5], "are not three numbers each"),
        ("tokenizer_config.json", ["unk_token"], "", "the tokenizer of '.*' cannot be loaded: .*Recursion"),
    ],
)
def test_values_that_no_model_can_have_are_named(
    name: str, keys: list[str], value: Any, message: str, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models["clip"], folder)
    content = values = json.loads((folder / name).read_text())
    for key in keys[:-1]:
        values = values[key]
    values[keys[-1]] = value
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(E2FashionError, match=message):
        load_encoder(str(folder))


@pytest.mark.parametrize("length", [0, 1, 7, 2**20, 2**40, 2**63, 2**64 - 1])
def test_a_wrong_length_of_the_header_of_weights(length: int, models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["e2"], tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:])
    with pytest.raises(E2FashionError, match=r"model' cannot be loaded: .*Fetch or save the model again"):
        load_encoder(str(tmp_path / "model"))


@pytest.fixture(scope="module")
def encoder(models: dict[str, Path]) -> Encoder:
    return load_encoder(str(models["e2"]))


@pytest.fixture(scope="module")
def decoder(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with random weights behind a transformer, in its folder."""
    folder = tmp_path_factory.mktemp("decoder")
    tokens, prefix = CaptionTokens(encoder.tokenizer, 8), PrefixFacts(3, 1, 2, "transformer")
    torch.manual_seed(0)
    shape = CaptionModelConfig(layers=1, heads=2, width=8)
    language_model = build_language_model(shape, len(tokens.tokenizer), 16, tokens.start, tokens.end)
    facts = DecoderFacts("capdec", EncoderIdentity("tiny", "f" * 64, 16), prefix, "scratch", 8, "{a}", "{b}", "memory")
    decoder = CaptionDecoder(build_prefix(16, 8, prefix), language_model)
    stored = StoredDecoder(decoder, tokens, facts, torch.ones(16))
    save_decoder(stored, folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "caption.json",
        "prefix.safetensors",
        "offset.safetensors",
        "language_model/config.json",
        "language_model/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_a_damaged_decoder_fails_in_one_line(name: str, decoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoder"
    shutil.copytree(decoder, folder)
    assert load_decoder(folder).facts.method == "capdec"
    content = (folder / name).read_bytes()
    for number, copy in enumerate(damaged(content, seed=len(content))):
        (folder / name).write_bytes(copy)
        one_line_or_fine(lambda: load_decoder(folder), f"{name}, copy {number}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": "8"}, r"length is '8'"),
        ({"method": "other"}, r"method is 'other'"),
        ({"noise_variance": None}, r"noise_variance is None"),
        ({"prefix": {"kind": "transformer", "length": 3, "layers": True, "heads": 2}}, r"prefix\.layers is True"),
        ({"prefix": {"kind": "transformer", "length": 3, "layers": 10**9, "heads": 2}}, r"1000000000 layers"),
        ({"encoder": {"name": "tiny", "fingerprint": "f"}}, r"encoder lacks 'dimension'"),
        ({"colour": 1}, r"unknown key 'colour'"),
        ({"prompt_tags": {"brand": [1]}}, r"prompt_tags\.brand\[0\] is 1"),
    ],
)
def test_facts_of_a_decoder_have_the_types_that_they_were_written_with(
    change: dict[str, Any], said: str, decoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "decoder"
    shutil.copytree(decoder, folder)
    content = json.loads((folder / "caption.json").read_text())
    content.pop("checksum", None)
    (folder / "caption.json").write_text(json.dumps(content | change))
    with pytest.raises(E2FashionError, match=rf"{said}.*Train the decoder again\."):
        load_decoder(folder)


def test_a_damaged_prefix_is_compared_with_its_shape(decoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def damage(tensors: dict[str, Tensor], how: str) -> None:
        value = tensors.pop("constants")
        tensors |= {"other": value} if how == "renamed" else {"constants": value * float("nan")}

    for how, printed in (("renamed", r"missing \(1\): constants; unknown \(1\): other"), ("nan", r"not finite \(1\)")):
        folder = tmp_path / how
        shutil.copytree(decoder, folder)
        tensors = load_file(folder / "prefix.safetensors")
        damage(tensors, how)
        save_file(tensors, folder / "prefix.safetensors")
        with pytest.raises(E2FashionError, match=r"prefix\.safetensors is damaged: .*delete checksums\.json"):
            load_decoder(folder)
        (folder / "checksums.json").unlink()  # an earlier version's folder
        with pytest.raises(E2FashionError, match=printed):
            load_decoder(folder)


@pytest.mark.parametrize("name", ["prefix.safetensors", "language_model/model.safetensors", "offset.safetensors"])
def test_a_flipped_bit_of_a_decoder_is_noticed(name: str, decoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoder"
    shutil.copytree(decoder, folder)
    content = bytearray((folder / name).read_bytes())
    content[-4] ^= 1  # the lowest bit of the last number's fraction: it stays finite
    (folder / name).write_bytes(content)
    with pytest.raises(E2FashionError, match=r"safetensors is damaged: its content is not what was written\."):
        load_decoder(folder)
    (folder / "checksums.json").unlink()
    load_decoder(folder)


def test_damaged_tags_fail_in_one_line(encoder: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "tags.json"
    predictor = TagPredictor(encoder, (TagValues("brand", ("a", "b"), threshold=0.5),), 20.0)
    save_tag_predictor(predictor, encoder, file, {"split": "val"})
    assert load_tag_predictor(encoder, file).entities == predictor.entities
    content = file.read_bytes()
    for number, copy in enumerate(damaged(content, seed=1)):
        file.write_bytes(copy)
        one_line_or_fine(lambda: load_tag_predictor(encoder, file), f"copy {number}")


def test_a_damaged_checkpoint_is_known_before_it_is_read(tmp_path: Path) -> None:
    """Of every damaged copy it is said, or it holds what the whole one holds."""
    file = tmp_path / "last.ckpt"
    whole = {key: {} for key in NEEDED} | {"state_dict": {"weight": torch.arange(256.0)}, "global_step": 3}
    torch.save(whole, file)
    content = file.read_bytes()
    assert damage_of(file) is None
    result = 0
    for copy in flips(content, 300, seed=0):
        file.write_bytes(copy)
        if damage_of(file) is None:
            read = torch.load(file, weights_only=True)
            assert torch.equal(read.pop("state_dict")["weight"], torch.arange(256.0))
            assert read == {key: value for key, value in whole.items() if key != "state_dict"}
        else:
            result += 1
    assert result > 200


@pytest.mark.parametrize("content", [[1], {"state_dict": {}}, "text"])
def test_another_file_is_no_checkpoint(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "last.ckpt")
    assert damage_of(tmp_path / "last.ckpt")
