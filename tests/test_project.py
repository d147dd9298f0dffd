"""What the repository says of itself: its version, everywhere the same."""

import re
import tomllib

import yaml

import hsa
from hsa.files import REPOSITORY


def test_one_version_everywhere():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    newest, day = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changes, re.M)[0]
    assert newest == hsa.__version__ == project["version"] == citation["version"]
    assert day == str(citation["date-released"])
    assert f"`v{newest}`" in changes and f"[{newest}]: " in changes


def test_versions_in_the_changelog_fall():
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", changes, re.M)
    versions = [tuple(map(int, re.fullmatch(r"\[(.*)\] - .*", heading)[1].split("."))) for heading in headings]
    assert versions == sorted(set(versions), reverse=True)
