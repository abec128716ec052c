"""What a garment is mostly made of, read off its composition text."""

from __future__ import annotations

import re

_LABEL = re.compile(r"(?:^|(?<=[.;,\n]))\s*[a-z][a-z0-9 ()/&-]*:|[a-z]+:")
_AMOUNT_FIRST = re.compile(r"(\d+(?:[.,]\d+)?)\s*%\s*([a-z][a-z' -]*)")
_FIBRE_FIRST = re.compile(r"([a-z][a-z' -]*?)\s*(\d+(?:[.,]\d+)?)\s*%")
_SEPARATOR = re.compile(r"[.;,/+&\n]")
_CARE = re.compile(r"(?:dry|hand|machine|do not|wash|tumble|iron|bleach|imported|made in|see )")


def dominant_fibre(composition: str | None) -> str | None:
    """The fibre with the largest share of the first part, in lower case; None where the text names none.

    ``Body: 87% wool, 8% nylon. Lining: 100% cupro.`` is wool. Without shares it is the fibre that is named first
    (``cotton; polyester`` is cotton), and of equal shares the first. Care notes (``Dry clean.``) are no fibre.
    Spelling is taken as it is.
    """
    for part in _LABEL.split((composition or "").lower().replace("\xa0", " ")):
        if fibre := _largest(part):
            return fibre
    return None


def _largest(part: str) -> str | None:
    part = part.strip(" .;,\n")
    if "%" not in part:
        fragments = (fragment.strip() for fragment in _SEPARATOR.split(part))
        return next((fragment for fragment in fragments if fragment and not _CARE.match(fragment)), None)
    if _AMOUNT_FIRST.match(part) or not _FIBRE_FIRST.match(part):
        shares = [(amount, fibre) for amount, fibre in _AMOUNT_FIRST.findall(part)]
    else:
        shares = [(amount, fibre) for fibre, amount in _FIBRE_FIRST.findall(part)]
    named = [(float(amount.replace(",", ".")), _plain(fibre)) for amount, fibre in shares]
    return max(named, key=lambda share: share[0])[1] if named else None


def _plain(fibre: str) -> str:
    return re.sub(r"^and | and$", "", fibre.strip()).strip()
