# SPDX-License-Identifier: Apache-2.0
"""The folders of each room: who imports whom, how many modules, and what they say."""

import ast
import re

import pytest

from tests.test_house_rules import ROOMS, ROOT, imports, name, python_files, tree

# From the ground up: a folder imports only from those before it. What is beside the
# folders of a room are its commands, which nothing imports.
FLOORS = {
    "preprocessing": (
        "foundation",
        "claims",
        "web",
        "contracts",
        "tokenizer",
        "language",
        "reading",
        "rules.measures",
        "rules",
        "duplicates",
        "packing",
        "objectives",
    ),
    "pipelines": (
        "beam",
        "job",
        "curation",
        "duplicates",
        "prepare",
        "report",
        "inspect",
        "generation",
        "",
    ),
    "trainer": (
        "compute",
        "models.parts",
        "models",
        "published.families",
        "published",
        "serving.engine",
        "serving",
        "machine",
        "optimizers.update_rules",
        "optimizers",
        "data",
        "step",
        "run",
        "distribution",
        "release",
        "labels",
        "batch_export",
        "loop",
        "comparison",
        "",
    ),
}
MOST_MODULES = 20


def modules(room):
    return [path for path in python_files(room) if path.name != "__init__.py"]


def folder(path):
    """Returns where a module of a room lies, "" beside the folders."""
    return ".".join(path.relative_to(ROOT).parent.parts[1:])


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_has_a_floor(room):
    assert {folder(path) for path in modules(room)} == set(FLOORS[room])


@pytest.mark.parametrize("room", ROOMS)
def test_imports_between_folders_go_one_way(room):
    floors = FLOORS[room]
    places = {name(path)[:-3].replace("/", "."): folder(path) for path in modules(room)}
    broken = {
        f"{name(path)}:{line} imports {module}"
        for path in modules(room)
        for module, line in imports(tree(path))
        if module in places
        and floors.index(places[module]) >= floors.index(folder(path))
        and (places[module] != folder(path) or not folder(path))
    }
    assert not broken


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_holds_twenty_modules_at_most(room):
    counts = dict.fromkeys(FLOORS[room], 0)
    for path in modules(room):
        counts[folder(path)] += 1
    assert not {place: n for place, n in counts.items() if n > MOST_MODULES}


@pytest.mark.parametrize(
    "path", [p for p in python_files(*ROOMS) if p.name == "__init__.py"], ids=name
)
def test_a_folder_says_what_it_is_and_names_its_files(path):
    found = tree(path)
    assert len(found.body) == 1, "a docstring and nothing else"
    said = ast.get_docstring(found)
    assert said is not None and "\n\n" in said
    named = re.findall(r"^ +(\w+\.py) +\S", said, re.M)
    there = [p.name for p in path.parent.glob("*.py") if p.name != "__init__.py"]
    assert named == sorted(there)


def test_folders_of_tests_say_nothing():
    found = [path for path in python_files("tests") if path.name == "__init__.py"]
    assert found and all(path.stat().st_size == 0 for path in found)
