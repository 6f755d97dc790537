# SPDX-License-Identifier: Apache-2.0
"""The habits of the house, read off the syntax trees: who imports whom, and sizes."""

import ast
import functools
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ROOMS = ("preprocessing", "pipelines", "trainer")
FOLDERS = (*ROOMS, "tests", "deploy", "docs", ".ci")
TENSORFLOW = {"tensorflow", "tensorflow_io", "tensorflow_text", "keras", "tensorboard"}
# tests/benchmarks/requirements.txt: in environments of their own, never in this one.
PEERS = {"datatrove", "fasttext", "nltk", "spacy", "torch", "transformers"}
FORBIDDEN = {
    "preprocessing": {"apache_beam", "pipelines", "trainer", "tests"} | TENSORFLOW,
    "pipelines": {"tests"} | TENSORFLOW,
    "trainer": {"apache_beam", "pipelines", "tests"},
    "docs": {"apache_beam", "tests", *ROOMS} | TENSORFLOW,
    "tests": PEERS,
}
# The benchmarks' sides that run where a peer is installed.
PEER_SIDES = re.compile(r"_(torch|datatrove)\.py$")
# What others keep to themselves, or promise nobody, has one module that leans on it,
# and a test that says what breaks.
PRIVATE_NAMES = {
    "pipelines/beam/internals.py",  # of Apache Beam
    "preprocessing/foundation/commands.py",  # of argparse
    "trainer/compute/merge_call.py",  # of TensorFlow
}
LEANED_ON = {
    "apache_beam.portability": {"pipelines/beam/internals.py"},
    "apache_beam.runners": {"pipelines/beam/internals.py", "pipelines/beam/quiet.py"},
    "cloudpathlib": {"preprocessing/foundation/cloud_clients.py"},
    "google.protobuf": {"preprocessing/foundation/protocol_buffers.py"},
    # Writes NaN; reads it too, where users' lines may hold it in fields unasked for.
    "json": {
        "preprocessing/foundation/strict_json.py",
        "preprocessing/reading/jsonl.py",
        "preprocessing/duplicates/evaluation_texts.py",
        "pipelines/generation/prompt_files.py",
    },
    "tensorflow.python": set(),
}
MANGLED = {"trainer/machine/tensorflow_wheel.py"}  # names of C++ functions
# Python says what these are for.
DOCUMENTED = re.compile(r"__(?!internal__$)\w+__|_asdict|_fields|_replace|_exit")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FILE_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|base)(_|$)")
CLASS_NAMES = re.compile(
    r"(Manager|Factory|Helper|Container|Utils)$|^(Base|Abstract)[A-Z]"
)
UNFINISHED = re.compile(r"TODO|FIXME|XXX|NotImplementedError")
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|work)/")
HOSTS = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs")


def python_files(*folders):
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in files if "__pycache__" not in path.parts)


def text_files():
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    beside = (path for path in ROOT.iterdir() if path.name != ".git")
    files = (path for path in (*inside, *beside) if path.is_file())
    written = (path for path in files if "__pycache__" not in path.parts)
    return sorted(path for path in written if "testdata" not in path.parts)


def name(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache  # 140 MB, and seconds of each test
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def imports(node):
    """Yields (module, line) of each import anywhere under `node`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.module or "", child.lineno
            yield from ((f"{child.module}.{a.name}", child.lineno) for a in child.names)


def functions(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return (node for node in ast.walk(tree(path)) if isinstance(node, kinds))


SOURCES = python_files(*ROOMS)
WRITTEN = [*python_files(*FOLDERS), ROOT / "setup.py"]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_it_must_not_know(room):
    broken = {
        f"{name(path)}:{line} imports {module}"
        for path in python_files(room)
        if not PEER_SIDES.search(path.name)
        for module, line in imports(tree(path))
        if module.split(".")[0] in FORBIDDEN[room]
    }
    assert not broken


def comparisons(path):
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Compare))


def test_only_the_models_compare_families():
    broken = [
        f"{name(path)}:{node.lineno} {ast.unparse(node)}"
        for path in SOURCES
        if not name(path).startswith("trainer/models/")
        for node in comparisons(path)
        if any(
            isinstance(x, ast.Attribute) and x.attr == "family" for x in ast.walk(node)
        )
    ]
    assert not broken, "ask the model or its configuration"


def spells_a_path(node):
    """Whether an expression takes a path of attributes apart."""
    cuts = ("split", "rsplit", "partition", "rpartition", "startswith", "endswith")
    return any(
        (isinstance(x, ast.Attribute) and x.attr == "path")
        or (
            isinstance(x, ast.Call)
            and isinstance(x.func, ast.Attribute)
            and x.func.attr in cuts
            and any(isinstance(a, ast.Constant) and a.value == "/" for a in x.args)
        )
        for x in ast.walk(node)
    )


def test_no_decision_hangs_on_the_spelling_of_a_weights_path():
    broken = [
        f"{name(path)}:{node.lineno} {ast.unparse(node)}"
        for path in python_files("trainer")
        for node in comparisons(path)
        if spells_a_path(node)
        and any(
            isinstance(x, ast.Constant) and isinstance(x.value, str) and x.value != "/"
            for x in ast.walk(node)
        )
    ]
    assert not broken, "a weight says what it is for: trainer/models/parts/weights.py"


def private_names(path):
    """Yields (name, line) of each private name that is not the module's own."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own and not DOCUMENTED.fullmatch(node.attr):
                yield ast.unparse(node), node.lineno
        elif isinstance(node, ast.ImportFrom):
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            if any(part.startswith("_") and part != "__future__" for part in parts):
                yield f"from {node.module} import …", node.lineno


def test_private_names_of_others_are_used_in_one_module():
    found = {
        f"{name(path)}:{line} {text}"
        for path in SOURCES
        if name(path) not in PRIVATE_NAMES
        for text, line in private_names(path)
    }
    assert not found
    idle = [path for path in PRIVATE_NAMES if not list(private_names(ROOT / path))]
    assert not idle, "named above, and lean on nothing"


def test_tests_import_what_rooms_and_other_tests_offer_and_nothing_private():
    broken = {
        f"{name(path)}:{node.lineno} imports {alias.name} from {node.module}"
        for path in python_files("tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom)
        and node.module.split(".")[0] in (*ROOMS, "tests")
        for alias in node.names
        if alias.name.startswith(("_", "test_"))
    }
    assert not broken


def test_what_others_do_not_promise_is_leaned_on_in_one_module():
    found = {
        f"{name(path)}:{line} imports {module}"
        for path in SOURCES
        for module, line in imports(tree(path))
        for package, allowed in LEANED_ON.items()
        if f"{module}.".startswith(f"{package}.") and name(path) not in allowed
    }
    mangled = {
        name(path) for path in SOURCES if re.search(r"\b_ZN?\d", path.read_text())
    }
    assert not found and mangled == MANGLED


def test_imports_are_absolute_and_never_of_everything():
    broken = [
        f"{name(path)}:{node.lineno}"
        for path in WRITTEN
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom)
        and (node.level > 0 or any(alias.name == "*" for alias in node.names))
    ]
    assert not broken


def test_no_module_imports_itself_through_others():
    modules = {name(path)[:-3].replace("/", "."): path for path in SOURCES}
    graph = {
        module: {wanted for wanted, _ in imports(tree(path)) if wanted in modules}
        for module, path in modules.items()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")
    assert len(order) == len(modules)


def test_every_package_that_is_imported_is_asked_for_in_setup():
    asked = {Requirement(line).name for line in metadata.requires("quern") or ()}
    normal = {re.sub(r"[-_.]+", "-", package).lower() for package in asked}
    owners = metadata.packages_distributions()
    missing = set()
    for path in SOURCES:
        for module, line in imports(tree(path)):
            top = module.split(".")[0]
            names = {
                re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(top, ())
            }
            if names and "quern" not in names and not names & normal:
                missing.add(f"{name(path)}:{line} imports {top}")
    assert not missing


def test_files_are_one_thing_of_400_lines_at_most():
    lengths = {name(path): len(path.read_text().splitlines()) for path in WRITTEN}
    assert not {path: n for path, n in lengths.items() if n > MAX_FILE_LINES}


def test_functions_are_a_paragraph_of_60_lines_at_most():
    """Counted as the style notes do: without the docstring."""
    long = {}
    for path in WRITTEN:
        for node in functions(path):
            first, last = node.body[0], node.end_lineno
            start = node.lineno
            if ast.get_docstring(node) is not None:
                start += first.end_lineno - first.lineno + 1
            if last - start + 1 > MAX_FUNCTION_LINES:
                long[f"{name(path)}:{node.lineno} {node.name}"] = last - start + 1
    assert not long


def test_files_and_classes_are_named_for_what_they_are():
    files = [name(path) for path in WRITTEN if FILE_NAMES.search(path.stem)]
    classes = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in WRITTEN
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and CLASS_NAMES.search(node.name)
    ]
    assert not files and not classes


def test_the_name_of_a_class_says_which_one_it_is():
    """A name that two rooms or two folders use has to be told apart by its import."""
    places = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{name(path)}:{node.lineno}")
    assert not {each: found for each, found in places.items() if len(found) > 1}


def test_public_functions_and_classes_say_what_they_promise():
    silent = []
    for path in SOURCES:
        top = tree(path).body
        classes = [node for node in top if isinstance(node, ast.ClassDef)]
        public = [node for node in classes if not node.name.startswith("_")]
        methods = [method for node in public for method in node.body]
        for node in (*top, *methods):
            named = isinstance(node, (ast.FunctionDef, ast.ClassDef))
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{name(path)}:{node.lineno} {node.name}")
    assert not silent


def test_every_signature_is_typed():
    untyped = []
    for path in SOURCES:
        for node in functions(path):
            parameters = (
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
            )
            bare = [p.arg for p in parameters if p.annotation is None]
            bare = [arg for arg in bare if arg not in ("self", "cls")]
            if bare or (node.returns is None and node.name != "__init__"):
                untyped.append(f"{name(path)}:{node.lineno} {node.name}")
    assert not untyped


def test_no_keyword_arguments_are_passed_through():
    broken = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in functions(path)
        if node.args.kwarg is not None
    ]
    assert not broken


def test_no_broad_exception_is_swallowed():
    broken = [
        f"{name(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or ast.unparse(node.type) in ("Exception", "BaseException")
        )
        and all(isinstance(line, (ast.Pass, ast.Continue)) for line in node.body)
    ]
    assert not broken


def test_every_source_names_its_license_first():
    named = [
        p for p in text_files() if p.suffix in (".py", ".sh", ".slurm", ".Dockerfile")
    ]
    for path in (*named, ROOT / "Makefile", ROOT / ".ci" / "run"):
        first = path.read_text().splitlines()[:2]
        if path.name != "__init__.py":
            assert "# SPDX-License-Identifier: Apache-2.0" in first, name(path)


@pytest.mark.parametrize(
    ("what", "pattern"),
    [("unfinished", UNFINISHED), ("machine path", MACHINE), ("registry host", HOSTS)],
)
def test_no_text_holds_unfinished_work_or_traces_of_a_machine(what, pattern):
    found = []
    for path in set(text_files()) - {Path(__file__)}:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name(path)}:{number} {what}: {line.strip()[:80]}")
    assert not found


def test_the_tree_in_the_readme_has_one_line_for_each_folder():
    readme = (ROOT / "README.md").read_text()
    house = re.search(r"## The house\n.*?```text\n(.*?)```", readme, re.S)[1]
    listed, folders = {}, {}
    for line in house.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        entry, _, words = line.strip().partition(" ")
        folders[depth] = entry
        path = "".join(folders[level] for level in range(depth)) + entry
        listed[path] = words.strip()
    assert not [path for path, words in listed.items() if not words]
    written = [path for path in text_files() if not name(path).startswith(".git")]
    folders = {folder for path in written for folder in path.parents}
    on_disk = {f"{name(folder)}/" for folder in folders if ROOT in folder.parents}
    beside = {name(path) for path in written if path.parent == ROOT}
    found = {path for path in listed if path.endswith("/")}
    assert found == on_disk, "in the tree or on disk, but not in both"
    assert set(listed) - found == {path for path in beside if path[0] != "."}
