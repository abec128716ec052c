"""What the values in a record's ``extra`` are, wherever a table or a figure shows them: checked when a file is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from e2fashion.stored import check_value
from e2fashion.types import E2FashionError

REMEDY = "Remove the line, and measure again."

VALUES: dict[str, Any] = {
    **dict.fromkeys(("arm", "against", "entity", "features", "implementation", "region_of", "regions", "shots"), str),
    **dict.fromkeys(("caption_method", "caption_tokenizer", "clip_score_encoder", "weight_chosen_on"), str),
    **dict.fromkeys(("prompt", "language_model", "captioner", "line"), str | None),
    **dict.fromkeys(("templates",), list[str] | str),
    **dict.fromkeys(("region_templates", "wording"), list[str]),
    **dict.fromkeys(("beams", "left_out", "fallbacks", "units", "unknown", "cropped", "indistinct", "draws"), int),
    **dict.fromkeys(("classes", "rare_classes", "rare_train_products", "rare_products", "unseen_classes"), int),
    **dict.fromkeys(("unseen_products", "untagged_products", "min_examples", "short_classes"), int),
    **dict.fromkeys(("rare_values", "min_products", "fewest_candidates"), int),
    **dict.fromkeys(("temperature", "length_penalty", "target_accuracy", "region_weight", "weight"), float),
    **dict.fromkeys(("area", "chance", "p_value", "ceiling"), float),
    **dict.fromkeys(("noise_variance",), float | None),
    **dict.fromkeys(("converged", "both_orders"), bool),
    "majority": float | dict[str, float],
    "deviation": dict[str, float],
    "texts": dict[str, Any],
}
"""Types by key, the same in every task; other keys are not shown, or shown as they are."""


class StoredExtra(dict[str, Any]):
    """``extra`` of a record of a file: a key that a table needs and the file lacks names the line.

    An error of ours elsewhere in a table stays what it is.
    """

    def __init__(self, values: Any = (), place: str = "a record") -> None:
        super().__init__(values)
        self.place = place

    def __missing__(self, key: str) -> Any:
        raise E2FashionError(
            f"{self.place} lacks '{key}' in extra, which its table shows: another version wrote it, or it was edited. "
            f"{REMEDY}"
        )


def checked_extra(values: Mapping[str, Any], place: str) -> StoredExtra:
    """The same values, those of :data:`VALUES` of their types.

    Raises:
        DamagedError: a value of another type, by its key.
    """
    for key, value in values.items():
        if key in VALUES:
            check_value(VALUES[key], value, f"extra.{key}", place, REMEDY)
    return StoredExtra(values, place)
