# SPDX-License-Identifier: Apache-2.0
"""The pages for people: short, all in the index, and nothing that they name is gone."""

import re
from pathlib import Path

import pytest

from tests.test_floors import FLOORS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(DOCS.glob("*.md")),
]
MAX_README_LINES = 200
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path from the root, wherever it stands; one with a gap (…) or a star ends before it.
PATH = re.compile(
    r"(?<![\w./-])(?:preprocessing|pipelines|trainer|tests|deploy|docs|\.ci)/"
    r"(?:[\w.-]*[\w]/?)*"
)
MODULE = re.compile(r"(?:-m |`)((?:preprocessing|pipelines|trainer|tests)(?:\.\w+)+)")
# The name of a file in this repository, by itself.
NAME = re.compile(r"`(\w[\w.-]*\.(?:py|md|sh|slurm|Dockerfile))`")
# What readers write themselves.
THEIRS = re.compile(r"my_")


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names() -> set[str]:
    folders = ("preprocessing", "pipelines", "trainer", "tests", "deploy", "docs")
    inside = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {path.name for path in (*inside, *ROOT.iterdir())}


def is_module(name: str) -> bool:
    """Whether a dotted name is a folder, a module, or something in one."""
    path = ROOT.joinpath(*name.split("."))
    files = (path.with_suffix(".py"), path.parent.with_suffix(".py"))
    return path.is_dir() or any(file.is_file() for file in files)


def test_the_readme_has_200_lines_at_most():
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_the_index_of_the_docs_names_every_page_in_one_line():
    named = re.findall(r"^\| \[(\S+\.md)\]\(\1\) \| .+ \|$", index(), re.M)
    there = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert len(named) == len(set(named)) and set(named) == there


def index() -> str:
    return (DOCS / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_between_pages_leads_somewhere(page: Path):
    found = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    gone = [
        link for link in found if not (page.parent / link.partition("#")[0]).exists()
    ]
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_file_that_a_page_names_exists(page: Path):
    text = page.read_text()
    gone = {path for path in PATH.findall(text) if not (ROOT / path).exists()}
    gone |= {name for name in MODULE.findall(text) if not is_module(name)}
    there = names()
    gone |= {
        name
        for name in NAME.findall(text)
        if name not in there and not THEIRS.match(name)
    }
    assert not gone


@pytest.mark.parametrize("room", FLOORS)
def test_the_architecture_tells_the_folders_in_the_order_of_their_floors(room: str):
    page = (ROOT / "ARCHITECTURE.md").read_text()
    told = re.search(rf"## Rooms.*^\| `{room}/` \| ([\w., ]+) \|$", page, re.M | re.S)
    assert told is not None
    assert told[1].split(", ") == [folder for folder in FLOORS[room] if folder]


def test_the_pictures_of_the_readme_are_small():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", README.read_text())
    assert len(pictures) == 2
    assert all((ROOT / picture).stat().st_size <= 150_000 for picture in pictures)


def test_the_hooks_before_a_commit_are_what_make_check_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    before = re.findall(r"entry: \.venv/bin/(\w+)(?: (\w+))?", hooks)
    check = (ROOT / "Makefile").read_text().partition("\ncheck: ")[2]
    make = re.findall(
        r"^\t\$\(BIN\)/(\w+)(?: ([a-z]+)\b)?", check[: check.find("\n\n")], re.M
    )
    assert [name for name, _ in before] == [name for name, _ in make]
    assert "repo: local" in hooks and hooks.count("repo:") == 1
