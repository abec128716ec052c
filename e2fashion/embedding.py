"""Embed every image and every distinct text of a split with a CLIP-like model, L2-normalized, in fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD, normalize
from e2fashion.metrics.ranking import Comparison, compare
from e2fashion.similarity import is_tokenwise, join_items
from e2fashion.terminal import progress_bar
from e2fashion.types import Batch, E2FashionError

EVERYTHING = slice(None)


@dataclass(frozen=True)
class EmbeddedSplit:
    """The embeddings of a split, the input of every protocol.

    ``image_embeds`` (M, C) and ``text_embeds`` (T, C) are L2-normalized fp32 on the CPU, or tokens (M, P, C) and
    (T, L, C), zero where absent, of a model that compares tokens. ``image_product`` (M,) and ``text_product`` (T,)
    int64 are indices into ``product_ids``; ``image_view`` (M,) numbers the images of a product from 0; ``text_group``
    (T,) int64 is equal for equal texts. A product's texts are distinct. ``categories`` has the sub-category of every
    product, None where it is unknown. ``region_embeds`` (M, E, C) and ``tag_embeds`` (T, E, C), on request, are the
    regions of the images and the tags that the texts state, zero where a text states none.
    """

    image_embeds: Tensor
    text_embeds: Tensor
    image_product: Tensor
    text_product: Tensor
    image_view: Tensor
    text_group: Tensor
    product_ids: tuple[str, ...]
    categories: tuple[str | None, ...]
    region_embeds: Tensor | None = None
    tag_embeds: Tensor | None = None

    def with_regions(self, weight: float) -> EmbeddedSplit:
        """The same items as vectors whose inner product is the regional score, see :func:`join_regions`.

        Unchanged without regions, and if the model compares tokens.
        """
        if self.region_embeds is None or self.tag_embeds is None or is_tokenwise(self.image_embeds):
            return self
        return replace(
            self,
            image_embeds=join_regions(self.image_embeds, self.region_embeds),
            text_embeds=join_regions(self.text_embeds, share_of_tags(self.tag_embeds, weight)),
        )

    def compare(self, image_rows: Tensor | slice = EVERYTHING, text_rows: Tensor | slice = EVERYTHING) -> Comparison:
        """The images and texts of these rows (default: all) under the model's similarity."""
        return compare(self.image_embeds[image_rows], self.text_embeds[text_rows])

    @property
    def first_images(self) -> Tensor:
        """Row of the first view of every product: (products,)."""
        order = self.image_view.argsort(stable=True)
        return _first_rows(self.image_product, order, self.product_ids, "image")

    @property
    def first_texts(self) -> Tensor:
        """Row of the first text of every product: (products,)."""
        order = torch.arange(len(self.text_product))
        return _first_rows(self.text_product, order, self.product_ids, "text")


def join_regions(embeds: Tensor, parts: Tensor) -> Tensor:
    """One vector per item from its embedding (N, C) and its parts (N, E, C): (N, (1 + E) C).

    An image with its regions and a text with its :func:`share_of_tags` have the inner product
    ``cos(image, text) + weight * mean over the text's tags of cos(region, tag)``, the regional score (ours). A tag that
    a text does not state counts nothing; a text without tags is scored by its global embedding alone.
    """
    return torch.cat([embeds, rearrange(parts, "n e c -> n (e c)")], dim=1)


def share_of_tags(tags: Tensor, weight: float) -> Tensor:
    """Tags (N, E, C), zero where absent, times ``weight`` over the number of tags that the text states."""
    stated = tags.ne(0).any(-1).sum(1)
    return tags * rearrange(weight / stated.clamp(min=1), "n -> n 1 1")


def join_stated(
    embeds: Tensor,
    stated: Sequence[Mapping[str, str]],
    entities: Sequence[str],
    embed_tags: Callable[[Sequence[str]], Tensor],
    weight: float,
) -> Tensor:
    """Texts (N, C) joined with the tags that each states by entity: (N, (1 + E) C), see :func:`join_regions`.

    Each distinct tag is embedded once.
    """
    values = list(dict.fromkeys(value for tags in stated for value in tags.values()))
    embed_of = dict(zip(values, embed_tags(values), strict=True)) if values else {}
    parts = torch.zeros(len(embeds), len(entities), embeds.shape[1])
    for row, tags in enumerate(stated):
        for entity, value in tags.items():
            parts[row, entities.index(entity)] = embed_of[value]
    return join_regions(embeds, share_of_tags(parts, weight))


def _first_rows(product: Tensor, order: Tensor, product_ids: tuple[str, ...], kind: str) -> Tensor:
    rows = torch.full((len(product_ids),), -1, dtype=torch.int64)
    # In reverse, so that the first row is written last.
    for row in order.flip(0).tolist():
        rows[product[row]] = row
    missing = (rows < 0).nonzero().flatten()
    if len(missing):
        raise E2FashionError(
            f"{len(missing)} products have no {kind} embedding, the first is "
            f"'{product_ids[int(missing[0])]}': embed one {kind} of every product"
        )
    return rows


def embed_split(
    model: nn.Module,
    batches: Iterable[Batch],
    categories: Mapping[str, str | None] | None = None,
    mean: tuple[float, ...] = CLIP_MEAN,
    std: tuple[float, ...] = CLIP_STD,
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: bool = False,
    label: str = "embed",
    stated: Sequence[bool] = (),
) -> EmbeddedSplit:
    """Embed the images and texts of ``batches`` on the device of ``model``.

    ``model`` has CLIP's ``get_image_features`` and ``get_text_features`` (Transformers 4 or 5). Views are numbered in
    the order in which a product's images arrive. Each distinct text (with its tags, for a model that reads tags with
    texts) is encoded once, so that equal texts have bit-equal embeddings. uint8 pixels are normalized with ``mean`` and
    ``std``, floats are used unchanged. ``categories`` maps a product to its sub-category.

    ``stated`` says of each entity of the model's regions whether texts state its tag; the tags of these entities are
    then the first of the batches, and regions and stated tags are embedded, each distinct tag once.

    Raises:
        E2FashionError: ``batches`` is empty.
    """
    device = next(model.parameters()).device
    images: list[Tensor] = []
    texts: list[Tensor] = []
    products: dict[str, int] = {}
    text_rows: dict[tuple[int, ...], int] = {}
    pairs: dict[tuple[int, tuple[int, ...], tuple[int, ...]], None] = {}
    regions: list[Tensor] = []
    tags = _DistinctTags(model, stated)
    reads_tags = getattr(model, "reads_tags", False)
    image_product: list[int] = []
    with evaluating(model, precision):
        for batch in progress_bar(batches, desc=label, unit="batch", shown=progress):
            groups = [
                (group, *(values[len(stated) :] if reads_tags else ()))
                for group, values in zip(batch.text_group.tolist(), batch.tag_value.tolist(), strict=True)
            ]
            new: list[int] = []
            stated_tags = tags.of(batch)
            for row, (product_id, group) in enumerate(zip(batch.product_ids, groups, strict=True)):
                product = products.setdefault(product_id, len(products))
                image_product.append(product)
                pairs.setdefault((product, group, stated_tags[row]))
                if group not in text_rows:
                    text_rows[group] = len(text_rows)
                    new.append(row)
            pixels = batch.pixel_values.to(device)
            pixels = pixels if pixels.is_floating_point() else normalize(pixels, mean, std)
            output = model.get_image_features(pixel_values=pixels)  # type: ignore[operator]
            images.append(unit_features(output))
            if stated:
                regions.append(unit_features(output.region_features))
            if new:
                ids, mask = batch.input_ids[new].to(device), batch.attention_mask[new].to(device)
                read = _read_tags(model, batch, new, len(stated)) if reads_tags and batch.tag_value.shape[1] else {}
                features = model.get_text_features(input_ids=ids, attention_mask=mask, **read)  # type: ignore[operator]
                texts.append(unit_features(features))
    if not images:
        raise E2FashionError("there is nothing to embed: the split has no products; choose another split")
    product_of_image = torch.tensor(image_product)
    return EmbeddedSplit(
        image_embeds=join_items(images),
        text_embeds=join_items(texts)[[text_rows[group] for _, group, _ in pairs]],
        image_product=product_of_image,
        text_product=torch.tensor([product for product, _, _ in pairs]),
        image_view=_occurrence(product_of_image),
        text_group=torch.tensor([group[0] for _, group, _ in pairs]),
        product_ids=tuple(products),
        categories=tuple((categories or {}).get(product_id) for product_id in products),
        region_embeds=torch.cat(regions) if stated else None,
        tag_embeds=tags.embeds([rows for _, _, rows in pairs], regions[0].shape[-1]) if stated else None,
    )


def _read_tags(model: nn.Module, batch: Batch, rows: list[int], regions: int) -> dict[str, Tensor]:
    """Keyword arguments with the tags that ``model`` reads with the texts of these rows of a batch."""
    device = next(model.parameters()).device
    present = batch.tag_present[rows, regions:].to(device)
    features = model.get_tag_features(  # type: ignore[operator]
        batch.tag_input_ids.to(device),
        batch.tag_attention_mask.to(device),
        batch.tag_index[rows, regions:].to(device),
        present,
    )
    return {"tag_features": features, "tag_present": present}


class _DistinctTags:
    """The distinct tags of the entities that texts state, each encoded once."""

    def __init__(self, model: nn.Module, stated: Sequence[bool]) -> None:
        self.model = model
        self.stated = torch.tensor(stated, dtype=torch.bool)
        self.rows: dict[int, int] = {}
        self.parts: list[Tensor] = []

    def of(self, batch: Batch) -> list[tuple[int, ...]]:
        """The row of each product's tags among the distinct ones, by entity; -1: none is stated."""
        entities, device = len(self.stated), next(self.model.parameters()).device
        present = batch.tag_present[:, :entities] & self.stated
        values = batch.tag_value[:, :entities]
        known = zip(values[present].tolist(), batch.tag_index[:, :entities][present].tolist(), strict=True)
        if new := {value: index for value, index in known if value not in self.rows}:
            self.rows |= {value: len(self.rows) + number for number, value in enumerate(new)}
            indices = list(new.values())
            ids, mask = batch.tag_input_ids[indices].to(device), batch.tag_attention_mask[indices].to(device)
            features = self.model.get_text_features(input_ids=ids, attention_mask=mask)  # type: ignore[operator]
            self.parts.append(unit_features(getattr(features, "pooler_output", features)))
        return [
            tuple(self.rows[value] if there else -1 for value, there in zip(*row, strict=True))
            for row in zip(values.tolist(), present.tolist(), strict=True)
        ]

    def embeds(self, rows: Sequence[tuple[int, ...]], dimension: int) -> Tensor:
        """The embeddings of these rows (T, E): (T, E, C), zero where there is none."""
        index = torch.tensor(rows)
        distinct = torch.cat([*self.parts, torch.zeros(1, dimension)])  # also where no text states a tag
        return distinct[index.clamp(min=0)] * rearrange(index >= 0, "t e -> t e 1")


def one_vector(embeds: Tensor) -> Tensor:
    """One L2-normalized vector per item: (N, C) unchanged, (N, T, C) averaged over the present tokens (ours)."""
    return F.normalize(embeds.sum(1), dim=-1) if is_tokenwise(embeds) else embeds


def unit_features(features: Any) -> Tensor:
    """L2-normalized fp32 on the CPU: (N, C) from an output with ``pooler_output`` (Transformers 5) or a tensor (4).

    An output with ``local_features``, of a model that compares tokens, gives (N, T, C), zero where absent.
    """
    local = getattr(features, "local_features", None)
    tensor = features if isinstance(features, Tensor) else features.pooler_output if local is None else local
    return F.normalize(tensor.float(), dim=-1).cpu()


def _occurrence(product: Tensor) -> Tensor:
    """The number of earlier rows of the same product: (M,) int64."""
    seen: dict[int, int] = {}
    numbers = []
    for item in product.tolist():
        numbers.append(seen.get(item, 0))
        seen[item] = numbers[-1] + 1
    return torch.tensor(numbers)


@contextmanager
def evaluating(model: nn.Module, precision: str | None = None) -> Iterator[None]:
    """Evaluation mode without gradients, in ``precision`` (None: as outside); then the former mode again."""
    training, device = model.training, next(model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16") if precision else nullcontext()
    model.eval()
    try:
        with torch.inference_mode(), autocast:
            yield
    finally:
        model.train(training)
