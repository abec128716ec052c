"""The site lists every page once, and its API page every public name."""

import re
from pathlib import Path

import pytest

import e2fashion

ROOT = Path(__file__).resolve().parents[1]
INDEX = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def listed() -> list[Path]:
    """The pages of all lists, without their ending."""
    lists = re.findall(r"^:::\{toctree\}\n(?:^:[^\n]*\n)*\n(.*?)^:::$", INDEX, re.MULTILINE | re.DOTALL)
    return [(ROOT / "docs" / name).resolve() for entries in lists for name in entries.split()]


def test_every_page_is_listed_once() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb"), *ROOT.glob("*.md")]
    names = [page.with_suffix("") for page in pages if page.name not in ("index.md", "README.md")]
    assert sorted(listed()) == sorted(names)


def test_the_site_reads_every_guide_at_the_root() -> None:
    configured = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert [
        page.stem for page in ROOT.glob("*.md") if page.name != "README.md" and f'"{page.stem}"' not in configured
    ] == []


def test_the_api_page_has_every_public_name() -> None:
    documented = re.findall(r"^\.\. auto\w+:: e2fashion\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(e2fashion.__all__)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    """Headings become anchors as on GitHub: lower case, without punctuation, hyphens for blanks."""
    for name, anchor in re.findall(r"\]\(([^)#\s:]*\.md)?#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        text = (page.parent / name if name else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in anchors, f"{page.name} links to {name}#{anchor}"
