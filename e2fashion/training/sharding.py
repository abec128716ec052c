"""Fully sharded data parallelism (FSDP2): each process keeps a part of all weights, gradients and optimizer states."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from e2fashion.losses.gather import largest_over_ranks
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.types import Batch


def shard(module: nn.Module, model: E2Model, mesh: DeviceMesh) -> None:
    """Distribute the weights of ``module``, whose ``forward`` calls ``model``, over the processes of ``mesh``.

    A transformer layer is whole only while it computes, everything else during the whole step. That includes the last
    layer of each tower, which training computes for the tokens that are read alone, without calling it. FSDP shards no
    scalars: every process has the temperature, and :class:`ShardedStrategy` averages its gradient.
    """
    if isinstance(module, FSDPModule):
        return
    # We change no output in place, which is what it warns of.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    for tower in (model.vision_model, model.text_model):
        for layer in tower.encoder.layers[:-1]:
            fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh, ignored_params={p for p in module.parameters() if p.ndim == 0})


def with_equal_tags(batch: Batch, chunk_size: int | None) -> Batch:
    """The batch with as many chunks of tags as on every process, since all must compute a sharded layer equally often.

    A process repeats a tag, or a text if its products have no tag, which no product reads.
    """
    if not batch.tag_index.shape[1]:
        return batch
    ids, mask = batch.tag_input_ids, batch.tag_attention_mask
    size = chunk_size or max(len(ids), 1)
    chunks = -(-len(ids) // size)
    if (most := largest_over_ranks(chunks, ids.device)) == chunks:
        return batch
    missing = (most - 1) * size + 1 - len(ids)
    spare = (ids[:1], mask[:1]) if len(ids) else (batch.input_ids[:1], batch.attention_mask[:1])
    more, more_mask = (row.expand(missing, -1) for row in spare)
    if len(ids):  # else their lengths differ
        more, more_mask = torch.cat([ids, more]), torch.cat([mask, more_mask])
    return replace(batch, tag_input_ids=more, tag_attention_mask=more_mask)


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2 with the checkpoints of DDP, so that a run may continue with another strategy.

    The module must call :func:`shard` in ``configure_model``.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: through :meth:`load_optimizer_state_dict`."""
        return True

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients of the scalars over processes, as FSDP does for all others."""
        assert self.lightning_module is not None
        for parameter in self.lightning_module.parameters():
            if parameter.grad is not None and not isinstance(parameter.grad, DTensor):
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world_size

    def on_validation_start(self) -> None:
        """Give every process the whole weights, since their numbers of batches differ."""
        for unit in self._units():
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()

    def on_validation_end(self) -> None:
        """Go on with parts of the weights."""
        root: Any = self.lightning_module
        for unit in self._units():
            unit.set_reshard_after_forward(unit is not root, recurse=False)
            unit.reshard()

    def _units(self) -> Iterator[FSDPModule]:
        assert self.lightning_module is not None
        return (module for module in self.lightning_module.modules() if isinstance(module, FSDPModule))

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, see :func:`whole`."""
        assert self.lightning_module is not None
        return whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's whole state, see :func:`whole`."""
        state: dict[str, Any] = super(ModelParallelStrategy, self).optimizer_state(optimizer)
        return {**state, "state": {number: whole(values) for number, values in state["state"].items()}}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The content of a checkpoint, whole on every process."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Keep this process's part of a checkpoint's weights."""
        assert self.lightning_module is not None
        current = self.lightning_module.state_dict()
        parts = {name: _part(value, current.get(name)) for name, value in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Keep this process's part of a checkpoint's optimizer states."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {name: _part(value, parameters[number]) for name, value in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})


class WholeModel(pl.Callback):
    """Copies the trained weights into ``model``, on the first process, before every validation.

    ``model`` is a whole copy of the trained one; it is what the first process saves and draws.
    """

    def __init__(self, model: E2Model) -> None:
        self.model = model

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights, and the temperature of the selection, which may be annealed."""
        trained: Any = pl_module.model
        weights = whole(trained.state_dict())
        if trainer.is_global_zero:
            self.model.load_state_dict(weights)
        self.model.vision_model.set_selection_temperature(trained.vision_model.config.selection_temperature)


def whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with whole tensors, on the CPU of the first process; empty on the others, which must call it too."""
    kept = {}
    for name, value in values.items():
        joined = value.full_tensor() if isinstance(value, DTensor) else value
        if dist.get_rank() == 0:
            kept[name] = joined.cpu() if isinstance(joined, Tensor) else joined
    return kept


def _part(value: Any, like: Any) -> Any:
    """This process's part of a whole tensor, if ``like``, of the same shape, is distributed."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    with torch.no_grad():  # every process has read the whole value: nothing is sent
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
