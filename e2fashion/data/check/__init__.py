"""Is a catalogue fit to train on? What ``data check`` looks for; the report of it is made in ``e2fashion.eval``."""

from e2fashion.data.check.catalogue import Checked, check_catalogue
from e2fashion.data.check.findings import SEVERITIES, Finding, Severity, counted, reaches
from e2fashion.data.check.questions import CheckSettings
from e2fashion.data.check.skew import Association
from e2fashion.data.text_length import TextLimit

__all__ = [
    "SEVERITIES",
    "Association",
    "CheckSettings",
    "Checked",
    "Finding",
    "Severity",
    "TextLimit",
    "check_catalogue",
    "counted",
    "reaches",
]
