"""Contrastive losses as pure functions and their weighted sum."""

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.losses.functional import count_present, info_nce, info_nce_share
from e2fashion.losses.tokenwise import token_info_nce

__all__ = ["ContrastiveLoss", "count_present", "info_nce", "info_nce_share", "token_info_nce"]
