"""A loader that a run can stop and resume in the middle of an epoch without loading what it has seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from e2fashion.data.collate import Collator
from e2fashion.data.dataset import Item
from e2fashion.data.sampler import EpochSampler
from e2fashion.types import Batch, E2FashionError


class ResumableLoader(DataLoader[Item]):
    """A ``DataLoader`` with ``state_dict``: PyTorch Lightning saves it in checkpoints and restores it before fitting.

    Lightning asks for the iterator before it says which epoch comes; the epoch's order is therefore fixed only when
    the first batch is taken. Batches that worker processes prepared ahead do not count as seen.

    Args:
        dataset: items by ``(index, epoch)``.
        sampler: which batches there are.
        collate: items to a batch.
        workers: processes that prepare batches; 0 prepares them in this one.
        pin_memory: page-locked batches, for a GPU.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        sampler: EpochSampler,
        collate: Collator,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
        )
        self.epoch_sampler = sampler
        self._batches_done = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches of the sampler's epoch from its ``start_batch`` on."""
        self._batches_done = self.epoch_sampler.start_batch
        for batch in super().__iter__():
            self._batches_done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the epoch, the batches of it that were handed out, and what makes the order."""
        sampler = self.epoch_sampler
        return {"epoch": sampler.epoch, "batches": self._batches_done, **_identity(sampler)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches that ``state_dict`` counts, once that epoch is iterated.

        Raises:
            E2FashionError: the order would be another one: other data, seed, batch size or number of processes.
        """
        for key, value in _identity(self.epoch_sampler).items():
            if state_dict.get(key) != value:
                raise E2FashionError(
                    f"The run cannot be resumed: {key} was {state_dict.get(key)} and is {value}, so that the order of "
                    "products differs. Resume with the former value, or start a new run."
                )
        self.epoch_sampler.set_epoch(state_dict["epoch"])
        self.epoch_sampler.start_batch = state_dict["batches"]


def _identity(sampler: EpochSampler) -> dict[str, int]:
    return {
        "length": sampler.length,
        "batch_size": sampler.batch_size,
        "seed": sampler.seed,
        "world_size": sampler.world_size,
    }
