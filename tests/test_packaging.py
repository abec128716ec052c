"""What a release states about itself agrees, and what builds it is pinned."""

import configparser
import re
from pathlib import Path

import e2fashion

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_is_written_once_and_has_a_changelog() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["metadata"]["version"] == "attr: e2fashion.__version__"
    released = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == e2fashion.__version__
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_actions_are_pinned_by_commit() -> None:
    """A sdist has no workflows."""
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        uses = re.findall(r"uses: (.*)", file.read_text(encoding="utf-8"))
        assert uses
        assert not [action for action in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v[\d.]+", action)]


def test_the_sdist_has_every_folder_that_tests_read() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    assert set(re.findall(r"^graft (\w+)$", manifest, re.MULTILINE)) == {
        *("configs", "docs", "experiments", "notebooks", "scripts", "tests")
    }
