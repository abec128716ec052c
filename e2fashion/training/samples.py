"""Sample figures of products, also after epochs: the images that texts retrieve, the patches that tokens select."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.storage import REGIONS_COLUMN, decode_regions
from e2fashion.data.transforms import normalize
from e2fashion.embedding import evaluating
from e2fashion.encoder import Encoder
from e2fashion.figures import Heatmap, ImageArray, RetrievedRow, SelectionRow, as_array, draw_retrieved, draw_selection
from e2fashion.metrics.ranking import compare
from e2fashion.tasks.localization.attribution import selects, token_slices
from e2fashion.tasks.localization.measure import boxes_in_square
from e2fashion.training.loggers import log_image
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch, Entity

if TYPE_CHECKING:
    import datasets

#: Top images per query.
SHOWN = 5
#: Products in the figures of an epoch, and their resolution, which is low because they are drawn often.
SAMPLES, SAMPLE_DPI = 3, 80

BestImages: TypeAlias = tuple[list[tuple[int, bool]], int]
"""A text's top images with whether they are relevant, and the rank of the first relevant one."""


@dataclass(frozen=True)
class SeenProducts:
    """The N products embedded by this process in validation.

    ``image_embeds`` and ``text_embeds`` (N, C) are L2-normalized, or tokens (N, P, C) and (N, L, C); equal
    ``text_group`` (N,) mean equal texts.
    """

    product_ids: tuple[str, ...]
    image_embeds: Tensor
    text_embeds: Tensor
    text_group: Tensor


class SampleFigures(pl.Callback):
    """Draws after validation, from its embeddings and without random numbers.

    With several processes the first one draws from its part of val.

    Args:
        draw: draws the PNGs of an epoch (from 1) in a folder and returns them by the name to log them under.
        folder: the folder of the PNGs.
        every: epochs between figures.
    """

    def __init__(self, draw: Callable[[SeenProducts, int, Path], Mapping[str, Path]], folder: Path, every: int) -> None:
        self.draw = draw
        self.folder = folder
        self.every = every
        self._ids: list[str] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the ids of the embedded products."""
        self._ids += batch.product_ids

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and log before the module resets the embeddings."""
        ids, self._ids = tuple(self._ids), []
        epoch = trainer.current_epoch + 1
        if epoch % self.every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ContrastiveModule)
        recall: Any = pl_module.retrieval
        seen = SeenProducts(ids, *map(dim_zero_cat, (recall.image_embeds, recall.text_embeds, recall.text_ids)))
        for name, file in self.draw(seen, epoch, self.folder).items():
            for logger in trainer.loggers:
                # The last finished step, at which Lightning logs validation.
                log_image(logger, name, file, trainer.global_step - 1)


@dataclass(frozen=True)
class Subjects:
    """N first views: decoded ``images``, uint8 ``squares`` (N, 3, S, S), tags and true boxes by entity."""

    images: Sequence[Tensor]
    squares: Tensor
    tags: Sequence[dict[str, str | None]]
    boxes: Sequence[dict[str, list[tuple[float, float, float, float]]]]


def some_of(total: int, wanted: int) -> list[int]:
    """``wanted`` of ``total`` products, drawn with seed 0, in order."""
    drawn = np.random.default_rng(0).choice(total, min(total, wanted), replace=False)
    return sorted(int(product) for product in drawn)


def subjects_of(rows: CatalogueRows, split: datasets.Dataset, entities: Sequence[Entity], number: int) -> Subjects:
    """A ``number`` of products (seed 0) of ``rows``, whose first columns are those of ``entities``.

    ``split`` has their regions.
    """
    starts = [int(rows.product_starts[product]) for product in some_of(rows.product_count, number)]
    images = [rows.image(row) for row in starts]
    regions = split[REGIONS_COLUMN] if REGIONS_COLUMN in split.column_names else None
    tags, boxes = [], []
    for row, image in zip(starts, images, strict=True):
        known = decode_regions(regions[row]) if regions is not None and regions[row] else {}
        seen = {
            entity.name: boxes_in_square(known.get(entity.column, ()), rows.transform, *image.shape[-2:])
            for entity in entities
        }
        boxes.append({name: [(b.left, b.top, b.right, b.bottom) for b in listed] for name, listed in seen.items()})
        tags.append(dict(zip((entity.name for entity in entities), rows.tags(row), strict=False)))
    return Subjects(images, torch.stack([rows.transform(image) for image in images]), tags, boxes)


def selections_of(
    encoder: Encoder, subjects: Subjects, heatmaps: Sequence[Heatmap | None] | None = None
) -> list[list[SelectionRow]]:
    """Maps and selected patches by fusion block, from one pass; ``heatmaps`` of another model are added."""
    with evaluating(encoder.model):
        pixels = normalize(subjects.squares.to(encoder.model.device), encoder.transform.mean, encoder.transform.std)
        output: Any = encoder.model.get_image_features(pixels, output_selection_maps=True)
    maps = output.selection_maps.float().cpu().numpy()
    picks = output.selected_patches.cpu().numpy()
    return [_rows_of(encoder, subjects, maps[:, block], picks[:, block], heatmaps) for block in range(maps.shape[1])]


def _rows_of(
    encoder: Encoder, subjects: Subjects, maps: np.ndarray, picks: np.ndarray, heatmaps: Sequence[Heatmap | None] | None
) -> list[SelectionRow]:
    """The rows of one block: ``maps`` (N, S, P), ``picks`` (N, S, k)."""
    slices = token_slices(encoder.entities)
    result = []
    for index, square in enumerate(subjects.squares):
        entity_maps, entity_picks = {}, {}
        for entity in encoder.selecting_entities:
            tokens = slices[entity.name]
            entity_maps[entity.name] = maps[index, tokens].mean(axis=0)
            entity_picks[entity.name] = [int(patch) for patch in picks[index, tokens].ravel() if patch >= 0]
        reference = heatmaps[index] if heatmaps is not None else None
        boxes = subjects.boxes[index]
        result.append(SelectionRow(as_array(square), subjects.tags[index], entity_maps, entity_picks, boxes, reference))
    return result


def best_images(image_embeds: Tensor, text_embeds: Tensor, image_group: Tensor, text_group: Tensor) -> list[BestImages]:
    """Per text its top images with whether they are relevant, and the rank of the first relevant one.

    Embeddings (M, C) and (Q, C), or tokens (M, P, C) and (Q, L, C); equal group ids (M,) and (Q,) match.
    """
    compared = compare(image_embeds, text_embeds)
    result = []
    for query, group in enumerate(text_group):
        order = compared.scores("t2i", query).argsort(descending=True, stable=True)
        right = image_group[order] == group
        best = [(int(product), bool(hit)) for product, hit in zip(order[:SHOWN], right[:SHOWN], strict=True)]
        result.append((best, int(right.nonzero()[0, 0]) + 1))
    return result


def retrieved_of(
    rows: CatalogueRows, starts: Sequence[int], chosen: Sequence[int], best: Mapping[str, Sequence[BestImages]]
) -> list[RetrievedRow]:
    """What each model retrieves for the texts of the ``chosen`` products, see :func:`best_images`.

    ``starts`` has the row of every product's first view, ``best`` the results for the texts by model.
    """

    def image(product: int) -> ImageArray:
        return as_array(rows.transform(rows.image(starts[product])))

    return [
        RetrievedRow(
            text=rows.text(starts[product]),
            truth=image(product),
            retrieved={
                name: [(image(other), right) for other, right in found[query][0]] for name, found in best.items()
            },
            rank={name: found[query][1] for name, found in best.items()},
        )
        for query, product in enumerate(chosen)
    ]


class SampleSheets:
    """Draws the same few products of val after every epoch, from the embeddings of the validation.

    Args:
        encoder: the encoder in training.
        rows: of val; their first entity columns are those of the encoder's entities.
        split: the same products, with their regions if known.
    """

    def __init__(self, encoder: Encoder, rows: CatalogueRows, split: datasets.Dataset) -> None:
        self.encoder = encoder
        self.rows = rows
        self.split = split

    def __call__(self, seen: SeenProducts, epoch: int, folder: Path) -> dict[str, Path]:
        """Draw the figures of an epoch in ``folder``; the files by the name to log them under."""
        files = {"figures/retrieved": folder / f"retrieved_{epoch:03d}.png"}
        title = f"{self.encoder.name}, epoch {epoch}: text to image among {len(seen.product_ids)} products of val"
        draw_retrieved(self.retrieved(seen), files["figures/retrieved"], title, dpi=SAMPLE_DPI)
        if selects(self.encoder):
            files["figures/selected"] = folder / f"selected_{epoch:03d}.png"
            title = f"{self.encoder.name}, epoch {epoch}: patches selected per entity"
            rows = selections_of(self.encoder, self.subjects)[-1]
            draw_selection(rows, self.encoder.selecting_entities, files["figures/selected"], title, dpi=SAMPLE_DPI)
        return files

    def retrieved(self, seen: SeenProducts) -> list[RetrievedRow]:
        """The top images among the embedded products for the texts of a few of them."""
        chosen = some_of(len(seen.product_ids), SAMPLES)
        group = seen.text_group
        best = best_images(seen.image_embeds, seen.text_embeds[chosen], group, group[chosen])
        starts = [self.starts[product_id] for product_id in seen.product_ids]
        return retrieved_of(self.rows, starts, chosen, {self.encoder.name: best})

    @cached_property
    def subjects(self) -> Subjects:
        """The products whose selected patches are shown."""
        return subjects_of(self.rows, self.split, self.encoder.entities, SAMPLES)

    @cached_property
    def starts(self) -> dict[str, int]:
        """Row of every product's first view."""
        return {self.rows.product_id(int(row)): int(row) for row in self.rows.product_starts[:-1]}
