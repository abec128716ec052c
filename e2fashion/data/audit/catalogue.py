"""All checks of one catalogue, in the order in which a report tells of them."""

from __future__ import annotations

from dataclasses import dataclass

from e2fashion.data.audit.against import against_findings
from e2fashion.data.audit.content import Content, read_content
from e2fashion.data.audit.findings import Finding, Severity, worst
from e2fashion.data.audit.questions import (
    CheckSettings,
    associations,
    group_finding,
    length_finding,
    markup_finding,
    picture_findings,
    skew_finding,
    skewed,
    spelling_finding,
    text_findings,
    unreadable_findings,
)
from e2fashion.data.audit.skew import Association
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text_length import TextLimit


@dataclass(frozen=True)
class Checked:
    """The findings of a catalogue, what they were found in, and the associations that are strong.

    ``other`` is the catalogue that it was compared with and ``other_content`` what was read of it, if any.
    """

    catalogue: Catalogue
    content: Content
    findings: list[Finding]
    skewed: list[Association]
    settings: CheckSettings
    other: Catalogue | None = None
    other_content: Content | None = None

    @property
    def worst(self) -> Severity:
        """The gravest severity."""
        return worst(self.findings)


def check_catalogue(
    catalogue: Catalogue,
    settings: CheckSettings | None = None,
    limit: TextLimit | None = None,
    progress: bool = True,
    against: Catalogue | None = None,
) -> Checked:
    """Decode every picture of ``catalogue`` once and look for what makes it unfit.

    ``against`` is one whose train split should share nothing with val and test.

    Raises:
        E2FashionError: a column that the settings or the text's template name does not exist.
    """
    settings, limit = settings or CheckSettings(), limit or TextLimit()
    content = read_content(catalogue, limit, progress)
    found = associations(content, settings)
    findings = [
        *unreadable_findings(catalogue, content),
        *picture_findings(content, settings),
        *text_findings(content, settings),
        group_finding(content),
        spelling_finding(content),
        markup_finding(content),
        skew_finding(found, settings),
        length_finding(content, limit),
    ]
    other = None
    if against is not None:
        other = read_content(against, TextLimit(), progress)
        name = against.manifest.name
        findings += against_findings(content, other, name, settings.near_bits, settings.near_pixels)
    return Checked(catalogue, content, findings, skewed(found, settings), settings, against, other)
