"""Reports: tables from records, and the figures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.text import TextCounts
from e2fashion.data.transforms import normalize
from e2fashion.disk import file_name, stored_as, write_text
from e2fashion.embedding import EmbeddedSplit, evaluating
from e2fashion.encoder import Encoder
from e2fashion.escape import markdown, markdown_code
from e2fashion.figures import Heatmap, RetrievedRow, SelectionRow, draw_retrieved, draw_selection
from e2fashion.records import REMEDY, RecordContext, append_records, read_records, settings_of
from e2fashion.run_folder import RunFolder
from e2fashion.tables import Table, to_markdown, without_repeats
from e2fashion.tasks.captioning.tables import caption_tables
from e2fashion.tasks.classification.tables import classification_tables, tag_tables
from e2fashion.tasks.composed.tables import composed_tables
from e2fashion.tasks.localization.attribution import attention_map, selects
from e2fashion.tasks.localization.measure import selection_tables
from e2fashion.tasks.probing.tables import add_probe_figures, probe_tables
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.tasks.retrieval.protocols import FullGallery, FullWithRegions
from e2fashion.tasks.retrieval.rankings import RETRIEVAL, compare_rankings
from e2fashion.tasks.retrieval.tables import compared_metric, difference_table, retrieval_table
from e2fashion.tasks.search.measure import search_tables
from e2fashion.training.samples import (
    BestImages,
    Subjects,
    best_images,
    retrieved_of,
    selections_of,
    some_of,
    subjects_of,
)
from e2fashion.types import E2FashionError, ResultRecord


def write_tables(records: Sequence[ResultRecord], file: Path | None = None) -> str:
    """One Markdown table per split, protocol, definition of a hit, text, catalogue and settings; written to ``file``.

    Only records with equal conditions share a table and are averaged. Settings are stated where they differ. Equal
    tables are written once, and the caption says what they hold for. Other tasks follow in further tables.

    Raises:
        E2FashionError: records from a file lack what the tables of their task show.
    """
    more = [
        *selection_tables(records),
        *composed_tables(records),
        *classification_tables(records),
        *tag_tables(records),
        *caption_tables(records),
        *search_tables(records),
        *probe_tables(records),
    ]
    parts = _distinct(_retrieval_tables(records))
    if long_texts := long_text_lines(records):
        parts.append(long_texts.lstrip())
    parts += _distinct(more)
    content = "\n".join(parts) if parts else "No records that a table is made of.\n"
    if file is not None:
        write_text(file, content)
    return content


def _distinct(tables: Sequence[Table]) -> list[str]:
    """The tables as Markdown, equal ones once."""
    named = {str(number): table for number, table in enumerate(tables)}
    return [to_markdown(table) for table in without_repeats(named).values()]


def _retrieval_tables(records: Sequence[ResultRecord]) -> list[Table]:
    def conditions(record: ResultRecord) -> tuple[tuple[str, Any], ...]:
        return (("catalogue", record.data_fingerprint), *settings_of(record).items())

    kinds = RETRIEVAL.grouped(records, lambda one: (one.split, one.protocol, one.positives, one.text))
    tables = []
    for (split, protocol, positives, text), of_kind in kinds.items():
        alike = RETRIEVAL.grouped(of_kind, conditions)
        for how, chosen in alike.items():
            table = retrieval_table(chosen, split=split, protocol=protocol, positives=positives, text=text)
            differing = [
                f"{name} {str(value)[:12]}" for name, value in how if any((name, value) not in o for o in alike)
            ]
            if differing:
                caption = f"{table.caption}\n\nMeasured with {markdown(', '.join(differing))}."
                table = replace(table, caption=caption)
            tables.append(table)
    return tables


def write_comparison(
    file: Path,
    records: Sequence[ResultRecord],
    encoders: Sequence[Encoder],
    catalogue: Catalogue,
    split: str,
    products: int,
    lines: Sequence[str] = (),
    progress: bool = True,
) -> None:
    """Write the report of a comparison and its ``figures/``: tables, retrieved products, selected patches."""
    figures = file.parent / "figures"
    heading = markdown(" against ".join(encoder.name for encoder in encoders))
    parts = [f"# {heading}\n", *lines, write_tables(records)]
    embedded = [embed_catalogue(encoder, catalogue, split, progress=progress, regions=True) for encoder in encoders]
    weights = {r.model: r.extra["region_score_weight"] for r in records if "region_score_weight" in r.extra}
    parts += [interval_lines(records), *difference_tables(encoders, embedded, split, weights)]
    rows = retrieved_rows(encoders, catalogue, split, products, embedded=embedded)
    draw_retrieved(rows, figures / "retrieved.png", f"Text-to-image retrieval among the products of {split}")
    parts += [
        f"## Retrieved products\n\nRandom queries of {split}; green frames mark hits (the product, or one with the "
        "same text).\n\n![retrieved products](figures/retrieved.png)\n"
    ]
    for encoder in encoders:
        if not selects(encoder):
            continue
        subjects = _subjects(encoder, catalogue, split, products)
        # The tokens of the first block still have to look for their tag, those of the last one may know it already.
        for layer, selection in zip(encoder.fusion_layers, selections_of(encoder, subjects), strict=True):
            last = layer == encoder.fusion_layers[-1]
            name = f"selected_{file_name(encoder.name)}{'' if last else f'_layer{layer}'}.png"
            title = f"{encoder.name}: patches selected per entity behind layer {layer}"
            draw_selection(selection, encoder.selecting_entities, figures / name, title)
            parts += [
                f"## Selected patches: {markdown(encoder.name)}, behind layer {layer}\n\nBrightness: mean probability "
                "over the entity's tokens; yellow frames: selected patches; blue dashes: the tag's true region, if "
                f"known.\n\n![selected patches](figures/{name})\n"
            ]
    write_text(file, "\n".join(parts))


def interval_lines(records: Sequence[ResultRecord]) -> str:
    """SumR of every model with its 95 % interval and the ceiling due to equal texts; the treatment of long texts."""
    lines = []
    for record in records:
        if record.metric != "SumR" or record.low is None or record.high is None:
            continue
        ceiling = record.extra.get("ceiling")
        bound = f"; equal texts allow at most {ceiling:.1f}" if ceiling is not None else ""
        lines.append(
            f"- {markdown(record.model)}, {record.split}, `{record.protocol}`, hit by {record.positives}: "
            f"{record.value:.1f} [{record.low:.1f}, {record.high:.1f}]{bound}"
        )
    return (
        "SumR with its 95 % bootstrap interval over products:\n\n" + "\n".join(lines) + "\n" + long_text_lines(records)
    )


def long_text_lines(records: Sequence[ResultRecord]) -> str:
    """The treatment of texts that are longer than a model's context; empty if there are none."""
    lines: dict[str, None] = {}
    for record in records:
        if "texts" in record.extra:
            what = f"A record of {record.model}, {record.split}: texts"
            counts = stored_as(TextCounts, record.extra["texts"], what, REMEDY)
            whose = f"{markdown(record.model)}, {record.split}, {markdown_code(record.text)}"
            lines[f"- {whose}: {counts.sentence()}"] = None
    return "\nLong texts:\n\n" + "\n".join(lines) + "\n" if lines else ""


def difference_tables(
    encoders: Sequence[Encoder],
    embedded: Sequence[EmbeddedSplit],
    split: str,
    weights: Mapping[str, float] | None = None,
) -> list[str]:
    """Paired bootstrap over products of each model against the first: protocol ``full``, hits by equal text.

    ``weights`` of the regional score by model add protocol ``full_regions``.
    """
    protocols: list[list[FullGallery]] = [[FullGallery() for _ in encoders]]
    if weights:
        protocols.append([FullWithRegions(weights.get(encoder.name, 0.0)) for encoder in encoders])
    contexts = [RecordContext(run="", model=encoder.name, split=split) for encoder in encoders]
    tables = []
    for alike in protocols:
        asked = zip(alike, embedded, contexts, strict=True)
        rankings = [protocol.rank(item, context) for protocol, item, context in asked]
        for ranking, context in list(zip(rankings, contexts, strict=True))[1:]:
            records = compare_rankings(ranking, rankings[0], context, alike[0].name, encoders[0].name)
            table = difference_table(records, "text", dict.fromkeys(map(compared_metric, records)))
            names = f"{markdown(context.model)} against {markdown(encoders[0].name)}"
            tables.append(f"{names}:\n\n{to_markdown(table)}")
    return tables


def retrieved_rows(
    encoders: Sequence[Encoder],
    catalogue: Catalogue,
    split: str,
    queries: int,
    progress: bool = True,
    embedded: Sequence[EmbeddedSplit] | None = None,
) -> list[RetrievedRow]:
    """The top images of every encoder for the texts of the same random products (seed 0).

    ``embedded`` are the embeddings of the split, if the caller has them.
    """
    if embedded is None:
        embedded = [embed_catalogue(encoder, catalogue, split, progress=progress) for encoder in encoders]
    rows = CatalogueRows(catalogue.split(split), (), encoders[0].template, encoders[0].transform)
    chosen = some_of(rows.product_count, queries)
    best = {encoder.name: _best_images(item, chosen) for encoder, item in zip(encoders, embedded, strict=True)}
    return retrieved_of(rows, list(map(int, rows.product_starts)), chosen, best)


def selection_rows(
    encoder: Encoder, catalogue: Catalogue, split: str, products: int, reference: Encoder | None = None, block: int = -1
) -> list[SelectionRow]:
    """Maps and selected patches of a fusion block, by default the last, for random products' first views (seed 0).

    ``reference`` is a CLIP whose attention from CLS to the patches is added, its two highest patches framed.
    """
    subjects = _subjects(encoder, catalogue, split, products)
    heatmaps = attention_heatmaps(reference, subjects.images) if reference else None
    return selections_of(encoder, subjects, heatmaps)[block]


def _subjects(encoder: Encoder, catalogue: Catalogue, split: str, products: int) -> Subjects:
    """Random products of a split (seed 0)."""
    columns = [entity.column for entity in encoder.entities]
    rows = CatalogueRows(catalogue.split(split), columns, encoder.template, encoder.transform)
    return subjects_of(rows, catalogue.split(split), encoder.entities, products)


def attention_heatmaps(encoder: Encoder, images: Sequence[torch.Tensor]) -> list[Heatmap]:
    """The attention of CLS in any CLIP or E2 for decoded images (3, H, W), with the two highest patches."""
    squares = torch.stack([encoder.transform(image) for image in images])
    pixels = normalize(squares.to(encoder.model.device), encoder.transform.mean, encoder.transform.std)
    with evaluating(encoder.model):
        heat = attention_map(encoder.model, pixels)[0].cpu()
    shown = rearrange(squares.numpy(), "b channels height width -> b height width channels", channels=3)
    return [
        Heatmap(image, values.numpy(), values.topk(min(2, len(values))).indices.tolist())
        for image, values in zip(shown, heat, strict=True)
    ]


def _best_images(embedded: EmbeddedSplit, queries: Sequence[int]) -> list[BestImages]:
    """:func:`best_images` for these products' first texts among the first images of all products."""
    images, texts = embedded.first_images, embedded.first_texts
    group = embedded.text_group[texts]
    query_embeds = embedded.text_embeds[texts[list(queries)]]
    return best_images(embedded.image_embeds[images], query_embeds, group, group[list(queries)])


def keep_records(results: Path, records: Sequence[ResultRecord], model: str = "") -> str:
    """Append records and return their tables; for records of the run ``model`` its report is updated."""
    append_records(results, records)
    run = RunFolder(Path(model))
    if run.config.is_file() and run.results == results:
        write_tables(read_records(results), run.report)
    return f"{len(records)} records appended to {results}\n\n" + write_tables(records)


def report(sources: Sequence[Path], output: Path | None = None) -> str:
    """Tables from the records of several run folders or files, written to ``output`` with figures of probes next to it.

    Raises:
        E2FashionError: no sources, or one without records.
    """
    if not sources:
        raise E2FashionError("report takes run folders or results.jsonl files and output=<file.md>; got none.")
    records: list[ResultRecord] = []
    for source in sources:
        file = RunFolder(source).results if source.is_dir() else source
        if not file.is_file():
            raise E2FashionError(f"'{source}' holds no records: {file} does not exist. Run `e2fashion evaluate` first.")
        records += read_records(file)
    tables = write_tables(records, output)
    return tables + add_probe_figures(records, output) if output else tables
