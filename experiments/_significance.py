"""Is a row better than the baseline? Paired bootstrap over queries, from the ranks that runs have kept."""

from __future__ import annotations

from collections.abc import Sequence

from e2fashion.records import RecordContext
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.retrieval.protocols import FullGallery
from e2fashion.tasks.retrieval.rankings import Ranking, compare_rankings, load_rankings, pool_rankings, rankings_file
from e2fashion.types import E2FashionError, ResultRecord
from experiments._experiment import Material


def difference_records(material: Material, split: str = "test") -> list[ResultRecord]:
    """Every row against the experiment's baseline under protocol ``full``; the queries of all seeds pooled.

    A product is drawn with all its queries and seeds together. Empty where the experiment names no baseline.

    Raises:
        E2FashionError: a run has kept no ranks; the message says how to get them.
    """
    baseline = material.experiment.baseline
    if baseline is None or baseline not in material.folders:
        return []
    catalogue = next(iter(material.catalogues.values()))
    theirs = _pooled(material.folders[baseline], split, catalogue.fingerprint)
    records = []
    for title, folders in material.folders.items():
        if title == baseline or [folder.path for folder in folders] == [f.path for f in material.folders[baseline]]:
            continue
        context = RecordContext(run="", model=title, split=split, data_fingerprint=catalogue.fingerprint)
        ours = _pooled(folders, split, catalogue.fingerprint)
        records += compare_rankings(ours, theirs, context, FullGallery.name, baseline)
    return records


def _pooled(folders: Sequence[RunFolder], split: str, fingerprint: str) -> list[Ranking]:
    found = []
    for folder in folders:
        file = rankings_file(folder.rankings, FullGallery.name, split, fingerprint)
        if not file.is_file():
            raise E2FashionError(
                f"{folder.path} has kept no ranks of {split} ({file.name}): evaluate it again with "
                f"`e2fashion evaluate {folder.path} data=<catalogue> split={split}`."
            )
        found.append(load_rankings(file)[0])
    return pool_rankings(found)
