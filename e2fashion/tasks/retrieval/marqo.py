"""The tasks on which Marqo evaluates fashion models, with their names of metrics, on a catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.tasks.retrieval.measure import embed_catalogue

TEXT_TO_IMAGE = "text-to-image"
CATEGORIES = MappingProxyType({"category-to-product": "category", "sub-category-to-product": "sub_category"})
#: Share of the image in the vector of a product. Source: Marqo's configurations.
IMAGE_SHARE = 0.9
DEPTH = 10


def marqo_tasks(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str = "test",
    categories: Mapping[str, str] = CATEGORIES,
    progress: bool = True,
) -> dict[str, dict[str, float]]:
    """Metrics from 0 to 1 by task: AvgRecall, Recall@1, Recall@10, MRR of texts; AvgP, P@1, P@10, MRR of categories.

    A query is each distinct description, whose images are right, or each value of a tag, whose products are right;
    ``categories`` names the tag of each task. A product is the first view, in the latter tasks with its description:
    ``0.9 * image + 0.1 * text``. Recall is the share of all right items that is among the top k, ``AvgRecall`` and
    ``AvgP`` are means over k = 1 and 10, and MRR ends at rank 10. Marqo draws at most 2,000 queries of its own sets;
    here all are measured.

    Raises:
        E2FashionError: the catalogue lacks a tag, or the encoder compares tokens.
    """
    require_single_vectors(encoder, "Marqo's evaluation")
    for column in categories.values():
        catalogue.check_tag(column)
    template = TextTemplate(f"{{{DESCRIPTION}}}")
    embedded = embed_catalogue(encoder, catalogue, split, template, with_tags=False, progress=progress)
    images = embedded.image_embeds[embedded.first_images]
    texts = embedded.text_embeds[embedded.text_product.argsort(stable=True)]  # one a product
    products = nn.functional.normalize(IMAGE_SHARE * images + (1.0 - IMAGE_SHARE) * texts, dim=-1)
    rows = catalogue.split(split).select_columns(["product_id", DESCRIPTION, *categories.values()])
    first = {row["product_id"]: row for row in reversed(rows.to_list())}
    of_products = [first[product_id] for product_id in embedded.product_ids]
    result = {TEXT_TO_IMAGE: _measure(encoder, [row[DESCRIPTION] for row in of_products], images, "Recall")}
    for task, column in categories.items():
        result[task] = _measure(encoder, [row[column] for row in of_products], products, "P")
    return result


def _measure(encoder: Encoder, values: Sequence[str | None], items: Tensor, metric: str) -> dict[str, float]:
    """Every distinct value as a query for the ``items`` (N, C) that have it."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(v for v in values if v))}
    group = torch.tensor([numbers.get(value or "", -1) for value in values])
    relevant = torch.arange(len(numbers))[:, None] == group
    order = (encoder.embed_texts(list(numbers)) @ items.T).argsort(dim=1, descending=True, stable=True)
    hits = relevant.gather(1, order[:, :DEPTH]).double()
    of = {k: relevant.sum(1) if metric == "Recall" else k for k in (1, DEPTH)}
    scores = {f"{metric}@{k}": float((hits[:, :k].sum(1) / of[k]).mean()) for k in of}
    positions = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64)
    average = "AvgRecall" if metric == "Recall" else "AvgP"
    return {average: sum(scores.values()) / 2, **scores, "MRR": float((hits / positions).amax(1).mean())}
