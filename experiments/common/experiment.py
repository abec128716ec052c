"""What an experiment is: runs on a data set at a scale, and a view that draws tables or figures from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.published import PublishedRow
from e2fashion.run_folder import RunFolder
from e2fashion.types import E2FashionError, ResultRecord

ROOT = Path(__file__).resolve().parents[2]
RUN_CONFIGS = ROOT / "configs" / "run"
ABLATIONS = ROOT / "configs" / "ablation"
PUBLISHED = ROOT / "experiments" / "published.yaml"

UNTRAINED = {"clip": "clip_ft"}
"""Systems that are evaluated as the training of another one starts."""
LOCAL = "e2_local"
"""E2 with faithful selection (ours); ``e2`` is the paper's form."""


def run_config(prefix: str, system: str) -> Path:
    """The configuration of a run: ``configs/run/<prefix>_<system>.yaml``; the quickstart's E2 is ours."""
    ours = {("quickstart", "e2"): "e2_paper", ("quickstart", LOCAL): "e2"}
    system = UNTRAINED.get(system, system)
    return RUN_CONFIGS / f"{prefix}_{ours.get((prefix, system), system)}.yaml"


#: The systems that the paper compares, by the title of their row.
SYSTEMS = {"CLIP": "clip", "CLIP-FT": "clip_ft", "FILIP-FT": "filip_ft", "E2": "e2"}

Recipes = Mapping[str, Mapping[str, str]]
"""By scale, then by data set, the prefix of its run configurations, ``configs/run/<prefix>_<system>.yaml``."""

#: Experiments of Fashion-Gen, and their small counterparts: from scratch, and from one small pretrained CLIP.
FASHIONGEN: Recipes = {
    "paper": {"fashiongen": "fashiongen"},
    "small": {"kagl": "kagl_small", "synthfashion": "quickstart"},
    "pretrained": {"kagl": "kagl_pretrained"},
}
#: Experiments without runs: any of these data sets, several at a time.
CATALOGUES_ALONE: Recipes = {
    "paper": {"fashiongen": "", "amazon_fashion": ""},
    "small": {"kagl": "", "synthfashion": ""},
}


@dataclass(frozen=True)
class Material:
    """What a view draws from: records of every row (``model`` is the row's title), run folders by row, catalogues.

    ``raw`` are folders of data sets that the experiment reads without a catalogue, those that were given. ``output`` is
    the folder of the view's files; ``smoke`` says that there are a few drawn garments only. ``merged`` are records
    of earlier calls, which are among ``records``; a view that makes records of its own shows them too.
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
    merged: Sequence[ResultRecord] = ()

    @property
    def measured_on(self) -> str:
        """The titles of the data sets."""
        return ", ".join(DATA_SETS[name].title for name in self.catalogues)


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper.

    Its runs are ``rows``, systems by title, or the rows of ``configs/ablation/<ablation>.yaml``, changes of the
    system ``base``; they are trained on one data set that ``recipes`` name for the scale. An experiment without
    either reads catalogues, any number of them. ``baseline`` is the row that the others are compared with, or for
    each row its own; records of ``splits`` are kept. ``table`` names it in the file of published values,
    ``other_tables`` do for data sets that have another one there. Data sets of ``raw`` may be given too and need no
    catalogue. ``view`` returns its files, the main one first.
    """

    name: str
    title: str
    view: Callable[[Material], list[Path]]
    rows: Mapping[str, str] = field(default_factory=dict)
    recipes: Recipes = field(default_factory=lambda: FASHIONGEN)
    ablation: str = ""
    base: str = "e2"
    baseline: str | Mapping[str, str] | None = None
    protocols: tuple[str, ...] = ("full",)
    splits: tuple[str, ...] = ("test",)
    table: str = ""
    other_tables: Mapping[str, str] = field(default_factory=dict)
    raw: tuple[str, ...] = ()

    @property
    def has_runs(self) -> bool:
        """Whether it needs runs, and not catalogues alone."""
        return bool(self.rows or self.ablation)


@dataclass(frozen=True)
class DataSet:
    """``title`` for tables; ``origin`` of the raw data, and the command that prepares a catalogue of it."""

    title: str
    origin: str
    prepare: str

    @property
    def source(self) -> str:
        """Where the data set comes from and how it is prepared."""
        return f"{self.title}: {self.origin}. Prepare it with: {self.prepare}"


DATA_SETS: dict[str, DataSet] = {
    "fashiongen": DataSet(
        "Fashion-Gen",
        "fashiongen_256_256_train.h5 and fashiongen_256_256_validation.h5, given by Fashion-Gen's authors on request "
        "through the page of their challenge",
        "e2fashion data prepare configs/data/fashiongen.yaml path=<folder of the two files> output=<catalogue>",
    ),
    "amazon_fashion": DataSet(
        "AmazonFashion",
        "meta-fashion.json, split.json and the images below Fashion/, linked from the page of E2's authors' code",
        "e2fashion data prepare configs/data/amazon_fashion.yaml path=<folder> output=<catalogue>",
    ),
    "kagl": DataSet(
        "Fashion Product Images",
        "styles.csv (or metadata.csv) and images/, from Kaggle: Fashion Product Images, by Param Aggarwal",
        "e2fashion data prepare configs/data/kagl.yaml path=<folder> output=<catalogue>",
    ),
    "kagl_logos": DataSet(
        "Fashion Product Images with drawn logos",
        "2,500 products of a prepared catalogue of Fashion Product Images, and logos that this code draws on them",
        "e2fashion data prepare drawn_logos path=<catalogue of kagl> products=2500 output=<catalogue>",
    ),
    "fashioniq": DataSet(
        "FashionIQ",
        "captions/ and image_splits/ from its authors' repository, and the images that they list, as images/<id>.png "
        "or .jpg",
        "nothing: it needs no catalogue, --data fashioniq=<folder>",
    ),
    "fashion_mnist": DataSet(
        "Fashion-MNIST",
        "the four idx files, from Zalando Research's repository",
        "e2fashion data prepare labelled path=<folder> invert=true output=<catalogue>",
    ),
    "synthfashion": DataSet(
        "SynthFashion (drawn)",
        "nothing to download: it is drawn",
        "e2fashion data prepare configs/data/synthfashion.yaml output=<catalogue>",
    ),
}


def parse_data(arguments: Iterable[str]) -> dict[str, Path]:
    """``name=catalogue`` arguments as a mapping.

    Raises:
        E2FashionError: an argument without a name, an unknown data set, or one that is named twice.
    """
    given: dict[str, Path] = {}
    for argument in arguments:
        name, sign, folder = argument.partition("=")
        if not sign or not folder:
            raise E2FashionError(
                f"--data is '{argument}'; write --data <name>=<catalogue>, as in --data kagl=catalogues/kagl."
            )
        if name not in DATA_SETS:
            raise E2FashionError(f"--data names the data set '{name}'; there are: {', '.join(DATA_SETS)}.")
        if name in given:
            raise E2FashionError(f"--data names '{name}' twice: {given[name]} and {folder}. Give one catalogue of it.")
        given[name] = Path(folder)
    return given


def load_catalogue(name: str, folder: Path) -> Catalogue:
    """The catalogue of a data set; an error says where its data come from."""
    try:
        return Catalogue.load(folder)
    except E2FashionError as error:
        raise E2FashionError(f"{error}\n{DATA_SETS[name].source}") from error


def choose_data(experiment: str, wanted: Sequence[str], given: Mapping[str, Path], scale: str) -> str:
    """The one data set of ``wanted`` that was given.

    Raises:
        E2FashionError: none or several were given, or one that this scale has no recipe for.
    """
    if other := [name for name in given if name not in wanted]:
        raise E2FashionError(
            f"{experiment} has no recipe for '{other[0]}' at scale '{scale}'. Data sets of this scale: "
            f"{', '.join(wanted)}."
        )
    if len(given) > 1:
        raise E2FashionError(f"{experiment} runs on one data set at a time; got {', '.join(given)}.")
    if not given:
        raise E2FashionError(missing_data(experiment, wanted, scale))
    return next(iter(given))


def missing_data(experiment: str, wanted: Sequence[str], scale: str) -> str:
    """The commands that give an experiment its data."""
    several = "one of: " if len(wanted) > 1 else ""
    lines = [f"{experiment} at scale '{scale}' needs {several}{', '.join(f'--data {n}=<catalogue>' for n in wanted)}."]
    return "\n".join([*lines, *(DATA_SETS[name].source for name in wanted)])
