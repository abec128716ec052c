"""What an experiment is: rows of runs on a data set at a scale, and a view that draws tables or figures from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.published import PublishedRow
from e2fashion.run_folder import RunFolder
from e2fashion.types import ResultRecord
from experiments._data import DATA_SETS

ROOT = Path(__file__).resolve().parents[1]
RUN_CONFIGS = ROOT / "configs" / "run"
PUBLISHED = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Row:
    """One line of a table: the configuration of ``system`` with ``overrides``.

    ``trained`` False evaluates what its training would start from.
    """

    title: str
    system: str
    overrides: tuple[str, ...] = ()
    trained: bool = True


#: The systems that the paper compares.
SYSTEMS = (
    Row("CLIP", "clip_ft", trained=False),
    Row("CLIP-FT", "clip_ft"),
    Row("FILIP-FT", "filip_ft"),
    Row("E2", "e2"),
)


@dataclass(frozen=True)
class Recipe:
    """The configurations ``configs/run/<prefix>_<system>.yaml``, with what a data set has otherwise.

    ``drawn`` is the prefix that ``--smoke`` takes instead, where the data set has tags that drawn garments lack.
    """

    prefix: str
    overrides: tuple[str, ...] = ()
    drawn: str = ""


Recipes = Mapping[str, Mapping[str, Recipe]]
"""By scale, then by data set."""

#: Experiments of Fashion-Gen, and their small likenesses: from scratch, and from one small pretrained CLIP.
FASHIONGEN: Recipes = {
    "paper": {"fashiongen": Recipe("fashiongen")},
    "small": {"kagl": Recipe("kagl_small"), "synthfashion": Recipe("quickstart")},
    "pretrained": {"kagl": Recipe("kagl_pretrained", drawn="quickstart")},
}

#: Experiments without rows: any of these data sets, several at a time.
CATALOGUES_ALONE: Recipes = {
    "paper": {"fashiongen": Recipe(""), "amazon_fashion": Recipe("")},
    "small": {"kagl": Recipe(""), "synthfashion": Recipe("")},
}


@dataclass(frozen=True)
class Material:
    """What a view draws from: records of every row (``model`` is the row's title), run folders by row, catalogues.

    ``raw`` are folders of data sets that the experiment reads as they are, those that were given. ``output`` is the
    folder that the view writes into; ``smoke`` says that there are a few drawn garments only.
    """

    experiment: Experiment
    output: Path
    records: Sequence[ResultRecord]
    published: Sequence[PublishedRow]  # those of the experiment's table
    catalogues: Mapping[str, Catalogue]
    folders: Mapping[str, Sequence[RunFolder]] = field(default_factory=dict)
    raw: Mapping[str, Path] = field(default_factory=dict)
    caption: str = ""
    smoke: bool = False
    scale: str = ""

    @property
    def measured_on(self) -> str:
        """The titles of the data sets."""
        return ", ".join(DATA_SETS[name].title for name in self.catalogues)


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper.

    ``rows``, or those of the file ``configs/ablation/<ablation>.yaml``, are trained on one data set that ``recipes``
    name for the scale; an experiment without either reads catalogues alone, any number of them. ``baseline`` is the row
    against which the others are tested; records of ``splits`` are kept. ``table`` names it in the file of published
    values, ``other_tables`` do for data sets that have another one there. Data sets of ``raw`` may be given too and are
    read as they are. ``view`` returns the files it wrote, the one to read first.
    """

    name: str
    title: str
    view: Callable[[Material], list[Path]]
    rows: tuple[Row, ...] = ()
    recipes: Recipes = field(default_factory=lambda: FASHIONGEN)
    ablation: str = ""
    baseline: str | None = None
    protocols: tuple[str, ...] = ("full",)
    splits: tuple[str, ...] = ("test",)
    table: str = ""
    other_tables: Mapping[str, str] = field(default_factory=dict)
    raw: tuple[str, ...] = ()
