"""A catalogue as loaders of batches, for training with PyTorch Lightning and for evaluation without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from e2fashion.data.dataset import Augmentation, CatalogueRows, ImageCache, Item, ProductDataset, ViewDataset
from e2fashion.data.loader import Collator, EpochSampler, GroupedSampler, ResumableLoader, TagSwap, batches_done
from e2fashion.data.stream import Stream, StreamDataset, StreamSampler
from e2fashion.data.text import TextCounts, TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.types import TextOverflow

if TYPE_CHECKING:
    from e2fashion.data.catalogue import Catalogue


class CatalogueDataModule(pl.LightningDataModule):
    """Loaders of a catalogue's splits.

    Training needs ``Trainer(use_distributed_sampler=False)``: the sampler shares the products out itself. A run that
    resumes in the middle of an epoch continues after the batches that Lightning counts as completed.

    Args:
        catalogue: ``split(name)`` gives its rows.
        tokenizer: of the text encoder.
        entity_columns: the column of each entity, in the order of the entities.
        template: the global text.
        transform: images to squares.
        context_length: the most tokens of a text.
        overflow: what becomes of longer texts, see :class:`~e2fashion.data.text.TextFitter`.
        batch_size: products per training step and process (64 in the official code).
        evaluation_batch_size: products per step of everything else.
        workers: processes that prepare batches.
        cache_gb: memory for resized images, per training process and shared by all its splits.
        flip, crop_scale: see :class:`~e2fashion.data.dataset.Augmentation`.
        seed: of order, views and augmentation.
        train_share: of the training products, see :class:`~e2fashion.data.loader.EpochSampler`.
        stream: the training products, in place of the catalogue's split ``train``.
        group_by: the tag column of :class:`~e2fashion.data.loader.GroupedSampler`; None: all products together.
        swap_tags: whether training batches have texts of :class:`~e2fashion.data.loader.TagSwap`.
        shuffle_buffer, open_files: see :class:`~e2fashion.data.stream.StreamSampler`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        tokenizer: PreTrainedTokenizerBase,
        entity_columns: Sequence[str] = (),
        template: TextTemplate = TextTemplate("{description}"),
        transform: ImageTransform = ImageTransform(),
        context_length: int = 77,
        batch_size: int = 64,
        evaluation_batch_size: int = 128,
        workers: int = 0,
        cache_gb: float = 0.0,
        flip: bool = False,
        crop_scale: float = 1.0,
        seed: int = 0,
        overflow: TextOverflow = "truncate",
        train_share: float = 1.0,
        stream: Stream | None = None,
        shuffle_buffer: int = 4096,
        open_files: int = 8,
        group_by: str | None = None,
        swap_tags: bool = False,
    ) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.template = template
        self.transform = transform
        self.entity_columns = tuple(entity_columns)
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.workers = workers
        self.train_share = train_share
        self.stream = stream
        self.shuffle_buffer = shuffle_buffer
        self.open_files = open_files
        self.group_by = group_by
        self.swap = TagSwap(template) if swap_tags else None
        self.seed = seed
        self.augmentation = Augmentation(seed=seed, flip=flip, crop_scale=crop_scale)
        self.collate = Collator(tokenizer, context_length, len(self.entity_columns), overflow)
        self._cache_bytes_left = int(cache_gb * 1e9)
        self._rows: dict[str, CatalogueRows] = {}
        self._caches: dict[str, ImageCache] = {}

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled products of ``train``, one drawn view each, this process's share."""
        return self.loader("train", train=True)

    def val_dataloader(self) -> ResumableLoader:
        """The first view of every product of ``val``, this process's share and none twice."""
        return self.loader("val", shared_out=True)

    def loader(self, split: str, train: bool = False, views: bool = False, shared_out: bool = False) -> ResumableLoader:
        """Batches of any split.

        Args:
            split: ``train``, ``val`` or ``test``.
            train: shuffled and augmented, the last incomplete batch dropped, shared out among processes; otherwise
                the split in its order.
            views: every row (all images of all products) instead of one image per product.
            shared_out: this process's share alone.
        """
        if train and self.stream is not None:
            stream_dataset = StreamDataset(self.entity_columns, self.template, self.transform, self.augmentation)
            sizes = self.batch_size, self.shuffle_buffer, self.open_files
            columns = stream_dataset.columns
            order = StreamSampler(self.stream, columns, self.augmentation, *sizes, *self._place())
            return self._resumable(stream_dataset, order, train)
        rows = self.rows(split)
        augmentation = self.augmentation if train else None
        # A crop differs in every epoch: nothing to keep.
        cache = None if train and self.augmentation.crop_scale < 1.0 else self._cache(split, rows)
        dataset = ViewDataset(rows, cache) if views else ProductDataset(rows, augmentation, cache)
        rank, world_size = self._place() if train or shared_out else (0, 1)
        make: Callable[..., EpochSampler] = partial(EpochSampler, len(dataset))
        if train and self.group_by is not None:
            make = partial(GroupedSampler, self._groups(rows, self.group_by))
        sampler = make(
            self.batch_size if train else self.evaluation_batch_size,
            seed=self.seed,
            shuffle=train,
            rank=rank,
            world_size=world_size,
            drop_last=train,
            even=train,
            share=self.train_share if train else 1.0,
        )
        return self._resumable(dataset, sampler, train)

    def rows(self, split: str) -> CatalogueRows:
        """The rows of a split, read once."""
        if split not in self._rows:
            self._rows[split] = CatalogueRows(
                self.catalogue.split(split), self.entity_columns, self.template, self.transform
            )
        return self._rows[split]

    def text_counts(self, split: str, stretched_from: int | None = None) -> TextCounts:
        """What becomes of a split's distinct texts, see :meth:`~e2fashion.data.text.TextFitter.count`."""
        rows = self.rows(split)
        placed = dict(rows.placed_text(row) for row in range(len(rows)))
        return self.collate.fit.count(list(placed), list(placed.values()), stretched_from)

    def _resumable(self, dataset: Dataset[Item], sampler: EpochSampler, train: bool) -> ResumableLoader:
        return ResumableLoader(
            dataset,
            sampler,
            partial(self.collate, swap=self.swap) if train and self.swap else self.collate,
            workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            batches_done=partial(batches_done, self) if train else None,
        )

    def _groups(self, rows: CatalogueRows, column: str) -> list[str | None]:
        """The tag of each training product in its first row; a blank one counts as missing."""
        tags = self.catalogue.split("train").select_columns([column]).with_format("arrow")[:][column]
        firsts = tags.take(rows.product_starts[:-1]).to_pylist()
        return [tag if tag and tag.strip() else None for tag in firsts]

    def _cache(self, split: str, rows: CatalogueRows) -> ImageCache:
        if split not in self._caches:
            cache = ImageCache(len(rows), self.transform.size, self._cache_bytes_left)
            self._cache_bytes_left -= cache.bytes
            self._caches[split] = cache
        return self._caches[split]

    def _place(self) -> tuple[int, int]:
        """Rank and number of the processes that train together."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
