"""The section on search of ``docs/results.md``."""

from __future__ import annotations

from e2fashion.tasks.search.tables import search_tables
from scripts.results_sections.section import Section

SECTIONS = (
    Section(
        title="Search in an index",
        records="search.jsonl",
        before="""The models of the first section, an index (fp16) of the test split each, exact search. Commands:
`e2fashion index build <catalogue> model=<run> output=<index> split=test` and
`e2fashion index evaluate <index> columns=article_type,sub_category,brand,colour,season`. Categories are asked for by
their bare name, a part of the text that the models were trained on and not the whole of it; `colour` was in no text
but the product's name.
""",
        views=(),
        tables=search_tables,
    ),
)
