"""Text-guided retrieval on the page of results."""

from e2fashion.tasks.composed.tables import composed_tables
from scripts.results_sections.section import Section

SECTIONS = (
    Section(
        title="Text-guided retrieval: another color of the same line",
        records="composed.jsonl",
        before="""The two encoders of the first table, asked with a product's image and "in <color>" for the same
product line in that color (docs/composed.md). The captions that two modes begin with are training texts; there is no
language model. Command: `python -m experiments.composed_retrieval --scale small --data kagl=<catalogue>`.
""",
        tables=composed_tables,
        after="""What it says: rewriting the caption matters more than the encoder. The image alone
retrieves the line and not the color, the instruction alone neither; their weighted mean gains little, and for E2
val chose the image alone. E2's image embeddings are nearer to those of their line, its instructions further from the
target images; with the rule composer the encoders do not differ significantly. The task suits these
rules: every instruction is one color, and training texts name colors. This says nothing about FashionIQ's free
captions. One seed each; intervals draw product lines, not seeds. Test was evaluated once before: the composer then
wrote our name of a color instead of the instruction's.
""",
    ),
)
