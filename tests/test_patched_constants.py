# SPDX-License-Identifier: Apache-2.0
"""No test sets a constant of our modules anew: a worker process would not see it.

What a test wants otherwise is an argument, or a field of what is handed to workers.
"""

import ast
import re

import pytest

from tests.test_house_rules import ROOMS, name, python_files

CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]+")
# `setattr` of monkeypatch or of Python, `patch` and `patch.object` of mock.
SETTERS = ("setattr", "patch", "object")


def patched(code):
    """Yields the constants of our modules that a test's code sets, as it names them."""
    whole = ast.parse(code)
    ours = set(own_modules(whole))
    for node in ast.walk(whole):
        if isinstance(node, ast.Assign):
            parts = [part for target in node.targets for part in ast.walk(target)]
            paths = [ast.unparse(part) for part in parts if is_set(part)]
        elif isinstance(node, ast.Call) and called(node) in SETTERS:
            paths = list(path_of(*node.args[:2]))
        else:
            continue
        for path in paths:
            owner, *_, constant = path.split(".")
            if owner in ours and CONSTANT.fullmatch(constant):
                yield path


def own_modules(whole):
    """Yields the names under which a file knows our rooms and what is in them."""
    yield from ROOMS
    for node in ast.walk(whole):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ROOMS:
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname and alias.name.split(".")[0] in ROOMS:
                    yield alias.asname


def is_set(part):
    return isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)


def called(node):
    return getattr(node.func, "attr", getattr(node.func, "id", None))


def path_of(owner=None, attribute=None):
    """Yields "a.b.NAME" of what is set: of ("a.b.NAME", …) or of (a.b, "NAME", …)."""
    if isinstance(owner, ast.Constant) and "." in str(owner.value):
        yield owner.value
    elif isinstance(attribute, ast.Constant) and owner is not None:
        yield f"{ast.unparse(owner)}.{attribute.value}"


def test_no_test_sets_a_constant_of_our_modules():
    found = {
        f"{name(path)} {constant}"
        for path in python_files("tests")
        for constant in patched(path.read_text(encoding="utf-8"))
    }
    assert not found


IMPORTS = """
from pipelines.job import plan
from preprocessing.reading.jsonl import JsonLines
"""


@pytest.mark.parametrize(
    "code",
    [
        "monkeypatch.setattr(plan, 'TASK_BYTES', 1)",
        "patch.setattr('preprocessing.contracts.prompt_limits.MAX_NEW_TOKENS', 70)",
        "setattr(plan, '_HUGE_BYTES', 1)",
        "setattr(JsonLines, 'FEW_LINES', 1)",
        "monkeypatch.setattr(plan.storage, 'BLOCK_BYTES', 1)",
        "mock.patch('pipelines.job.plan.TASK_BYTES', 1)",
        "mock.patch.object(plan, 'TASK_BYTES', 1)",
        "plan.TASK_BYTES = 1",
        "plan.TASK_BYTES, plan.SHARD_BYTES = before",
        "def test():\n    import preprocessing.reading.jsonl as own\n    own.MOST = 1",
    ],
)
def test_every_way_to_set_a_constant_is_found(code):
    assert [*patched(IMPORTS + code)]


@pytest.mark.parametrize(
    "code",
    [
        "monkeypatch.setattr(plan, 'read', lambda: b'')",
        "monkeypatch.setattr('sys.argv', ['quern-prepare'])",
        "monkeypatch.setattr(os, 'O_CLOEXEC', 0)",
        "monkeypatch.setenv('AWS_DEFAULT_REGION', REGION)",
        "other.model.MODEL_URL = path",
        "SMALL = plan.PlanSizes(task_bytes=plan.SIZES.task_bytes)",
        "tables[plan.SIZES] = 1",
    ],
)
def test_what_sets_no_constant_of_ours_is_left_alone(code):
    assert not [*patched(IMPORTS + code)]
