"""How much a region weighs beside the whole picture where both are compared: chosen on a split that is not reported."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from e2fashion.tasks.classification.classifier import REGION_WEIGHT, LabelEmbeds, check_region_weight, weighted_scores
from e2fashion.types import E2FashionError, ResultRecord

CHOSEN_ON = "val"
REGION_WEIGHTS = tuple(step / 10 for step in range(11))
"""Shares of the region that are tried: 0 is the whole picture alone, 1 the region alone."""


def choose_region_weight(embeds: LabelEmbeds, images: Tensor, regions: Tensor, labels: Tensor) -> float:
    """The share of :data:`REGION_WEIGHTS` by which most of M products get their label; of equals the nearest to 0.5.

    ``images`` and ``regions`` (M, C) are L2-normalised; ``labels`` (M,) are places among those of ``embeds``, -1 where
    the true one is not among them.
    """
    parts = embeds.parts(images, regions)
    hits = {weight: int((weighted_scores(*parts, weight).argmax(-1) == labels).sum()) for weight in REGION_WEIGHTS}
    return max(hits, key=lambda weight: (hits[weight], -abs(weight - REGION_WEIGHT)))


def check_weighing(weight: float | None, split: str) -> None:
    """Look at the weight that is given, or at the split that is reported where one will be chosen.

    Raises:
        E2FashionError: a share beyond 0 to 1, or one that would be chosen on the split that is reported.
    """
    if weight is not None:
        check_region_weight(weight)
    elif split == CHOSEN_ON:
        raise E2FashionError(
            f"split is '{split}', on which the region's weight in features=both is chosen: report another split, or "
            f"give the weight, as in region_weight={REGION_WEIGHT}."
        )


def weighing(weight: float, given: bool) -> dict[str, float | str]:
    """What a record's ``extra`` says of the weight."""
    return {"region_weight": weight, "weight_chosen_on": "given" if given else CHOSEN_ON}


def features_words(records: Sequence[ResultRecord]) -> str:
    """How tables call the features of records that differ in their seed alone: ``both`` with the region's share."""
    kind = str(records[0].extra.get("features", "global"))
    weights = sorted({f"{record.extra['region_weight']:g}" for record in records if "region_weight" in record.extra})
    return f"{kind} (region {', '.join(weights)})" if weights else kind
