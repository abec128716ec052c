"""Whether selected patches lie where a tag is drawn."""

from __future__ import annotations

from e2fashion.tasks.localization.tables import detail_table, lift_table
from scripts.results_sections.section import Section

SECTIONS = (
    Section(
        title="Do selected patches lie on the tag? (SynthFashion, drawn)",
        records="selection.jsonl",
        before="""Drawn garments, whose tags' true regions are known ([selection.md](selection.md)): CLIP-FT and E2 of
the quickstart, E2 trained without noise, and E2 trained with tokens that read random patches; one seed each. Command:
`python -m experiments.figure_selection_lift --data synthfashion=<catalogue>`. "(all)" pools the entities of a row's
model: CLIP-FT's hold composition, E2's do not, so compare rows by entity.
""",
        tables=lambda records: [lift_table(records), detail_table(records)],
        after="""What it says, for these drawn garments: the tokens of the quickstart's E2 find the logo no better than
tokens that read fixed random patches (which beat chance because garments stand in the middle), and the first fusion
block avoids it. Trained without noise, the second block's brand tokens find it more often, those of seasons do not.
Occlusion and the attention of CLIP-FT find it at least as well. What does change is E2's own attention: CLS looks at
the logo and at the season's trim more often than in CLIP-FT, although no token sent it there. So what E2 gains here
cannot be put down to tokens that find the tag. One seed and one small model: other seeds were not trained.
""",
    ),
)
