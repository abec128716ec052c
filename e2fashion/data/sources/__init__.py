"""Where products come from: one file per origin, one registry line each."""

from __future__ import annotations

from e2fashion.data.sources.amazon_fashion import AmazonFashionSource
from e2fashion.data.sources.base import Source
from e2fashion.data.sources.drawn_logos import DrawnLogosSource
from e2fashion.data.sources.fashion_iq import FashionIqSource
from e2fashion.data.sources.fashiongen import FashionGenSource
from e2fashion.data.sources.folder import FolderSource
from e2fashion.data.sources.hub import HubSource
from e2fashion.data.sources.kagl import KaglSource
from e2fashion.data.sources.labelled import LabelledSource
from e2fashion.data.sources.synthetic import SyntheticSource
from e2fashion.extensions import ExtensionPoint

SOURCES: dict[str, type[Source]] = {
    source.name: source
    for source in (
        KaglSource,
        FashionGenSource,
        AmazonFashionSource,
        FashionIqSource,
        FolderSource,
        HubSource,
        LabelledSource,
        SyntheticSource,
        DrawnLogosSource,
    )
}

SOURCE_POINT = ExtensionPoint("source", "e2fashion.sources", ("name", "tag_columns", "__len__", "rows"))
