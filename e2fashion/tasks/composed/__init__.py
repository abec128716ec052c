"""Text-guided image retrieval: a picture and what shall be different become one query."""

from e2fashion.tasks.composed.arms import (
    ARMS,
    TITLES,
    ComposedQueries,
    Composition,
    blend,
    check_arms,
    compose,
    rewriters,
)
from e2fashion.tasks.composed.language_model import Answers, LanguageModelComposer, load_language_model
from e2fashion.tasks.composed.queries import LineColumns, QuerySet, fashion_iq_queries, other_colour_queries
from e2fashion.tasks.composed.rewriting import Question, Rewriter, Rewriting, RuleComposer
from e2fashion.tasks.composed.slots import Trace, rewrite_slots

__all__ = [
    "ARMS",
    "TITLES",
    "Answers",
    "ComposedQueries",
    "Composition",
    "LanguageModelComposer",
    "LineColumns",
    "QuerySet",
    "Question",
    "Rewriter",
    "Rewriting",
    "RuleComposer",
    "Trace",
    "blend",
    "check_arms",
    "compose",
    "fashion_iq_queries",
    "load_language_model",
    "other_colour_queries",
    "rewrite_slots",
    "rewriters",
]
