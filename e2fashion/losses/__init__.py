"""Contrastive losses as pure functions, and their weighted sum with further terms."""

from e2fashion.losses.contrastive import ContrastiveLoss, ImageTags
from e2fashion.losses.filip import TokenContrast, token_info_nce
from e2fashion.losses.functional import count_present, info_nce, info_nce_share, sigmoid_share
from e2fashion.losses.terms import LossTerm, WeightedTerm

__all__ = [
    "ContrastiveLoss",
    "ImageTags",
    "LossTerm",
    "TokenContrast",
    "WeightedTerm",
    "count_present",
    "info_nce",
    "info_nce_share",
    "sigmoid_share",
    "token_info_nce",
]
