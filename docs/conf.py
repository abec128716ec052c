"""The site: pages of docs/, guides at the root, notebooks, and the public API from its docstrings.

The source folder is the repository, so that a link in a page is the same on the site and in the repository.
"""

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from e2fashion import __version__

os.environ["HF_HUB_OFFLINE"] = "1"  # of the notebooks' kernels, too

project = "e2fashion"
author = copyright = "The e2fashion authors"
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "notebooks/*.ipynb",
    *(f"{name}.md" for name in ("CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "MODEL_CARD", "SECURITY")),
]
exclude_patterns = [".*", "build", "catalogues", "configs", "e2fashion", "exports", "indexes", "runs", "tests"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).resolve().parents[1] / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = -1
nb_output_stderr = "remove"  # progress and warnings of libraries, with paths of the machine

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"e2fashion {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def _show_titles(app: Sphinx, page: str, source: list[str]) -> None:
    """Show the title of a page where a link has its file's name."""
    source[0] = re.sub(r"\[[\w/.]+\.(?:md|ipynb)\](?=\()", "[]", source[0])


def _allow_breaks(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let names and paths in narrow columns break behind their punctuation, not within a word."""
    if "body" in context:
        context["body"] = re.sub(
            r'(?<=<span class="pre">)[^<]+(?=</span>)',
            lambda code: re.sub(r"(?<=\w)([._/=,|]+)(?=\w)", r"\1<wbr>", code[0]),
            context["body"],
        )


def _redirect(app: Sphinx, exception: Exception | None) -> None:
    """Lead from the root of the site to its first page."""
    if exception is None and app.builder.format == "html":
        page = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html"><title>e2fashion</title>\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what Sphinx has no setting for."""
    app.connect("source-read", _show_titles)
    app.connect("html-page-context", _allow_breaks)
    app.connect("build-finished", _redirect)
