"""A loader that a run can stop and resume in the middle of an epoch without loading what it has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from e2fashion.data.collate import Collator
from e2fashion.data.dataset import Item
from e2fashion.data.sampler import EpochSampler
from e2fashion.types import Batch, E2FashionError


class ResumableLoader(DataLoader[Item]):
    """A ``DataLoader`` that leaves out the batches of an epoch that a training loop has done.

    PyTorch Lightning asks for the iterator before it says which epoch comes and where a resumed one stands; order
    and first batch are therefore fixed only when the first batch is taken. How many batches are done is the loop's to
    say: a count of batches handed out would include one in which the run was interrupted.

    ``state_dict`` is saved in Lightning's checkpoints and holds what the order depends on.

    Args:
        dataset: items by ``(index, epoch)``.
        sampler: which batches there are.
        collate: items to a batch.
        workers: processes that prepare batches; 0 prepares them in this one.
        pin_memory: page-locked batches, for a GPU.
        batches_done: asked when an epoch's first batch is taken; None leaves ``sampler.start_batch`` as it is.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        sampler: EpochSampler,
        collate: Collator,
        workers: int = 0,
        pin_memory: bool = False,
        batches_done: Callable[[], int] | None = None,
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
        self._batches_done = batches_done

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches of the sampler's epoch that are not done yet."""
        if self._batches_done is not None:
            self.epoch_sampler.start_batch = self._batches_done()
        yield from super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """What the order of products depends on, apart from the epoch."""
        sampler = self.epoch_sampler
        return {
            "length": sampler.length,
            "batch_size": sampler.batch_size,
            "seed": sampler.seed,
            "world_size": sampler.world_size,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a resumed epoch goes on in the order in which it began.

        Raises:
            E2FashionError: other data, seed, batch size or number of processes.
        """
        for key, value in self.state_dict().items():
            if state_dict.get(key) != value:
                raise E2FashionError(
                    f"The run cannot be resumed: {key} was {state_dict.get(key)} and is {value}, so that the order of "
                    "products differs. Resume with the former value, or start a new run."
                )
