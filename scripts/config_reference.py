"""Write ``docs/configuration.md`` from the commands and their dataclasses: every key, its type, default and meaning.

Command: ``python -m scripts.config_reference`` (``--check`` only says whether the page is up to date).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from e2fashion.commands import COMMANDS
from e2fashion.data.sources import SOURCES
from e2fashion.settings import Setting, class_doc, settings_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
HEADER = """# Configuration

Made by `python -m scripts.config_reference` from the dataclasses of the commands and of the sources; a test
compares the two. `e2fashion <verb> --help` shows the same on the terminal.

A configuration is a YAML file. It may name `base: [files relative to it]`: bases are merged in order, then the file,
then the `key=value` arguments of the command line. Everything is checked against the schema before work begins; a
misspelt key is an error that suggests the right one. Mappings are merged: to remove an entity or a stage write `null`
for it (`model.entities.season=null`), to remove all of them `{}`. Values with blanks or braces need the shell's quotes:
`"text.template={brand} . {description}"`.

Where a key is text, a list of texts or the value of a tag, in a file or on the command line, the value is what is
written: `where.size=010`, `"where.brand=Line #9"`, `missing_values=[no,NA,~]`. Quotation marks around a whole text or
item of a list may be used, to hold a comma or a blank at an end; `null` is null where the key allows it. `${key}`
refers to another key in files alone. All other values are YAML. A path with `=` in it is a path if it exists or has a
`/` before the `=` (`./a=b.jpg`).

Source of a default: **paper** (Qi, Zhao, Li, NeurIPS 2024), **official code** (the authors' public code), **CLIP**
(OpenAI's model), **DeCap** and **CapDec** (captioning), **field** (how others evaluate); none stated: ours. Defaults
are those of the schema; the files in `configs/` set what a run needs, `configs/train/_paper.yaml` the published recipe.
"""


def page() -> str:
    """The whole page."""
    parts = [HEADER]
    for config, group in groupby(COMMANDS.values(), key=lambda command: command.config):
        commands = list(group)
        link = f" ([{commands[0].page}]({commands[0].page}))" if commands[0].page else ""
        usage = " and ".join(f"`e2fashion {command.usage}`" for command in commands)
        names = ", ".join(command.name for command in commands)
        parts += [f"## {names}\n", f"{usage}{link}\n", f"{markdown(class_doc(config))}\n", _table(settings_of(config))]
    parts += ["## Options of the sources\n", "They are further keys of `data prepare`, without a prefix.\n"]
    for name in sorted(SOURCES):
        source: Any = SOURCES[name]
        parts += [f"### {name}\n", f"{markdown(class_doc(source))}\n", _table(settings_of(source))]
    return "\n".join(parts)


def markdown(text: str) -> str:
    """A docstring as Markdown: literals between single backticks, pages of ``docs`` as links."""
    return re.sub(r"docs/(\w+\.md)(#[\w-]+)?", r"[\1](\1\2)", text.replace("``", "`"))


def _table(settings: Iterable[Setting]) -> str:
    lines = ["| key | type | default | meaning | source |", "|---|---|---|---|---|"]
    for item in settings:
        cells = (f"`{item.path}`", item.type, item.default, markdown(item.meaning), item.source)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or compare it with ``--check``."""
    content = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == content
        print(f"{PAGE} is {'up to date' if current else 'out of date: run python -m scripts.config_reference'}")
        return 0 if current else 1
    PAGE.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
