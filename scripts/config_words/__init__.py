"""What every key of the schema means and where its default comes from: the words of ``docs/configuration.md``.

One file per topic, each with ``SECTIONS`` (title, schema class, words before its table) and ``EXPLAINED`` (per key of a
class: meaning, source).
"""

from __future__ import annotations

from scripts.config_words import (
    captioning,
    catalogues,
    classification,
    comparing,
    composing,
    converting,
    exporting,
    measuring,
    run,
    searching,
)

HEADER = """# Configuration

Made by `python -m scripts.config_reference` from the schema in `e2fashion/schema/`; a test compares the two.

A configuration is a YAML file. It may name `base: [files relative to it]`: bases are merged in order, then the file,
then the `key=value` words of the command line. Everything is checked against the schema before work begins; a misspelt
key is an error that suggests the right one. Mappings are merged: to remove an entity or a stage write `null` for it
(`model.entities.season=null`), to remove all of them `{}`. Values are YAML; those with blanks or braces need the
shell's quotes: `"text.template={brand} . {description}"`.

Source of a default: **paper** (Qi, Zhao, Li, NeurIPS 2024), **code** (the authors' public code), **CLIP** (OpenAI's
model), **field** (how others evaluate), or **ours**. Defaults are those of the schema; the files in `configs/` set what
a run needs, `configs/train/_paper.yaml` the published recipe.
"""

TOPICS = (
    run,
    measuring,
    classification,
    captioning,
    catalogues,
    comparing,
    composing,
    exporting,
    converting,
    searching,
)

SECTIONS: tuple[tuple[str, type, str], ...] = tuple(section for topic in TOPICS for section in topic.SECTIONS)

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    owner: words for topic in TOPICS for owner, words in topic.EXPLAINED.items()
}
