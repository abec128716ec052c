"""The LightningModule that trains a CLIP or an E2 with the global and regional contrastive losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.disk import write_json
from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.metrics.retrieval import CrossModalRecall
from e2fashion.models.chunks import embed_in_chunks
from e2fashion.models.modeling_e2 import E2Model, E2Output
from e2fashion.similarity import is_tokenwise, pad_tokens
from e2fashion.training.config import OptimizerConfig
from e2fashion.training.optimization import build_optimizer, cosine_with_warmup
from e2fashion.training.sharding import shard, with_equal_tags
from e2fashion.types import Batch, E2FashionError, LossOutput

#: CLIP's bound on the inverse temperature: logits are never scaled by more than 100.
MAX_LOGIT_SCALE = math.log(100.0)


def refuse_accumulation(key: str, batches: int) -> None:
    """Raise an E2FashionError for a step of several batches, whose products would not be contrasted with each other."""
    if batches != 1:
        raise E2FashionError(
            f"{key} is {batches}: adding the gradients of small batches does not enlarge the number of negatives, "
            "which is what a contrastive loss gains from a large batch. Set loader.batch_size to the whole batch and "
            "train.chunk_size to what fits into memory, which gives the exact gradient of the whole."
        )


class ContrastiveModule(pl.LightningModule):
    """One stage of training: forward, weighted loss, retrieval on val at the end of every epoch.

    All randomness of a step derives from (seed, step, rank), so that a resumed run equals an uninterrupted one. It is
    fitted by a plain ``pl.Trainer(use_distributed_sampler=False)`` and a
    :class:`~e2fashion.data.datamodule.CatalogueDataModule`, see docs/extending.md.

    Args:
        model: the encoder that is trained; with a ``logit_bias`` by the sigmoid loss.
        loss: global, regional and additional terms; None: the paper's, half of it regional.
        learning_rate: at the end of the warm-up.
        config: optimizer and schedule.
        transform: its mean and standard deviation normalize the loader's uint8 pixels.
        seed: of the selection noise and any other random number of a step.
        nonfinite_report: file for the product ids of a batch whose loss is not finite.
        chunk_size: products that are encoded at a time (:func:`~e2fashion.models.chunks.embed_in_chunks`); None: all.
        temperature_end: the selection's temperature at the last step, annealed from the model's; None: constant.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        model: E2Model,
        loss: ContrastiveLoss | None = None,
        learning_rate: float = 1e-5,
        config: OptimizerConfig | None = None,
        transform: ImageTransform | None = None,
        seed: int = 0,
        nonfinite_report: Path = Path("nonfinite_batch.json"),
        chunk_size: int | None = None,
        temperature_end: float | None = None,
    ) -> None:
        super().__init__()
        entities = [entity.name for entity in model.config.vision_config.entity_list]
        self.model = model.train()  # what was loaded is in evaluation mode, without noise; Lightning leaves it there
        self.loss = loss or ContrastiveLoss(entity_names=entities, region_weight=0.5 if entities else 0.0)
        self.learning_rate = learning_rate
        self.config = config or OptimizerConfig()
        self.seed = seed
        self.nonfinite_report = nonfinite_report
        self.chunk_size = chunk_size
        self.temperatures = (float(model.config.vision_config.selection_temperature), temperature_end)
        self.total_steps = 0
        self.retrieval = CrossModalRecall()
        transform = transform or ImageTransform()
        self.register_buffer("pixel_mean", torch.tensor(transform.mean), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(transform.std), persistent=False)
        # Plain values, to keep pickled objects out of checkpoints; the loggers of a run get its whole configuration.
        values = {item.name: getattr(self.config, item.name) for item in fields(OptimizerConfig)}
        self.save_hyperparameters({"learning_rate": learning_rate, "seed": seed, **values}, logger=False)

    def configure_model(self) -> None:
        """Shard the weights if the trainer has a :class:`~e2fashion.training.sharding.ShardedStrategy`."""
        if self.device_mesh is not None:
            shard(self, self.model, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Raise an E2FashionError where the trainer accumulates gradients."""
        refuse_accumulation("accumulate_grad_batches", self.trainer.accumulate_grad_batches)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalize the loader's uint8 pixels on the device, which transfers a quarter of the bytes."""
        if batch.pixel_values.dtype == torch.uint8:
            batch.pixel_values = normalize(batch.pixel_values, self.pixel_mean, self.pixel_std)
        return batch

    def forward(self, batch: Batch) -> E2Output:
        """Embed images (B, 3, H, W), texts (B, L) and the U distinct tags of one batch."""
        embed: Callable[..., E2Output] = self.model
        if self.chunk_size is not None and self.training:
            embed = partial(embed_in_chunks, self.model, self.chunk_size)
        if self.loss.reads_selection and self.training:
            embed = partial(embed, output_selection_maps=True)
        if self.device_mesh is not None and self.training:
            batch = with_equal_tags(batch, self.chunk_size)
        output = embed(
            input_ids=batch.input_ids,
            pixel_values=batch.pixel_values,
            attention_mask=batch.attention_mask,
            tag_input_ids=batch.tag_input_ids,
            tag_attention_mask=batch.tag_attention_mask,
            tag_index=batch.tag_index,
            tag_present=batch.tag_present,
        )
        if self.device_mesh is not None:
            # FSDP hooks into the outputs of every step, and a parameter would keep the hooks of all of them.
            for name in ("logit_scale", "logit_bias"):
                if (value := getattr(output, name)) is not None:
                    setattr(output, name, value.clone())
        return output

    def compute_loss(self, batch: Batch) -> LossOutput:
        """The weighted loss of one batch and its terms."""
        return self.loss.of(self(batch), batch, self.model)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch; one that is not finite stops the run and reports the product ids."""
        step_seed = self.seed * 1_000_003 + self.global_step * 1_009 + self.global_rank
        torch.manual_seed(step_seed)
        self.model.seed_selection_noise(step_seed)
        self._anneal_selection()
        output = self.compute_loss(batch)
        if not torch.isfinite(output.total):
            self._report_nonfinite(batch, output)
        size = len(batch)
        # Not "train/loss": MLflow stores a metric in a file of its name, and the terms need a folder of that name.
        self.log("train/loss/total", output.total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/loss/{k}": v.detach() for k, v in output.terms.items()}, batch_size=size)
        self.log("train/logit_scale", self.model.logit_scale.detach().exp(), batch_size=size)
        if self.model.logit_bias is not None:
            self.log("train/logit_bias", self.model.logit_bias.detach(), batch_size=size)
        return output.total

    def _anneal_selection(self) -> None:
        """Set the temperature of this step, a function of the step alone: geometric from the first to the last one."""
        start, end = self.temperatures
        if end is None or not self.model.vision_model.fusion_blocks:
            return
        temperature = start * (end / start) ** (self.global_step / max(1, self.total_steps - 1))
        self.model.vision_model.set_selection_temperature(temperature)
        self.log("train/selection_temperature", temperature)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Clamp the temperature after the optimizer step; clamping in forward would stop its gradient.

        Not at the end of the batch, because a checkpoint that is saved there must have the clamped value.
        """
        super().optimizer_step(*arguments, **options)
        if self.model.logit_bias is not None:
            return  # SigLIP bounds nothing, and its published models exceed the bound
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect embeddings of every val product's first view and text."""
        image_embeds, text_embeds = self(batch).compared_embeds
        if is_tokenwise(text_embeds):  # one length for all batches and ranks
            text_embeds = pad_tokens(text_embeds, self.model.config.text_config.max_position_embeddings)
        self.retrieval.update(image_embeds.float(), text_embeds.float(), batch.text_group, batch.text_group)

    def on_validation_epoch_end(self) -> None:
        """Log retrieval among all val products, positives by equal text; SumR chooses the model that is kept."""
        scores = self.retrieval.compute()
        self.retrieval.reset()
        # Equal on all ranks already; sync_dist only silences a warning of Lightning.
        values = {f"val/retrieval/{name}": float(value) for name, value in scores.items()}
        self.log_dict(values, sync_dist=True)
        self.log("SumR", float(scores["SumR"]), prog_bar=True, logger=False, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The stage's optimizer with a cosine schedule over all its steps.

        Not ``trainer.estimated_stepping_batches``: it creates the loaders before a checkpoint's position in them is
        restored, so that a resumed epoch would restart.
        """
        optimizer = build_optimizer(self.model, self.config, self.learning_rate)
        data: pl.LightningDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        self.total_steps = len(data.train_dataloader()) * (self.trainer.max_epochs or 0)
        schedule = LambdaLR(optimizer, cosine_with_warmup(self.config.warmup_steps, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _report_nonfinite(self, batch: Batch, output: LossOutput) -> None:
        report = {
            "step": self.global_step,
            "epoch": self.current_epoch,
            "terms": {name: float(value.detach()) for name, value in output.terms.items()},
            "product_ids": batch.product_ids,
        }
        file = self.nonfinite_report
        if self.global_rank:  # every process has other products
            file = file.with_stem(f"{file.stem}_rank{self.global_rank}")
        write_json(file, report)
        raise E2FashionError(
            f"The loss became {output.total.item()} at step {self.global_step}. The batch's product ids are in "
            f"'{file}'. Lower train.stages.<stage>.learning_rate, set train.gradient_clip=1.0, or "
            f"train with train.precision=fp32 or bf16 instead of fp16."
        )
