"""Names of fibres and other materials: which of them mean the same, also misspelt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

#: Materials with other names of theirs. What is sold under a trade name counts as its material; kinds of leather and
#: fur count as leather and fur; wool of a named breed or age as wool.
_MATERIALS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("cotton", "hemp", "jute", "ramie", "cashmere", "mohair", "alpaca", "angora", "yak", "silk"), ()),
    **dict.fromkeys(("down", "modal", "acetate", "triacetate", "bamboo", "modacrylic", "polypropylene"), ()),
    **dict.fromkeys(("polyethylene", "polycarbonate", "elastodiene", "elastomultiester", "lurex", "neoprene"), ()),
    **dict.fromkeys(("rubber", "eva", "plastic", "suede", "shearling", "metal", "stainless steel", "brass"), ()),
    **dict.fromkeys(("zinc", "silver", "wood", "cork", "straw"), ()),
    "linen": ("flax",),
    "wool": ("woollen", "woolen", "merino", "lambswool", "lana"),
    "camel": ("camel hair",),
    "feathers": ("feather",),
    "viscose": ("rayon",),
    "lyocell": ("tencel",),
    "cupro": ("bemberg",),
    "polyester": ("poly",),
    "nylon": ("polyamide",),
    "elastane": ("spandex", "lycra", "elasthane", "elastan"),
    "acrylic": ("polyacrylic",),
    "polyurethane": ("pu",),
    "metallic fibre": ("metallic fiber", "metallised fibre", "metallic yarn", "metallic thread"),
    "pvc": ("polyvinyl chloride", "vinyl"),
    "leather": ("calfskin", "lambskin", "sheepskin", "goatskin", "cowhide", "pigskin", "deerskin"),
    "synthetic leather": ("faux leather", "artificial leather", "vegan leather", "pu leather", "leatherette"),
    "fur": ("coyote", "fox", "rabbit", "raccoon", "mink"),
    "faux fur": ("artificial fur", "synthetic fur"),
    "raffia": ("raphia",),
    "other fibres": ("other fibers", "other fibre", "other fiber"),
}

#: Fabrics by how they are made. They name a material only where no fibre is named as well.
_FABRICS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("canvas", "corduroy", "crepe", "chiffon", "denim", "felt", "fleece", "georgette"), ()),
    **dict.fromkeys(("jersey", "lace", "mesh", "poplin", "satin", "tweed", "twill", "velvet", "synthetic"), ()),
}

_MEANING = {
    other: name for names in (_MATERIALS, _FABRICS) for name, others in names.items() for other in (name, *others)
}
_MOST_WORDS = max(len(name.split()) for name in _MEANING)
_SHORTEST_MISSPELT = 5  # shorter words have too many neighbors
_CLOSENESS = 0.82  # above one wrong letter of five: "lined" is not linen, "model" not modal


@dataclass(frozen=True)
class Material:
    """A material among words: its name here, and the words from ``start`` to ``end`` that name it.

    ``is_fabric``: how a cloth is made, not of what.
    """

    name: str
    start: int
    end: int
    is_fabric: bool = False


def find_material(words: Sequence[str], mend: bool = True) -> Material | None:
    """The first material that lower-case ``words`` name, fibres before fabrics; ``mend`` also tries close spellings.

    Of two names that begin at one word the longer one counts: "synthetic leather" is neither of its words.
    """
    for fabrics in (False, True):
        for start in range(len(words)):
            for end in range(min(len(words), start + _MOST_WORDS), start, -1):
                name = _MEANING.get(" ".join(words[start:end]))
                if name is not None and (name in _FABRICS) == fabrics:
                    return Material(name, start, end, fabrics)
        for start, word in enumerate(words if mend else ()):
            name = mended(word)
            if name is not None and (name in _FABRICS) == fabrics:
                return Material(name, start, start + 1, fabrics)
    return None


@lru_cache(maxsize=4096)
def mended(word: str) -> str | None:
    """The material that a misspelt ``word`` most likely is: the same first letter and nearly the same letters."""
    if len(word) < _SHORTEST_MISSPELT:
        return None
    names = [name for name in _MEANING if name[0] == word[0] and " " not in name]
    close = get_close_matches(word, names, n=1, cutoff=_CLOSENESS)
    return _MEANING[close[0]] if close else None
