"""Every key of text-guided retrieval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.options import Computing, Preprocessing, formerly_text, joined_later, renamed
from e2fashion.tasks.captioning.config import Reading

Mode = Literal["image", "text", "sum", "concat", "slots", "llm"]
"""How a query embedding is made of an image and an instruction."""


LINE_COLUMNS = ("brand", "gender", "article_type")
"""Columns that define a product line where none are named."""


@dataclass
class ComposeConfig(Preprocessing, Computing):
    """Retrieval by an image and a text that says what shall differ, with one encoder or several."""

    model: list[str] = MISSING
    """Run folders, model folders, or hub names of CLIPs; the first is the baseline."""
    data: str = MISSING
    """``task=other_colour``: a prepared catalogue; ``fashion_iq``: the data set's folder."""
    task: Literal["other_colour", "fashion_iq"] = "other_colour"
    """Queries: another color of a product line, or FashionIQ's captions."""
    modes: list[Mode] = renamed("arms", "image", "text", "sum", "concat", "slots")
    """Query modes to measure: the reference ``image`` alone, the instruction (``text``) alone, the weighted ``sum`` of
    both embeddings, ``concat`` (caption, instruction), the caption rewritten by rules (``slots``) or by a language
    model (``llm``). Source: field."""
    similarity: Literal["global", "global+regions"] = joined_later("global")
    """``global+regions``: images, and texts with the tags that they name, are compared by the regional score too, also
    to caption references (``other_colour``; models without a stored weight of it keep the global score)."""
    name: list[str] | None = None
    """Names of the models in tables; null: their folders' names."""
    split: str | None = None
    """Split of the queries; null: test, of FashionIQ val. Source: field."""
    tuning_split: str | None = None
    """Split on which the weight of ``sum`` is chosen; null: val, of FashionIQ train."""
    both_orders: bool = True
    """Average the embeddings of both orders of two captions. Source: field."""
    weight: float | None = None
    """The image's share in ``sum``; null: chosen by the mean of R@10 and R@50."""
    weights: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    """The shares to choose from."""
    memory: str | None = None
    """Captions, of which the nearest describes a reference: the train split of a catalogue, or a text file with one
    caption per line; null: for ``other_colour`` the catalogue itself."""
    decoder: list[str] | None = None
    """Folders of ``caption train``, one per model, that caption the references; null: the nearest of ``memory``."""
    reading: Reading = "project"
    """How an image embedding enters the decoder, as in ``caption run``. Source: DeCap."""
    protect_column: str = "brand"
    """Column of the memory whose values (brands) the rule composer does not change."""
    lm: str | None = None
    """``llm``: folder or hub name of a causal language model of Transformers."""
    lm_tokens: int = 60
    """``llm``: the most tokens of an answer."""
    answers: str | None = None
    """``llm``: JSON file of answers; ``lm`` adds its answers to it, without ``lm`` it must exist."""
    line_columns: list[str] = formerly_text(*LINE_COLUMNS)
    """``other_colour``: columns that agree within a product line; of the default those that the catalogue has."""
    line_name: bool = True
    """``other_colour``: the description without names of colors agrees too."""
    colour_column: str = "colour"
    """``other_colour``: the column that differs."""
    instruction: str = "in {}"
    """``other_colour``: the text of a query; ``{}`` becomes the other color."""
    categories: list[Literal["dress", "shirt", "toptee"]] = formerly_text("dress", "shirt", "toptee")
    """``fashion_iq``: categories. Source: field."""
    galleries: list[Literal["original", "val"]] = formerly_text("original", "val")
    """``fashion_iq``: ``original`` (split files), ``val`` (references and targets). Source: field."""
    images: str | None = None
    """``fashion_iq``: folder of the images; null: ``images`` in ``data``."""
    tuning_triplets: int = 500
    """``fashion_iq``: train triplets of a category that choose the weight of ``sum``."""
    pad_aspect: float | None = 1.25
    """``fashion_iq``: longer images are padded to this ratio of sides; null: not padded. Source: field."""
    figure_queries: int = 6
    """Queries of the figure; 0: no figure."""
    figure_modes: list[Mode] = renamed("figure_arms", "slots")
    """Query modes of the figure."""
    resamples: int = 1000
    """Bootstrap resamples of the confidence intervals."""
    batch_size: int = 64
    """Images per step."""
    output: str | None = None
    """Folder of records, report, traces and figure; null: ``runs/compose/<task>``."""
