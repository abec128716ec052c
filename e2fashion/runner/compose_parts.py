"""What ``compose`` needs besides encoders: who captions the references, and the language model that rewrites them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.captioning.captioner import CaptionsPictures, NearestCaption
from e2fashion.tasks.captioning.loading import identity_of_encoder, load_captioner
from e2fashion.tasks.captioning.memory import MemoryEntry, distinct_entries, open_memory
from e2fashion.tasks.composed.arms import reads_captions
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.tasks.composed.language_model import Answers, LanguageModelComposer, load_language_model, save_answers
from e2fashion.text_files import read_list
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)


def memory_place(config: ComposeConfig) -> str | None:
    """The catalogue or text file that captions come from; None where there is none."""
    return config.memory or (config.data if config.task == "other_colour" else None)


def build_captioner(
    config: ComposeConfig, encoder: Encoder, arms: Sequence[str], folder: Path, progress: bool
) -> tuple[CaptionsPictures | None, dict[str, str]]:
    """Who tells the reference pictures, and from what; nobody where no arm asks or there is nothing to tell from."""
    if not any(reads_captions(arm) for arm in arms) or encoder.compares_tokens:
        return None, {}
    if config.decoder is not None:
        told = f"{config.reading} by the decoder {Path(config.decoder).name}"
        return load_captioner(config.decoder, encoder, config.reading), {"captioner": told}
    place = memory_place(config)
    if place is None:
        return None, {}
    file = Path(place)
    if file.is_file():
        texts = read_list(file, "a catalogue, or a text file with one caption a line")
        title = file.name
    else:
        catalogue = Catalogue.load(file)
        texts = catalogue_texts(catalogue, encoder)
        title = f"{catalogue.manifest.name} train"
    entries = distinct_entries(MemoryEntry(text, text) for text in texts)
    memory = open_memory(folder, entries, identity_of_encoder(encoder), encoder.embed_texts, progress)
    return NearestCaption(memory), {"memory": f"{len(entries):,} texts of {title}"}


def catalogue_texts(catalogue: Catalogue, encoder: Encoder) -> list[str]:
    """The texts of a catalogue's train split as the encoder read them in training, its tags included.

    Raises:
        E2FashionError: the catalogue lacks a column of the encoder's template.
    """
    encoder.template.validate(catalogue.tag_columns)
    columns = [*encoder.template.columns, "description"]
    rows = catalogue.split("train").select_columns(columns).to_dict()
    return [
        encoder.template.render({column: rows[column][row] for column in encoder.template.columns}, text or "")
        for row, text in enumerate(rows["description"])
    ]


def protected_phrases(config: ComposeConfig) -> list[str]:
    """The values of the protected column of the catalogue that captions come from, where it has that column."""
    place = memory_place(config)
    if place is None or Path(place).is_file():
        return []
    catalogue = Catalogue.load(place)
    if config.protect_column not in catalogue.tag_columns:
        return []
    return sorted({value for value in catalogue.split("train")[config.protect_column] if value and value.strip()})


def build_language_model(config: ComposeConfig, arms: Sequence[str]) -> tuple[LanguageModelComposer | None, str]:
    """The ``llm`` arm and what records call its model; nothing where the arm is not asked for."""
    if "llm" not in arms:
        return None, ""
    if config.lm is None and config.answers is None:
        raise E2FashionError(
            "the arm 'llm' needs a language model: lm=<folder or hub name>, or answers=<JSON file> made elsewhere"
        )
    ask = None if config.lm is None else load_language_model(config.lm, config.lm_tokens)
    answers = Answers(Path(config.answers or f"runs/compose/answers/{Path(config.lm or '').name}.json"), config.lm)
    return LanguageModelComposer(answers, ask), answers.model


def list_unanswered(composer: LanguageModelComposer, file: Path) -> None:
    """Write the questions that no answer was found to, ready to be filled in and given as ``answers=``."""
    if not composer.unanswered:
        return
    questions = Answers(file.with_name("none.json"), composer.answers.model)
    for question in composer.unanswered:
        questions.put(question, "")
    save_answers(file, composer.answers.model, questions.entries)
    logger.warning(
        f"{len(questions.entries)} questions have no answer in {composer.answers.path}; they fell back on the "
        f"instruction alone. {file} lists them, to be filled in"
    )
