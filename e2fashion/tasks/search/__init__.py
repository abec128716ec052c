"""Find products by text, picture or both in an index on disk."""

from e2fashion.tasks.search.build import EmbedSettings, build_index
from e2fashion.tasks.search.change import add_products, remove_products, update_products
from e2fashion.tasks.search.index import Hit, ProductIndex, open_index
from e2fashion.tasks.search.walk import GradedHit, recommend

__all__ = [
    "EmbedSettings",
    "GradedHit",
    "Hit",
    "ProductIndex",
    "add_products",
    "build_index",
    "open_index",
    "recommend",
    "remove_products",
    "update_products",
]
