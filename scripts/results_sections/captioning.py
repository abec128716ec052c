"""Captions of products without paired training."""

from __future__ import annotations

from e2fashion.eval.captioning.tables import caption_tables
from scripts.results_sections.section import Section

SECTIONS = (
    Section(
        title="Captioning without paired training",
        records="captioning.jsonl",
        before="""Fashion Product Images: captions are product names of about six words, one a product (1,120 of test).
The encoders are the CLIP-FT and the E2 of the first section, 192 dimensions wide; on each, DeCap's decoder
(`configs/caption/decap_small.yaml`: 3 layers of width 128, ten epochs) learnt to tell train's names from their
embeddings, and never saw a picture. One seed each. Commands: `e2fashion caption train configs/caption/decap_small.yaml
encoder=<run> data=<catalogue>`, `e2fashion caption evaluate <decoder> data=<catalogue> reading=nearest,direct,project`
([captioning.md](captioning.md)).
""",
        tables=caption_tables,
        after="""What it says: with E2's encoder every way of captioning scores higher, and DeCap's projection onto the
memory is the best on either. That is one decoder and one encoder of each kind, so no interval covers another seed, and
the E2 is the one whose settings were chosen on val among several. The nearest caption is a strong baseline here: names
are short and repeat. CapDec, noise training and the entity prompt were not run on real data.
""",
    ),
)
