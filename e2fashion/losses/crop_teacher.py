"""A crop around what a token picks, encoded as an image, as the teacher of its region feature (a control)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.types import Batch, E2FashionError

#: What is wrong where a batch has no picks.
NO_SELECTION = (
    "the loss term 'crop_teacher' needs the patches that selection tokens pick: give model.entities tokens, name "
    "model.fusion_layers, and set train.chunk_size=null, or set loss.terms.crop_teacher=null"
)


@dataclass
class CropTeacher:
    """Mean of ``1 - cos(region feature, feature of a crop)``, in the spirit of GOAL (CVPR 2025) and SILC (ECCV 2024).

    For each product one entity is drawn from those whose tag it has. The crop is a square of ``window`` patches around
    the patch that the entity's tokens find most probable in the last fusion block, moved into the image and resized to
    its size. The crop's feature, that of a whole image, comes from the same weights without gradient, for one more
    forward pass of the image tower.
    """

    window: int = 3
    """Patches along the side of the crop."""
    reads_regions: ClassVar[bool] = True
    reads_model: ClassVar[bool] = True
    reads_selection: ClassVar[bool] = True

    def __call__(self, output: Any, batch: Batch, model: Any) -> Tensor:
        """The term () of a batch; zero without any tag.

        Raises:
            E2FashionError: the output has no selection, or the crop is larger than the image.
        """
        if output.selection_maps is None:
            raise E2FashionError(NO_SELECTION)
        vision = model.config.vision_config
        tokens = [entity.tokens for entity in vision.entity_list]
        maps = output.selection_maps[:, -1].split(tokens, dim=1)
        probable = torch.stack([part.sum(1).argmax(-1) for part in maps], dim=1)
        selects = torch.tensor([count > 0 for count in tokens], device=probable.device)
        possible = batch.tag_present[:, : len(tokens)] & selects
        counts = possible.any(1)
        # The generator is the global one, which a step seeds.
        drawn = torch.where(counts[:, None], possible, True).float().multinomial(1)
        crops = self.crops(batch.pixel_values, probable.gather(1, drawn)[:, 0], vision.patch_size)
        with torch.no_grad():
            features = model.get_image_features(crops, return_dict=True).pooler_output
        teacher = F.normalize(features.float(), dim=-1)
        student = output.region_embeds[torch.arange(len(drawn), device=drawn.device), drawn[:, 0]].float()
        losses = 1 - (student * teacher).sum(-1)
        return losses.masked_fill(~counts, 0.0).sum() / counts.sum().clamp(min=1)

    def crops(self, pixel_values: Tensor, patches: Tensor, patch_size: int) -> Tensor:
        """The windows around ``patches`` (B,) int64 of images (B, 3, H, W), resized to (B, 3, H, W).

        Raises:
            E2FashionError: ``window`` is not between 1 and the patches along the image's shorter side.
        """
        height, width = pixel_values.shape[-2:]
        rows, columns = height // patch_size, width // patch_size
        if not 1 <= self.window <= min(rows, columns):
            raise E2FashionError(
                f"loss.terms.crop_teacher.options.window is {self.window}, and the image has {rows} x {columns} "
                f"patches: give a number from 1 to {min(rows, columns)}"
            )
        side, parts = self.window * patch_size, []
        for image, patch in zip(pixel_values, patches.tolist(), strict=True):
            top, left = (
                patch_size * min(max(place - self.window // 2, 0), number - self.window)
                for place, number in ((patch // columns, rows), (patch % columns, columns))
            )
            parts.append(image[:, top : top + side, left : left + side])
        return F.interpolate(torch.stack(parts), (height, width), mode="bilinear", align_corners=False)
