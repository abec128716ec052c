import pickle

import datasets
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_catalogue import stub_split

from e2fashion.data.dataset import (
    ASPECT_JITTER,
    Augmentation,
    CatalogueRows,
    Draws,
    ImageCache,
    ProductDataset,
    ViewDataset,
    draws_of,
)
from e2fashion.data.decode import decode_image
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.types import E2FashionError

TEMPLATE = TextTemplate("{brand} . {description}")
TRANSFORM = ImageTransform(size=12, resize="squeeze")
SPLIT = stub_split(9)


def catalogue_rows(
    split: datasets.Dataset = SPLIT, entity_columns: tuple[str, ...] = ("season", "brand")
) -> CatalogueRows:
    return CatalogueRows(split, entity_columns, TEMPLATE, TRANSFORM)


def test_rows_and_products_are_counted() -> None:
    rows = catalogue_rows()
    assert len(rows) == len(SPLIT) == 18
    assert rows.product_count == 9


def test_first_view_of_every_product() -> None:
    dataset = ProductDataset(catalogue_rows())
    items = [dataset[index] for index in range(len(dataset))]
    assert [item.product_id for item in items] == [f"p{index}" for index in range(9)]
    assert [int(item.image[0].max()) for item in items] == [10 * index for index in range(9)]


def test_item_is_the_row_decoded_and_resized() -> None:
    item = ViewDataset(catalogue_rows())[4]
    assert torch.equal(item.image, TRANSFORM(decode_image(SPLIT[4]["image"])))
    assert item.image.dtype == torch.uint8
    assert item.text == f"{SPLIT[4]['brand']} . {SPLIT[4]['description']}"
    assert item.tags == (SPLIT[4]["season"], SPLIT[4]["brand"])


def test_missing_tag_is_none_and_leaves_the_text() -> None:
    item = ProductDataset(catalogue_rows())[3]
    assert item.tags == ("Summer", None)
    assert item.text == "a shirt number 3"


def test_blank_tag_is_missing() -> None:
    split = SPLIT.map(lambda row: {"season": " "})
    assert ProductDataset(catalogue_rows(split))[0].tags == (None, "Brand 0")


def test_description_can_be_an_entity() -> None:
    assert ViewDataset(catalogue_rows(entity_columns=("description",)))[0].tags == ("a shirt number 0",)


def test_views_are_all_rows() -> None:
    dataset = ViewDataset(catalogue_rows())
    assert [dataset[row].product_id for row in range(len(dataset))] == SPLIT["product_id"]


def test_training_draws_every_view_over_epochs_and_only_the_products_own() -> None:
    dataset = ProductDataset(catalogue_rows(), Augmentation(seed=3))
    reds = {int(dataset[5, epoch].image[0].max()) for epoch in range(40)}
    assert reds == {50, 51, 52}


def test_training_item_depends_on_seed_epoch_and_product_alone() -> None:
    options = {"flip": True, "crop_scale": 0.5}
    first = ProductDataset(catalogue_rows(), Augmentation(seed=3, **options))
    # Another order, another number of products, another place of the product: the draws are the same.
    fewer = SPLIT.select([row for row, name in enumerate(SPLIT["product_id"]) if name in ("p5", "p7")])
    second = ProductDataset(catalogue_rows(fewer), Augmentation(seed=3, **options))
    for epoch in (4, 0, 9):
        assert torch.equal(first[7, epoch].image, second[1, epoch].image)
        assert torch.equal(first[5, epoch].image, second[0, epoch].image)


def test_another_seed_gives_other_items() -> None:
    first, second = (ProductDataset(catalogue_rows(), Augmentation(seed, True, 0.5)) for seed in (0, 1))
    assert any(not torch.equal(first[index, 0].image, second[index, 0].image) for index in range(9))


@pytest.mark.parametrize("max_bytes", [10**9, 5 * 3 * 12 * 12, 0])
def test_cache_changes_no_pixel(max_bytes: int) -> None:
    rows = catalogue_rows()
    cache = ImageCache(len(rows), 12, max_bytes)
    plain = ProductDataset(rows, Augmentation(flip=True))
    cached = ProductDataset(rows, Augmentation(flip=True), cache)
    for epoch in range(4):
        for product in range(9):
            assert torch.equal(cached[product, epoch].image, plain[product, epoch].image)


def test_cached_pictures_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = catalogue_rows()
    dataset = ViewDataset(rows, ImageCache(len(rows), 12, 10**6))
    expected = dataset[2].image.clone()
    monkeypatch.setattr(rows, "image", None)
    assert torch.equal(dataset[2].image, expected)


def test_cache_keeps_what_fits() -> None:
    cache = ImageCache(rows=10, size=4, max_bytes=3 * 48 + 1)
    for row in range(10):
        cache.put(row, torch.full((3, 4, 4), row, dtype=torch.uint8))
    assert (cache.capacity, len(cache)) == (3, 3)
    assert [cache.get(row) is None for row in (0, 2, 3, 9)] == [False, False, True, True]


def test_workers_fill_one_cache() -> None:
    rows = catalogue_rows()
    cache = ImageCache(len(rows), 12, 10**6)
    loader = torch.utils.data.DataLoader(ViewDataset(rows, cache), batch_size=None, num_workers=1)
    images = [item.image for item in loader]
    assert len(cache) == len(rows)
    assert all(torch.equal(cache.get(row), image) for row, image in enumerate(images))


def test_pickled_cache_is_empty() -> None:
    cache = ImageCache(4, 4, 10**6)
    cache.put(0, torch.zeros(3, 4, 4, dtype=torch.uint8))
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.capacity, len(copy), copy.get(0)) == (0, 0, None)


def test_iteration_ends() -> None:
    assert len(list(ProductDataset(catalogue_rows()))) == 9


def test_shuffled_rows_of_a_selection_are_read_in_its_order() -> None:
    order = [8, 0, 3]
    dataset = ViewDataset(catalogue_rows(SPLIT.select(order)))
    assert [dataset[place].product_id for place in range(3)] == [SPLIT["product_id"][row] for row in order]
    assert torch.equal(dataset[2].image, TRANSFORM(decode_image(SPLIT[3]["image"])))


def test_scattered_product_is_an_error() -> None:
    with pytest.raises(E2FashionError, match="product 'p1' are not next to each other"):
        len(ProductDataset(catalogue_rows(SPLIT.select([1, 3, 2]))))


def test_missing_column_is_an_error() -> None:
    with pytest.raises(E2FashionError, match=r"no column 'colour'.*product_id"):
        catalogue_rows(entity_columns=("colour",))


def test_undecodable_picture_names_the_product() -> None:
    split = SPLIT.select([0]).map(lambda row: {"image": b"broken"})
    with pytest.raises(E2FashionError, match=r"product 'p0': An image cannot be read: .* 6 bytes in no known image"):
        ProductDataset(catalogue_rows(split))[0]


def test_draws_depend_on_seed_epoch_and_product() -> None:
    draws = {draws_of(seed, epoch, product) for seed in (0, 1) for epoch in (0, 1) for product in "ab"}
    assert len(draws) == 8
    assert draws_of(0, 1, "a") == draws_of(0, 1, "a")


def test_draws_are_uniform() -> None:
    values = torch.tensor([[d.view, d.flip, d.area, d.aspect, d.top, d.left] for d in map(_draws, range(2000))])
    assert values.min() >= 0
    assert values.max() < 1
    torch.testing.assert_close(values.mean(0), torch.full((6,), 0.5), atol=0.03, rtol=0)


def _draws(product: int) -> Draws:
    return draws_of(0, 0, str(product))


def test_half_of_the_pictures_are_mirrored() -> None:
    image = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    augmentation = Augmentation(flip=True)
    mirrored = [torch.equal(augmentation.mirror(image, 0, str(p)), image.flip(-1)) for p in range(400)]
    assert 150 < sum(mirrored) < 250


def test_every_view_is_drawn() -> None:
    augmentation = Augmentation()
    assert {augmentation.view(4, epoch, "a") for epoch in range(60)} == {0, 1, 2, 3}


@settings(max_examples=100)
@given(st.integers(20, 90), st.integers(20, 90), st.floats(0.1, 1.0), st.integers(0, 1000))
def test_crop_keeps_at_least_its_share(height: int, width: int, crop_scale: float, epoch: int) -> None:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    crop = Augmentation(crop_scale=crop_scale).crop(image, epoch, "a")
    area, whole = crop.shape[1] * crop.shape[2], height * width
    half_pixel = (height + width) / 2
    assert area >= crop_scale * whole - half_pixel
    aspect = (crop.shape[1] / crop.shape[2]) / (height / width)
    assert 1 / ASPECT_JITTER**1.3 < aspect < ASPECT_JITTER**1.3 or min(crop.shape[1:]) < 20


def test_no_augmentation_changes_nothing() -> None:
    image = torch.arange(27, dtype=torch.uint8).view(3, 3, 3)
    augmentation = Augmentation(seed=0, flip=False, crop_scale=1.0)
    assert augmentation.mirror(augmentation.crop(image, 0, "a"), 0, "a") is image


def test_crop_scale_zero_is_an_error() -> None:
    with pytest.raises(E2FashionError, match=r"crop_scale is 0\.0"):
        Augmentation(crop_scale=0.0)
