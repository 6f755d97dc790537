# SPDX-License-Identifier: Apache-2.0
"""Using a release has one home: it knows no training, and pipelines know it alone."""

import ast

from tests.test_house_rules import functions, imports, name, python_files, tree

# The home of using a release, all of trainer that pipelines meet; and all that it
# knows of the rest of trainer: what a model promises.
SERVING = "trainer.serving"
KNOWN_TO_SERVING = ("trainer.serving", "trainer.models.language_model")


def within(module, packages):
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def test_pipelines_meet_a_release_only_through_its_home_and_inside_functions():
    """A type checker's imports apart: a driver never loads TensorFlow."""
    broken = []
    for path in python_files("pipelines"):
        whole = tree(path)
        apart = [n for n in ast.walk(whole) if isinstance(n, ast.If)]
        apart = [n for n in apart if ast.unparse(n.test) == "TYPE_CHECKING"]
        inside = {
            line for node in (*functions(path), *apart) for _, line in imports(node)
        }
        for module, line in imports(whole):
            allowed = within(module, [SERVING]) and line in inside
            if module.split(".")[0] == "trainer" and not allowed:
                broken.append(f"{name(path)}:{line} imports {module}")
    assert not broken


def test_the_home_of_using_a_release_knows_nothing_of_training():
    broken = {
        f"{name(path)}:{line} imports {module}"
        for path in python_files("trainer/serving")
        for module, line in imports(tree(path))
        if module.split(".")[0] == "trainer" and not within(module, KNOWN_TO_SERVING)
    }
    assert not broken
