"""What each verb does: a resolved configuration goes in, a run folder that explains itself comes out.

One file per verb, imported when it is first called; what several need is in :mod:`e2fashion.runner.common`.
"""

from typing import TYPE_CHECKING

from e2fashion.lazy import lazy_names

if TYPE_CHECKING:
    from e2fashion.runner.catalogues import check, describe, prepare
    from e2fashion.runner.classification import classify, tags_fit, tags_predict
    from e2fashion.runner.explaining import explain
    from e2fashion.runner.probing import probe, probe_records
    from e2fashion.runner.reports import report

__all__ = [
    "check",
    "classify",
    "describe",
    "explain",
    "prepare",
    "probe",
    "probe_records",
    "report",
    "tags_fit",
    "tags_predict",
]

__getattr__ = lazy_names(
    __name__,
    {
        "e2fashion.runner.catalogues": (
            "check",
            "describe",
            "prepare",
        ),
        "e2fashion.runner.classification": (
            "classify",
            "tags_fit",
            "tags_predict",
        ),
        "e2fashion.runner.explaining": ("explain",),
        "e2fashion.runner.probing": (
            "probe",
            "probe_records",
        ),
        "e2fashion.runner.reports": ("report",),
    },
)
