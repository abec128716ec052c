"""Is a catalogue fit to train on? What ``data check`` looks for."""

from e2fashion.data.audit.catalogue import Checked, check_catalogue
from e2fashion.data.audit.findings import SEVERITIES, Finding, Severity, counted, reaches
from e2fashion.data.audit.questions import CheckSettings
from e2fashion.data.audit.skew import Association
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
