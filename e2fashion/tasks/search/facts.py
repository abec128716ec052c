"""What ``index.json`` says of an index: its encoder, where its products come from, the kinds of its tags."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from e2fashion.data.transforms import Resize
from e2fashion.disk import DamagedError, stored_as, what_lacks
from e2fashion.encoder import EncoderIdentity
from e2fashion.hub import StoredSource
from e2fashion.tasks.search.places import INDEX_FILE, REMEDY, Place, read_values, write_values
from e2fashion.tasks.search.tags import Typing
from e2fashion.types import E2FashionError

FORMAT_VERSION, FORMER_VERSION = 2, 1
WIDEST = 2**20
"""Greatest width of vectors, far above that of any encoder."""


@dataclass(frozen=True)
class IndexedEncoder(EncoderIdentity):
    """The encoder of an index, how it makes an image square, and where it was.

    ``source``, ``relative`` and ``hub`` are those of :class:`e2fashion.hub.StoredSource`; ``source`` is empty where it
    was not given.
    """

    image_size: int
    resize: Resize
    source: str = ""
    relative: str = ""
    hub: bool = False

    @property
    def location(self) -> StoredSource:
        """Where it was, relative to the folder of the index too."""
        return StoredSource(self.source, self.relative, self.hub)


@dataclass(frozen=True)
class Origin:
    """Where products come from: a catalogue or files, the path, a fingerprint, and the splits of a catalogue.

    ``content`` is the fingerprint of the index that was built from them; an index with another one was changed since.
    """

    kind: str
    path: str
    fingerprint: str
    splits: list[str] = field(default_factory=list)
    content: str = ""


@dataclass(frozen=True)
class Approximation:
    """The recall of the exact best ten by approximate search, over ``queries`` queries; ``of`` says what they were."""

    recall: float
    queries: int
    of: str

    def words(self) -> str:
        """The recall as messages state it."""
        return f"{100 * self.recall:.1f} % of the exact best 10 of {self.queries} {self.of}"


@dataclass(frozen=True)
class IndexFacts:
    """What ``index.json`` says.

    Attributes:
        encoder: the encoder that made the vectors.
        origin: what the index was last built from or made equal to.
        complete: false while it is being built.
        typing: the kinds of the tags.
        text_weight: the text's share of every vector.
        regions: the entities whose regions follow the image in every vector; none: it is of the image alone.
        region_weight: the weight of the regions in the score of a query that states tags.
        skipped: products whose images could not be read, and why.
        approximation: of the inverted lists, where they were built.
    """

    encoder: IndexedEncoder
    origin: Origin
    complete: bool = False
    typing: Typing = field(default_factory=Typing)
    text_weight: float = 0.0
    regions: list[str] = field(default_factory=list)
    region_weight: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    approximation: Approximation | None = None
    created_by: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def width(self) -> int:
        """Width of the vectors: C, or (1 + E) C with regions."""
        return self.encoder.dimension * (1 + len(self.regions))

    def save(self, place: Place) -> None:
        """Write them there, atomically."""
        write_values(place, INDEX_FILE, asdict(self))

    @classmethod
    def load(cls, place: Place) -> IndexFacts:
        """Read the facts of the index there.

        Raises:
            E2FashionError: there is no index, it cannot be read, or another version wrote it.
        """
        facts = cls.find(place)
        if facts is None:
            lacks = what_lacks(place, INDEX_FILE) if isinstance(place, Path) else f"has no {INDEX_FILE}"
            raise E2FashionError(
                f"'{place}' is not an index: it {lacks}. Make one with 'e2fashion index build <catalogue> "
                "model=<model> output=<index>'"
            )
        return facts

    @classmethod
    def find(cls, place: Place) -> IndexFacts | None:
        """As :meth:`load`; None where there is no index.

        Raises:
            E2FashionError: it cannot be read, or another version wrote it.
        """
        values = read_values(place, INDEX_FILE)
        if values is None:
            return None
        version = values.get("format_version")
        if type(version) is int and version > FORMAT_VERSION:
            raise E2FashionError(
                f"'{place}' has index format {version}; this e2fashion reads up to {FORMAT_VERSION}. Update "
                "e2fashion, or build the index again"
            )
        if version == FORMER_VERSION:
            raise E2FashionError(f"'{place}' has the format of an earlier version: 'e2fashion index upgrade {place}'")
        facts = stored_as(cls, values, f"{place}/{INDEX_FILE}", REMEDY)
        if not 1 <= facts.width <= WIDEST:
            raise DamagedError(f"{place}/{INDEX_FILE} is damaged: its vectors have width {facts.width}. {REMEDY}")
        return facts
