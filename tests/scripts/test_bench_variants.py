"""The variants of every benchmark compute the same: speed is compared, not results."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from e2fashion.data.dataset import ProductDataset
from e2fashion.data.loader import Collator
from e2fashion.data.transforms import ImageTransform
from e2fashion.models import E2Model
from e2fashion.tasks.captioning.config import CaptionModelConfig
from e2fashion.tasks.probing.linear import LogisticProblem
from e2fashion.tasks.search.sources import CatalogueProducts
from scripts.bench import images, probe, training_loop
from scripts.bench.captions import draw as draw_captions
from scripts.bench.encoders import flipped, infer, random_clip, random_e2, train
from scripts.bench.harness import Context, Products
from scripts.bench.images import Images
from scripts.bench.large_batches import QUICKSTART_NUMBER, measure_step
from scripts.bench.occlusion import Occlusion
from scripts.bench.probe import CLASSES, STRENGTH, draw
from scripts.bench.ranking import both_directions, embeddings, measure_ranks, measure_tokens
from scripts.bench.search import Embedding, ExactSearch, bench_encoder, measure_index
from scripts.bench.training_loop import Loops, small_config
from scripts.bench.training_step import Steps, caption_tokenizer, module_of, training_rows, with_distinct_tags

TINY = {
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "fusion_layers": [1, 2],
    },
    "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}
TINY_CLIP = {**TINY, "vision_config": {k: v for k, v in TINY["vision_config"].items() if k != "fusion_layers"}}
PIXELS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Products:
    return Context(tmp_path_factory.mktemp("bench"), data=None).products(80)


@pytest.fixture(scope="module")
def steps(products: Products, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Steps]:
    rows = training_rows(products, 32)
    tokenizer = caption_tokenizer(rows)
    collate = Collator(tokenizer, 77, len(products.columns))
    items = [ProductDataset(rows)[product] for product in range(6)]
    model = random_e2(dict.fromkeys(products.columns, 2), tokenizer, TINY, fusion_layers=[1, 2])
    module = module_of(model, tmp_path_factory.mktemp("module"))
    return {
        "real": Steps(module, items, collate),
        "distinct": Steps(module, with_distinct_tags(items, rows), collate),
    }


@pytest.mark.parametrize("case", ["real", "distinct"])
def test_six_passes_of_77_tokens_give_the_same_loss(steps: dict[str, Steps], case: str) -> None:
    steps[case].naive()
    steps[case].fast()
    assert steps[case].losses["fast"] > 0
    assert steps[case].difference <= 1e-5


def test_six_passes_of_77_tokens_give_the_same_gradients(steps: dict[str, Steps]) -> None:
    model = steps["real"].module.model
    steps["real"].naive()
    naive = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    steps["real"].fast()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, naive[name], atol=1e-5, rtol=1e-4, msg=name)


def test_timed_steps_do_not_move_the_weights(steps: dict[str, Steps]) -> None:
    model = steps["real"].module.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps["real"].fast()
    steps["real"].naive()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_naive_texts_have_77_tokens_for_every_tag_of_every_product(steps: dict[str, Steps]) -> None:
    assert [tuple(ids.shape) for ids in (steps["real"].texts.captions, *steps["real"].texts.tags)] == [(6, 77)] * 6


def test_distinct_tags_are_distinct(steps: dict[str, Steps]) -> None:
    batch = steps["distinct"].batch
    assert len(batch.tag_input_ids) == 6 * 5
    assert batch.tag_present.all()
    assert len(steps["real"].batch.tag_input_ids) < 6 * 5


def test_an_encoder_without_entities_equals_plain_clip() -> None:
    clip, e2 = random_clip(TINY_CLIP).eval(), random_e2({}, None, TINY, fusion_layers=[])
    e2.load_state_dict(clip.state_dict())
    torch.testing.assert_close(infer(e2.eval(), PIXELS, complete_states=False), infer(clip, PIXELS))


def test_training_reaches_every_part_of_the_image_encoders() -> None:
    models: list[CLIPModel] = [random_clip(TINY_CLIP), random_e2({"brand": 2}, None, TINY, fusion_layers=[1, 2])]
    for model in models:
        train(model.train(), PIXELS)
        image = ("vision_model.", "visual_projection.", "region_heads.")
        without = [n for n, p in model.named_parameters() if n.startswith(image) and p.grad is None]
        assert without == []


def test_mixed_sizes_differ_in_size_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shapes = images.shapes(images.MIXED_IMAGES)
    assert len({height for height, _ in shapes}) > 100
    assert len({width for _, width in shapes}) == images.MIXED_IMAGES
    pixels = torch.tensor([height * width for height, width in shapes], dtype=torch.float32)
    assert pixels.min() > 0.99 * pixels.max()
    monkeypatch.setattr(images, "MIXED_IMAGES", 6)
    context = Context(tmp_path, data=None)
    context.turns = 1
    (result,) = images.mixed_sizes(context)
    assert result.benchmark == "mixed-size images"
    assert result.measured.endswith(")")
    assert "6 JPEGs of 86,400 pixels" in result.detail


def test_images_of_both_variants_differ_by_one_grey_level_at_most(products: Products) -> None:
    split = products.catalogue.split("train").select(range(8))
    variants = Images(split, ImageTransform(size=75))
    (batch,) = variants.batches
    assert variants.gray_level_differences(batch).max() <= 1
    step = 1 / 255 / min(ImageTransform().std)
    torch.testing.assert_close(variants.fast(batch), variants.processed(batch), atol=1.001 * step, rtol=0)


def test_ranks_equal_those_read_from_the_bare_products() -> None:
    image, text = embeddings(60, 16)
    scores = image @ text.T
    expected = 1 + (scores > scores.diagonal()[:, None]).sum(1)
    to_text, to_image = both_directions(image, text)
    assert torch.equal(to_text, expected)
    assert torch.equal(to_image, 1 + (scores > scores.diagonal()).sum(0))


def test_embeddings_do_not_depend_on_the_pieces_in_which_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.bench.ranking.ROWS_AT_ONCE", 7)
    image, text = embeddings(20, 16)
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(20))
    assert (image * text).sum(-1).mean() > 0.3


def test_the_probe_of_the_benchmark_is_neither_trivial_nor_hopeless() -> None:
    data = draw(1_500, 32, 20)
    assert sorted(data.labels.unique().tolist()) == list(range(20))
    fit = LogisticProblem(data.features, data.labels, 20).fit(STRENGTH)
    assert fit.converged
    accuracy = (fit.predict(data.held_out) == data.held_out_labels).float().mean()
    assert 0.2 < accuracy < 0.95


def test_the_benchmark_says_what_it_fitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scripts.bench.probe.draw", lambda: draw(2_000, 16, CLASSES))
    (result,) = probe.probe(Context(tmp_path, data=None))
    assert result.passed
    assert "gradient is above 0.0001" in result.claim


def test_memory_is_measured() -> None:
    result = measure_ranks(10, 50)
    assert result["extra_mb"] >= 0
    assert result["seconds"] > 0


def test_exact_search_finds_what_faiss_finds() -> None:
    pytest.importorskip("faiss")
    variants = ExactSearch(queries=20, items=700, dimension=16)
    assert torch.equal(variants.ours(), variants.flat())


def test_an_index_holds_what_the_bare_encoder_gives(products: Products, tmp_path: Path) -> None:
    catalogue = CatalogueProducts(products.catalogue, ["val", "test"])
    variants = Embedding(bench_encoder(random_clip(TINY_CLIP), 32), catalogue, tmp_path, batch_size=6)
    for _ in range(2):  # in a fresh folder each time
        torch.testing.assert_close(variants.index().float(), variants.bare(), atol=1e-3, rtol=0)


def test_memory_of_indexes_is_measured() -> None:
    result = measure_index(50)
    assert result["peak_mb"] > 0
    assert result["searched_mb"] >= result["peak_mb"]
    assert result["removal_seconds"] > 0


def test_fit_and_bare_loop_end_with_the_same_weights(products: Products, tmp_path: Path) -> None:
    overrides = [
        "model.scratch.vision={layers: 5, width: 16, heads: 2}",
        "model.scratch.text={layers: 1, width: 16, heads: 2}",
        "model.noise=none",
        "image.size=32",
        "loader.batch_size=16",
        "train.precision=fp32",
        "train.warmup_steps=1",
    ]
    loops = Loops(small_config(products, overrides), products, tmp_path)
    (fit_seconds, fitted), (bare_seconds, bare) = loops.fitted(), loops.bare()
    assert fit_seconds > 0
    assert bare_seconds > 0
    start = loops.module().model.state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in bare.state_dict().items())
    for name, value in fitted.state_dict().items():
        torch.testing.assert_close(value, bare.state_dict()[name], msg=name)


def test_flips_are_counted_by_block_and_token() -> None:
    model: E2Model = random_e2({"brand": 2, "season": 1}, None, TINY, fusion_layers=[1, 2]).eval()
    assert flipped(model, PIXELS).shape == (4, 2, 3)
    assert flipped(model, PIXELS).dtype == torch.bool


def test_memory_of_tokens_is_measured() -> None:
    result = measure_tokens(12, 9)
    assert result["extra_mb"] >= 0
    assert result["seconds"] > 0


def test_an_image_per_band_gives_the_same_heat_as_bands_of_tensors() -> None:
    # Images that need no resizing: a band's edge is then sharp in both variants. PNG, whose pixels are exact.
    generator = torch.Generator().manual_seed(3)
    encoded = []
    for height in (16, 12):
        pixels = torch.randint(256, (height, 16, 3), generator=generator, dtype=torch.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(stream, "PNG")
        encoded.append(stream.getvalue())
    shape = {**TINY_CLIP, "vision_config": {**TINY_CLIP["vision_config"], "image_size": 16, "patch_size": 4}}
    model = random_clip(shape).eval()
    text = torch.randn(model.config.projection_dim, generator=generator)
    # A grey of whole levels: the padding of both variants is then exactly what is masked.
    transform = ImageTransform(size=16, resize="squeeze", mean=(0.4, 0.6, 0.2))
    variants = Occlusion(model, encoded, transform, text, grid=4)
    torch.testing.assert_close(variants.fast(), variants.loop(), atol=1e-3, rtol=0)
    assert variants.fast().any()
    assert (variants.half() - variants.fast()).abs().mean() < 0.05


def test_cached_and_uncached_decoding_give_the_same_captions() -> None:
    drawn = draw_captions(CaptionModelConfig(layers=2, heads=2, width=16), 3, length=7, dimension=8, vocabulary=500)
    cached = drawn.cached()
    assert cached == drawn.uncached()
    assert [len(row) for row in cached] == [7] * 3


def test_a_step_is_compared_with_a_bare_product(
    products: Products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(f"base: {training_loop.QUICKSTART_E2.resolve()}\nloader: {{batch_size: 8}}\n", encoding="utf-8")
    monkeypatch.setattr(training_loop, "QUICKSTART_E2", small)
    monkeypatch.setattr(Context, "products", lambda self: products)
    (result,) = training_loop.matmul(Context(tmp_path, turns=1, data=None))
    share = float(result.measured.split("%")[0]) / 100
    assert 0 < share < 1.5
    assert result.passed is (share >= training_loop.MATMUL_TARGET)


@pytest.mark.parametrize(("chunk", "layers"), [(0, 0), (2, 1)])
def test_a_step_of_a_large_batch_is_measured(chunk: int, layers: int) -> None:
    found = measure_step(QUICKSTART_NUMBER, 4, chunk, layers)
    assert found["peak_mb"] > 0
    assert found["seconds"] > 0
