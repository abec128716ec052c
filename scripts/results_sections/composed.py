"""Text-guided retrieval on the page of results."""

from e2fashion.tasks.composed.tables import composed_tables
from scripts.results_sections.section import Section

SECTIONS = (
    Section(
        title="Text-guided retrieval: another colour of the same line",
        records="composed.jsonl",
        before="""The two encoders of the first table, asked with a product's picture and "in <colour>" for the same
product line in that colour (docs/composed.md). The captions that two arms begin with are training texts; no language
model had a part in it. Command: `python -m experiments.composed_retrieval --scale small --data kagl=<catalogue>`.
""",
        tables=composed_tables,
        after="""What it says: rewriting the caption helps more than either encoder does. The picture alone
finds the line and not the colour, the instruction alone neither; their weighted mean gains little, and for E2
val chose the picture alone. E2's pictures lie nearer to those of their line, its instructions further from the
pictures they ask for; under the rule composer the two encoders cannot be told apart. The task suits these
rules: every instruction is one colour, and training texts name colours. Nothing here says how the arms fare on
FashionIQ's free captions. One seed each; intervals draw product lines and know nothing of seeds. Test was
looked at once before: the composer then wrote its own word for a colour and not the asker's.
""",
    ),
)
