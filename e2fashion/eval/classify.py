"""Zero-shot classification of a catalogue's split by one of its tag columns: accuracy and F1 as records."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from e2fashion.data.catalogue import Catalogue
from e2fashion.eval.embed import EmbeddedSplit
from e2fashion.eval.encoder import Encoder
from e2fashion.eval.rankings import RecordContext
from e2fashion.metrics.bootstrap import RESAMPLES
from e2fashion.metrics.classification import summarise_classes
from e2fashion.tasks.zero_shot import SLOT, class_embeddings, nearest_labels
from e2fashion.types import E2FashionError, ResultRecord


def measure_zero_shot(
    encoder: Encoder,
    catalogue: Catalogue,
    embedded: EmbeddedSplit,
    context: RecordContext,
    column: str,
    templates: Sequence[str] = (SLOT,),
    resamples: int = RESAMPLES,
) -> list[ResultRecord]:
    """Accuracy, macro-F1 and weighted F1 of the first pictures, among all values of ``column`` in ``context.split``.

    ``embedded`` holds that split's pictures, by ``encoder``. Products without the tag are left out and counted in
    ``extra["left_out"]``. ``task`` is ``zero_shot``; ``extra`` names ``entity`` and ``templates``.

    Raises:
        E2FashionError: the catalogue has no such column, or nobody has a value in it.
    """
    if column not in catalogue.tag_columns:
        raise E2FashionError(
            f"The catalogue {catalogue.path} has no tag column '{column}'; it has: {', '.join(catalogue.tag_columns)}."
        )
    rows = catalogue.split(context.split)
    tags = dict(zip(rows["product_id"], rows[column], strict=True))
    values = [tags[product_id] for product_id in embedded.product_ids]
    labels = sorted({value for value in values if value is not None})
    if not labels:
        raise E2FashionError(f"no product of {context.split} has a value in '{column}': choose another column")
    known = torch.tensor([place for place, value in enumerate(values) if value is not None])
    places = {label: place for place, label in enumerate(labels)}
    truth = torch.tensor([places[value] for value in values if value is not None])
    images = embedded.image_embeds[embedded.first_images][known]
    predicted = nearest_labels(images, class_embeddings(encoder.embed_texts, labels, templates))
    return [
        ResultRecord(
            **vars(context),
            task="zero_shot",
            metric=metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            queries=len(truth),
            candidates=float(len(labels)),
            extra={"entity": column, "templates": list(templates), "left_out": len(values) - len(truth)},
        )
        for metric, estimate in summarise_classes(truth, predicted, len(labels), resamples).items()
    ]
