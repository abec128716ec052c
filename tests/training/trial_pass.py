"""The slow reference of what a loss reads: one backward pass over two made-up products."""

from __future__ import annotations

import torch

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.models import E2Model
from e2fashion.types import Batch


def reached_parameters(model: E2Model, loss: ContrastiveLoss) -> set[str]:
    """The names of the parameters that a gradient reaches; gradients and mode of ``model`` are as before."""
    vision, text = model.config.vision_config, model.config.text_config
    entities = len(vision.entities) + len(model.config.text_entity_list)
    length = min(4, text.max_position_embeddings)
    ids = torch.full((2, length), text.eos_token_id)
    ids[:, :-1] = torch.arange(2 * (length - 1)).view(2, -1) % 2
    batch = Batch(
        pixel_values=torch.randn(2, 3, vision.image_size, vision.image_size),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        tag_input_ids=ids,
        tag_attention_mask=torch.ones_like(ids),
        tag_index=torch.tensor([[0], [1]]).expand(2, entities),
        tag_present=torch.ones(2, entities, dtype=torch.bool),
        tag_value=torch.arange(2)[:, None].expand(2, entities),
        text_group=torch.arange(2),
        swapped_input_ids=ids,
        swapped_attention_mask=torch.ones_like(ids),
        swapped_present=torch.ones(2, dtype=torch.bool),
    )
    training = model.training
    model.train()
    output = model(
        input_ids=batch.input_ids,
        pixel_values=batch.pixel_values,
        attention_mask=batch.attention_mask,
        tag_input_ids=batch.tag_input_ids,
        tag_attention_mask=batch.tag_attention_mask,
        tag_index=batch.tag_index,
        tag_present=batch.tag_present,
        output_selection_maps=loss.reads_selection,
    )
    loss.of(output, batch, model).total.backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    model.train(training)
    return reached
