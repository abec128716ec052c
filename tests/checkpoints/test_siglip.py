"""open_clip's SigLIP layout, read into a model folder and compared with a forward pass over the layout itself."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny import save_random_siglip
from torch import Tensor

from e2fashion.__main__ import main
from e2fashion.data.transforms import ImageTransform
from e2fashion.encoder import load_encoder

State = dict[str, Tensor]
WIDTH, HEADS, PATCH, LAYERS = 16, 2, 8, 2


def random_state(vocabulary: int) -> State:
    """Two layers a tower, images of 32 px, texts of 10 tokens."""
    width, inner = WIDTH, 24
    maps = {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    trunk: dict[str, tuple[int, ...]] = {
        **{f"norm.{kind}": (width,) for kind in ("weight", "bias")},
        "pos_embed": (1, 16, width),
        "patch_embed.proj.weight": (width, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (width,),
        "attn_pool.latent": (1, 1, width),
    }
    text: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (vocabulary, width),
        "positional_embedding": (10, width),
        **{f"ln_final.{kind}": (width,) for kind in ("weight", "bias")},
        "text_projection.weight": (width, width),
        "text_projection.bias": (width,),
    }
    for where, linear, norms in (
        ("attn_pool", {"q": (width, width), "kv": (2 * width, width), "proj": (width, width), **maps}, ["norm"]),
        *(
            (f"blocks.{n}", {"attn.qkv": (3 * width, width), "attn.proj": (width, width), **maps}, ["norm1", "norm2"])
            for n in range(LAYERS)
        ),
    ):
        for name, shape in linear.items():
            trunk |= {f"{where}.{name}.weight": shape, f"{where}.{name}.bias": shape[:1]}
        trunk |= {f"{where}.{name}.{kind}": (width,) for name in norms for kind in ("weight", "bias")}
    for n in range(LAYERS):
        block = f"transformer.resblocks.{n}"
        text |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        for name, shape in {"attn.out_proj": (width, width), "mlp.c_fc": maps["mlp.fc1"]}.items():
            text |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        text |= {f"{block}.mlp.c_proj.weight": maps["mlp.fc2"], f"{block}.mlp.c_proj.bias": (width,)}
        text |= {f"{block}.{name}.{kind}": (width,) for name in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    shapes = {f"visual.trunk.{key}": shape for key, shape in trunk.items()}
    shapes |= {f"text.{key}": shape for key, shape in text.items()} | {"logit_scale": (), "logit_bias": ()}
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()}


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (queries, keys, values))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def image_features(state: State, pixels: Tensor) -> Tensor:
    trunk = {key.removeprefix("visual.trunk."): value for key, value in state.items()}
    x = F.conv2d(pixels, trunk["patch_embed.proj.weight"], trunk["patch_embed.proj.bias"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2) + trunk["pos_embed"]
    for n in range(LAYERS):
        parts = linear(trunk, f"blocks.{n}.attn.qkv", norm(trunk, f"blocks.{n}.norm1", x)).chunk(3, dim=-1)
        x = x + linear(trunk, f"blocks.{n}.attn.proj", attend(*parts))
        inner = F.gelu(linear(trunk, f"blocks.{n}.mlp.fc1", norm(trunk, f"blocks.{n}.norm2", x)))
        x = x + linear(trunk, f"blocks.{n}.mlp.fc2", inner)
    x = norm(trunk, "norm", x)
    query = linear(trunk, "attn_pool.q", trunk["attn_pool.latent"].expand(len(x), -1, -1))
    x = linear(trunk, "attn_pool.proj", attend(query, *linear(trunk, "attn_pool.kv", x).chunk(2, dim=-1)))
    inner = F.gelu(linear(trunk, "attn_pool.mlp.fc1", norm(trunk, "attn_pool.norm", x)))
    return (x + linear(trunk, "attn_pool.mlp.fc2", inner))[:, 0]


def text_features(state: State, ids: Tensor, approximate: str) -> Tensor:
    text = {key.removeprefix("text."): value for key, value in state.items()}
    x = text["token_embedding.weight"][ids] + text["positional_embedding"]
    for n in range(LAYERS):
        block = f"transformer.resblocks.{n}"
        joint = F.linear(
            norm(text, f"{block}.ln_1", x), text[f"{block}.attn.in_proj_weight"], text[f"{block}.attn.in_proj_bias"]
        )
        x = x + linear(text, f"{block}.attn.out_proj", attend(*joint.chunk(3, dim=-1)))
        inner = F.gelu(linear(text, f"{block}.mlp.c_fc", norm(text, f"{block}.ln_2", x)), approximate=approximate)
        x = x + linear(text, f"{block}.mlp.c_proj", inner)
    return linear(text, "text_projection", norm(text, "ln_final", x)[:, -1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with ``tokens`` of a SigLIP."""
    monkeypatch.chdir(tmp_path)
    save_random_siglip(tmp_path / "tokens", ["a red dress", "a navy wool coat"])
    return tmp_path


def convert(*words: str) -> int:
    return main(["convert", "theirs.safetensors", "source=open_clip_siglip", "output=ours", "vision_heads=2", *words])


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_folder_computes_as_the_layout(folder: Path, approximate: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = load_encoder("tokens").tokenizer
    state = random_state(len(tokenizer))
    save_file(state, "theirs.safetensors")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ids = tokenizer(["a red dress", "coat"], padding="max_length", max_length=10, return_tensors="pt")["input_ids"]
    images, texts = image_features(state, pixels), text_features(state, ids, approximate)
    save_file(
        {"pixel_values": pixels, "input_ids": ids, "image_features": images, "text_features": texts},
        "check.safetensors",
    )
    text = {"heads": 2} | ({"act_kwargs": {"approximate": "tanh"}} if approximate == "tanh" else {})
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    described = {"model_cfg": {"text_cfg": text}, "preprocess_cfg": preprocessing}
    Path("open_clip_config.json").write_text(json.dumps(described))
    assert convert("tokenizer=tokens", "check=check.safetensors", "tolerance=1e-5") == 0
    assert "features in 'check.safetensors' agree" in capsys.readouterr().out
    encoder = load_encoder("ours")
    assert (encoder.backbone, encoder.context_length) == ("siglip", 10)
    assert encoder.transform == ImageTransform(32, "squeeze", (0.5,) * 3, (0.5,) * 3, "bilinear")
    torch.testing.assert_close(encoder.model.get_image_features(pixels).pooler_output, images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        encoder.embed_texts(["a red dress", "coat"]), F.normalize(texts, dim=-1), atol=1e-5, rtol=1e-5
    )
    assert torch.equal(encoder.model.logit_scale, state["logit_scale"].reshape(1))


def test_mistakes_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = random_state(len(load_encoder("tokens").tokenizer))
    part = {key: value for key, value in state.items() if "blocks.1.norm1.weight" not in key}
    for tensors, words, message in (
        (state, ["tokenizer=none", "text_heads=2"], "A SigLIP reads its padding: name a folder"),
        (state, ["tokenizer=tokens", "text_heads=2", "config=none.json"], "none.json"),
        (part, ["tokenizer=tokens", "text_heads=2"], "missing (1): vision_model.encoder.layers.1.layer_norm1.weight"),
        ({"a": torch.zeros(1)}, ["tokenizer=tokens"], "is not a SigLIP in open_clip's layout: it lacks what becomes"),
        (random_state(3), ["tokenizer=tokens", "text_heads=2"], "embeds 3 tokens"),
    ):
        save_file(tensors, "theirs.safetensors")
        assert convert(*words) == 1
        printed = capsys.readouterr().err
        assert message in printed, printed
    assert main(["convert", "tokens", "target=open_clip_siglip", "output=back"]) == 1
