"""Captions of products without paired training."""

from __future__ import annotations

from e2fashion.tasks.captioning.tables import caption_tables
from scripts.results_sections.section import Section

SECTIONS = (
    Section(
        title="Captioning without paired training",
        records="captioning.jsonl",
        before="""Fashion Product Images: captions are product names of about six words, one a product (1,120 of
test). The encoders are the CLIP-FT and the E2 of the first section, 192 dimensions wide; on each, DeCap's decoder
(`configs/caption/decap_small.yaml`: 3 layers of width 128, ten epochs) was trained to reconstruct train's names from
their embeddings, without images. One seed each. Commands: `e2fashion caption train configs/caption/decap_small.yaml
encoder=<run> data=<catalogue>`, `e2fashion caption evaluate <decoder> data=<catalogue>
reading=nearest,direct,project` ([captioning.md](captioning.md)).
""",
        tables=caption_tables,
        after="""What it says: with E2's encoder every method scores higher, and DeCap's projection onto the memory is
the best on either. That is one decoder and one encoder of each kind, so intervals do not cover seeds, and the
settings of this E2 were chosen on val among several. The nearest caption is a strong baseline here: names are short
and repeat.
""",
    ),
    Section(
        title="Captioning from one pretrained CLIP",
        records="captioning_pretrained.jsonl",
        before="""The same captions, every decoder of table 4, with the CLIP-FT and the E2 (the paper's settings)
fine-tuned from one small pretrained CLIP with one recipe, seed 0; one decoder each. CapDec's language model is small
and trained from scratch. With a prompt: the tags nearest to E2's regions precede the caption. Command: `python -m
experiments.table4_captioning --scale pretrained --data kagl=<catalogue>`.
""",
        tables=caption_tables,
        after="""What it says: a null result for E2. From encoders that differ in nothing else, captions with E2 are
as good as with CLIP-FT in most rows and worse in two (DeCap projected without noise, CapDec), with intervals that
overlap everywhere; the gain of the section above came from these two encoders, not from E2 as a method. The paper's
gains (BLEU@4 +4.5 and +4.9 on Fashion-Gen) are not reproduced here. Noise in training improves `direct` by about 18
points of CIDEr, and then the projection onto the memory adds nothing. The tags of E2's regions as a prompt do not
help. In a sheet of 24 products, types and colors are mostly right with either encoder, brands are mostly guessed, and
products that are rare in training (pendants, scarves, handbags) are captioned as frequent ones.
""",
    ),
)
