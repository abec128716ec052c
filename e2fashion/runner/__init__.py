"""What each verb does: a resolved configuration goes in, a run folder that explains itself comes out.

One file per verb; what several need is in :mod:`e2fashion.runner.common`.
"""

from e2fashion.runner.caption_use import caption_evaluate, caption_evaluation, caption_run
from e2fashion.runner.captioning import caption_train, train_decoder
from e2fashion.runner.catalogues import check, describe, prepare
from e2fashion.runner.classification import classify, tags_fit, tags_predict
from e2fashion.runner.comparison import compare
from e2fashion.runner.composing import compose, composed
from e2fashion.runner.converting import convert
from e2fashion.runner.evaluation import evaluate
from e2fashion.runner.explaining import explain
from e2fashion.runner.exporting import export
from e2fashion.runner.indexing import (
    index_build,
    index_change,
    index_describe,
    index_evaluate,
    index_remove,
)
from e2fashion.runner.probing import probe, probe_records
from e2fashion.runner.reports import report
from e2fashion.runner.runs import train, train_run
from e2fashion.runner.search import recommend, search

__all__ = [
    "caption_evaluate",
    "caption_evaluation",
    "caption_run",
    "caption_train",
    "check",
    "classify",
    "compare",
    "compose",
    "composed",
    "convert",
    "describe",
    "evaluate",
    "explain",
    "export",
    "index_build",
    "index_change",
    "index_describe",
    "index_evaluate",
    "index_remove",
    "prepare",
    "probe",
    "probe_records",
    "recommend",
    "report",
    "search",
    "tags_fit",
    "tags_predict",
    "train",
    "train_decoder",
    "train_run",
]
