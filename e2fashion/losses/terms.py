"""Further terms of the loss, each switched on by its name in ``loss.terms``; all of them are controls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.losses.functional import info_nce_of_logits, sigmoid_of_logits
from e2fashion.losses.gather import mean_over_ranks
from e2fashion.types import Batch, E2FashionError

#: What is wrong where a batch has no picks.
NO_SELECTION = (
    "the loss term 'crop_teacher' needs the patches that selection tokens pick: give model.entities tokens and "
    "name model.fusion_layers, or set loss.terms.crop_teacher=null"
)
LARGEST = 8
"""Entities whose subsets, all 255 of them, still cost little beside a training step."""

MIXER = 6364136223846793005
"""Odd 64-bit factor that keeps the identifiers of two sets of values apart (of Knuth's MMIX generator)."""


@dataclass
class CropTeacher:
    """Mean of ``1 - cos(region feature, feature of a crop)``, in the spirit of GOAL (CVPR 2025) and SILC (ECCV 2024).

    For each product one entity is drawn from those whose tag it has. The crop is a square of ``window`` patches around
    the patch that the entity's tokens find most probable in the last fusion block, moved into the image and resized to
    its size. The crop's feature, that of a whole image, comes from the same weights without gradient, for one more
    forward pass of the image tower, in one piece also with ``train.chunk_size``.
    """

    window: int = 3
    """Patches along the side of the crop."""
    reads_regions: ClassVar[bool] = True
    reads_model: ClassVar[bool] = True
    reads_selection: ClassVar[bool] = True

    def __call__(self, output: Any, batch: Batch, model: Any) -> Tensor:
        """The term () of a batch, the mean over the products of all processes; zero without any tag.

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
        return mean_over_ranks(1 - (student * teacher).sum(-1), counts)

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


@dataclass
class ImageTags:
    """Mean over entities of the contrast of tags and image features, equal tags being positives (ours).

    Selection tokens are not involved: the term teaches the two towers which tags an image has.
    """

    reads_regions: ClassVar[bool] = False

    subsets: bool = False
    """Contrast every set of entities, the single ones included: its text feature is the normalized mean of its tags',
    and products with the same values of all of them are positives. The mean over all sets is the expectation of a
    random subset of the tags."""

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The term () of a batch; zero without entities.

        Raises:
            E2FashionError: there are too many entities for all of their subsets.
        """
        entities = output.tag_embeds.shape[1]
        tags, present, value = output.tag_embeds, batch.tag_present[:, :entities], batch.tag_value[:, :entities]
        if self.subsets and entities:
            if entities > LARGEST:
                raise E2FashionError(
                    f"subsets of the loss term 'image_tags' contrasts every set of entities, and {entities} entities "
                    f"have {2**entities - 1:,}: name at most {LARGEST}, or set it to false"
                )
            chosen = [list(c) for size in range(1, entities + 1) for c in combinations(range(entities), size)]
            tags = torch.stack([F.normalize(tags[:, c].float().sum(1), dim=-1) for c in chosen], 1)
            present = torch.stack([present[:, c].all(1) for c in chosen], 1)
            value = torch.stack([_joint_value(value[:, c]) for c in chosen], 1)
        sets = tags.shape[1]
        loss = ContrastiveLoss([str(number) for number in range(sets)], 1.0, "same_value")
        return loss(
            image_embeds=output.image_embeds,
            text_embeds=output.text_embeds,
            region_embeds=repeat(output.image_embeds, "b c -> b s c", s=sets),
            tag_embeds=tags,
            tag_present=present,
            tag_value=value,
            logit_scale=output.logit_scale,
            logit_bias=output.logit_bias,
        ).total


def _joint_value(value: Tensor) -> Tensor:
    """Identifiers (B,) of rows of identifiers (B, n), int64: equal where all n are, on every rank."""
    joint = value[:, 0]
    for column in value[:, 1:].unbind(1):
        joint = joint * MIXER + column
    return joint


@dataclass
class SwappedTags:
    """Mean of ``-log softmax`` of an image's similarity with its text against that with its ``swapped`` text.

    The only negative of a product is its own text with one tag changed (:class:`e2fashion.data.loader.TagSwap`), which
    cannot be true of another image of the batch as such texts of other products may. Products without one do not
    count. It costs a second pass of the texts, in one piece also with ``train.chunk_size``.
    """

    reads_regions: ClassVar[bool] = False
    reads_model: ClassVar[bool] = True

    def __call__(self, output: Any, batch: Batch, model: Any) -> Tensor:
        """The term () of a batch, the mean over the products of all processes; zero without any swapped text.

        Raises:
            E2FashionError: the batch has no swapped texts, or the model's texts are encoded with tags.
        """
        if batch.swapped_input_ids is None or batch.swapped_present is None:
            raise E2FashionError(
                "the loss term 'swapped_tags' needs batches with swapped texts: give CatalogueDataModule "
                "swap_tags=True, as a run with loss.terms.swapped_tags does"
            )
        if model.reads_tags:
            raise E2FashionError(
                "the loss term 'swapped_tags' encodes texts alone, but model.text_entities adds tags to them: remove "
                "one of the two"
            )
        features = model.get_text_features(batch.swapped_input_ids, batch.swapped_attention_mask, return_dict=True)
        swapped = F.normalize(features.pooler_output.float(), dim=-1)
        ahead = (output.image_embeds.float() * (output.text_embeds.float() - swapped)).sum(-1)
        return mean_over_ranks(F.softplus(-output.logit_scale.float().exp() * ahead), batch.swapped_present)


@dataclass
class TextPooled:
    """InfoNCE, or the sigmoid loss, of texts and the image features that are pooled for them, after FLAIR.

    The score of image m and text n is the cosine of the text with what it reads of the image
    (:class:`e2fashion.models.text_pooling.TextPooling`). Negatives are both, as in CLIP's loss: for a text, *other
    images under that text*, which all answer the same query, so that only their content distinguishes them; for an
    image, *the same image under other texts*, so that a text that finds nothing in it must score low. Equal texts are
    positives of each other. A run of several processes is refused: each would lack the negatives of the others.
    """

    reads_regions: ClassVar[bool] = False

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The term () of a batch.

        Raises:
            E2FashionError: the model pools nothing.
        """
        similarities = getattr(output, "pooled_similarities", None)
        if similarities is None:
            raise E2FashionError(
                "the loss term 'text_pooling' needs a model that pools patches for texts, in training: build it with "
                "E2Config(text_pooling=True), or train from scratch or from a CLIP with loss.terms.text_pooling"
            )
        logits = output.logit_scale.float().exp() * similarities
        if output.logit_bias is None:
            return info_nce_of_logits(logits, logits.mT, value=batch.text_group)
        return sigmoid_of_logits(logits + output.logit_bias.float(), value=batch.text_group)
