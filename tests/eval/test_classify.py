"""Zero-shot classification of a catalogue's split: what is counted, and against what it is checked."""

import pytest
from tiny_encoder import build_tiny_encoder

from e2fashion.data.catalogue import Catalogue
from e2fashion.eval.classify import measure_zero_shot
from e2fashion.eval.embed import EmbeddedSplit
from e2fashion.eval.encoder import Encoder
from e2fashion.eval.measure import MeasureSettings, embed_catalogue
from e2fashion.eval.rankings import RecordContext
from e2fashion.types import E2FashionError

CONTEXT = RecordContext(run="run", model="tiny", split="val")


@pytest.fixture(scope="module")
def encoder(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture(scope="module")
def embedded(encoder: Encoder, synth_catalogue: Catalogue) -> EmbeddedSplit:
    return embed_catalogue(encoder, synth_catalogue, "val", settings=MeasureSettings(progress=False))


def test_accuracy_is_what_a_slow_loop_counts(
    encoder: Encoder, synth_catalogue: Catalogue, embedded: EmbeddedSplit
) -> None:
    records = measure_zero_shot(encoder, synth_catalogue, embedded, CONTEXT, "sub_category", ["a {}"], resamples=20)
    found = {record.metric: record for record in records}
    rows = synth_catalogue.split("val")
    tag_of = {row["product_id"]: row["sub_category"] for row in rows.select_columns(["product_id", "sub_category"])}
    labels = sorted({tag for tag in tag_of.values() if tag})
    right = total = 0
    for place, product_id in enumerate(embedded.product_ids):
        if tag_of[product_id] is None:
            continue
        image = embedded.image_embeds[embedded.first_images[place]]
        scores = [float(image @ encoder.embed_texts(f"a {label}")[0]) for label in labels]
        total += 1
        right += labels[scores.index(max(scores))] == tag_of[product_id]
    assert found["accuracy"].value == pytest.approx(100 * right / total)
    assert (found["accuracy"].queries, found["accuracy"].candidates) == (total, len(labels))
    assert found["accuracy"].extra["left_out"] == len(embedded.product_ids) - total
    assert set(found) == {"accuracy", "macro_f1", "weighted_f1"}


def test_a_column_that_the_catalogue_lacks(
    encoder: Encoder, synth_catalogue: Catalogue, embedded: EmbeddedSplit
) -> None:
    with pytest.raises(E2FashionError, match="no tag column 'colour'; it has: "):
        measure_zero_shot(encoder, synth_catalogue, embedded, CONTEXT, "colour")
