# SPDX-License-Identifier: Apache-2.0
"""What each process of a run states before they connect, and where they differ.

Workers that differ in a rate train a model that belongs to neither; workers that differ
in when they log wait in different collectives for ever. So each states all of what they
have to share, as texts by name, to the first of them (`trainer.distribution.rendezvous`
says how), which compares and tells every other one.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

import preprocessing
import trainer
from preprocessing.foundation import strict_json

# A process's texts by the names of what they say, which people are to know.
Statement = Mapping[str, str]

# A name that a server of asynchronous training alone states.
SERVER = "server"
_ABSENT = "absent"
_MOST_NAMED = 8
_MOST_CHARACTERS = 160


def versions() -> dict[str, str]:
    """Returns what computes: Quern, by the SHA-256 of its code, and TensorFlow."""
    digest = hashlib.sha256()
    for package in (preprocessing, trainer):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return {
        "version of Quern": digest.hexdigest()[:12],
        "version of TensorFlow": tf.__version__,
    }


def disagreement(statements: Mapping[str, Statement]) -> str | None:
    """Says where statements differ and what each says there; None if nowhere.

    Args:
        statements: by the names of their processes, that of the first one first. A
            server of asynchronous training decides nothing and may leave names out.
    """
    names = dict.fromkeys(name for each in statements.values() for name in each)
    differing = []
    for name in names:
        values: dict[str, list[str]] = {}
        for task, statement in statements.items():
            if name in statement or not statement.get(SERVER):
                values.setdefault(statement.get(name, _ABSENT), []).append(task)
        if name != SERVER and len(values) > 1:
            said = [f"{_cut(value)} on {_few(at)}" for value, at in values.items()]
            differing.append(f"{name} {', '.join(said)}")
    if not differing:
        return None
    more = len(differing) - _MOST_NAMED
    named = [*differing[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
    return (
        f"wanted all {len(statements)} processes of the run to agree, found "
        f"{'; '.join(named)}. Start them all with the same flags, files and version"
    )


def encoded(task: str, statement: Statement) -> bytes:
    """Returns a process's name and statement as one line."""
    return (
        strict_json.dumps({"task": task, "statement": dict(statement)}).encode() + b"\n"
    )


def decoded(line: bytes) -> tuple[str, Statement]:
    """Reads what `encoded` gave; what greets with a name alone states nothing."""
    text = line.decode(errors="replace").strip()
    try:
        message = strict_json.loads(text)
        return str(message["task"]), dict(message["statement"])
    except (ValueError, KeyError, TypeError):
        return text, {}


def _cut(value: str) -> str:
    if len(value) <= _MOST_CHARACTERS:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()[:12]
    return f"{value[:_MOST_CHARACTERS]}… ({digest})"


def _few(tasks: list[str]) -> str:
    if len(tasks) <= 3:
        return " and ".join(tasks)
    return f"{tasks[0]} and {len(tasks) - 1} others"
