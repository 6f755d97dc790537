# SPDX-License-Identifier: Apache-2.0
"""Labels show what they were moved to, whoever else moves some, and find the way back.

`models.config` is read by the messages of tensorflow-serving-api.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError
from tests.trainer.labels.trees import make_model
from trainer import export
from trainer.labels import label_tree
from trainer.labels.label_history import LabelMove, read_moves, shown_before
from trainer.labels.labels import labels_of, promote, rollback

ROOT = Path(__file__).parents[3]
# One of four that move labels of two models at once; tells what it moved.
MOVER = """
import random, sys
from preprocessing.foundation.commands import UsageError
from trainer.labels.labels import promote, rollback
models, seed = sys.argv[1], int(sys.argv[2])
draw = random.Random(seed)
print("ready", flush=True)
sys.stdin.readline()
for turn in range(5):
    path = f"{models}/{draw.choice('ab')}"
    label = draw.choice(["stable", f"own-{seed}"])
    try:
        if turn == 4:
            shown = rollback(path, label)
        else:
            shown = promote(path, draw.randint(1, 4), label)
    except UsageError as error:
        print("refused", error)
    else:
        print("moved", path[-1], label, shown.before, shown.version)
"""
# Killed at its nth name that is published, before or after.
KILLED = """
import os, signal, sys
from trainer.labels.labels import promote
path, moment = sys.argv[1], int(sys.argv[2])
replace, done = os.replace, []
def killing(source, target):
    done.append(target)
    if len(done) * 2 == moment + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if len(done) * 2 == moment:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = killing
promote(path, 2)
"""


def served(models: str) -> dict[str, tuple[dict[str, int], list[int]]]:
    """Returns model -> (labels, versions), as a server reads them."""
    text = storage.read_bytes(storage.join(models, "models.config")).decode()
    found = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    return {
        model.name: (
            dict(model.version_labels),
            sorted(model.model_version_policy.specific.versions),
        )
        for model in found
    }


def test_a_label_moves_and_finds_its_way_back(tree):
    path = make_model(tree, "quern", 1, 2, 3)
    for version in (1, 2, 3):
        shown = promote(path, version)
        assert shown.version == version and shown.before == (version - 1 or None)
        assert served(tree) == {"quern": ({"stable": version}, [version])}
    promote(path, 2, "canary")
    assert served(tree)["quern"] == ({"stable": 3, "canary": 2}, [2, 3])
    assert rollback(path).version == 2
    assert served(tree)["quern"] == ({"stable": 2, "canary": 2}, [2])
    assert rollback(path).version == 1
    assert labels_of(tree, "quern") == {"stable": 1, "canary": 2}
    assert labels_of(tree, "other") == {}
    with pytest.raises(UsageError, match="showed before 1, found none"):
        rollback(path)
    with pytest.raises(UsageError, match="found it on none"):
        rollback(path, "other")
    names = storage.list_names(tree)
    assert "batching.config" in names and "monitoring.config" in names
    assert label_tree.CLAIM_NAME not in names


def test_settings_are_written_once_and_then_left_alone(tmp_path):
    path = make_model(str(tmp_path), "quern", 1, 2)
    promote(path, 1)
    folder = Path(__file__).parents[3] / "deploy" / "serving"
    for name in ("batching.config", "monitoring.config"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
        (tmp_path / name).write_text("ours")
    promote(path, 2)
    assert (tmp_path / "batching.config").read_text() == "ours"
    assert (tmp_path / "monitoring.config").read_text() == "ours"


def test_a_model_is_served_beside_the_others(tmp_path):
    for name in "abc":
        make_model(str(tmp_path), name, 1)
    promote(str(tmp_path / "a"), 1, served_at="/models/a")
    promote(str(tmp_path / "b"), 1)
    text = (tmp_path / "models.config").read_text()
    assert 'base_path: "/models/b"' in text
    with pytest.raises(UsageError, match="found /models/a in"):
        promote(str(tmp_path / "a"), 1, "other", served_at="/elsewhere")
    assert (tmp_path / "models.config").read_text() == text


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("saved_model.pb", None, "no saved_model.pb"),
        ("variables/variables.index", None, "no variables/variables.index"),
        ("variables/variables.data-00000-of-00001", None, "no variables/variables.d"),
        ("variables/variables.data-00000-of-00002", b"", "no .*-00001-of-00002"),
        ("variables/variables.data-00000-of-00001", b"v", "1 of 6 bytes of variab"),
        ("assets/tokenizer.json", None, "no assets/tokenizer.json"),
        ("assets.extra/tf_serving_warmup_requests", None, "no assets.extra/tf_serv"),
        ("assets/lineage.json", None, "no assets/lineage.json"),
        ("assets/lineage.json", b"{}", "found something else"),
    ],
)
def test_a_version_that_is_no_whole_release_is_never_shown(tmp_path, name, data, found):
    path = make_model(str(tmp_path), "quern", 1, 2)
    promote(path, 1)
    promote(path, 2)
    promote(path, 1)
    file = tmp_path / "quern" / "2" / name
    file.unlink() if data is None else file.write_bytes(data)
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=found):
        promote(path, 2)
    with pytest.raises(UsageError, match=found):
        rollback(path)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["promote", "T/quern", "--version", "7"], "version 7 of .*, found 1, 2"),
        (["promote", "T/other", "--version", "1"], "found none. Check the path"),
        (["promote", "T/quern", "--version", "1", "--label", "a b"], "'a b'. Change"),
        (["promote", "T/quern", "--version", "1", "--label", ""], "''. Change"),
        (["promote", "T/quern"], "--version"),
        (["promote", "T/quern", "--version", "1", "--base_path", "m"], "found m. Name"),
        (["promote", "s3://x", "--version", "1"], "Name the model"),
        (["rollback", "T/quern"], "found it on none"),
        (["prune", "T/quern", "--keep", "0"], "found 0"),
        (["prune", "T/foreign", "--keep", "1"], "no assets/lineage.json"),
        (["promote", "T/foreign", "--version", "2"], "no assets/lineage.json"),
        (["show", "T/foreign/2"], "no assets/lineage.json"),
        (["show", "T/quern/9"], "found neither"),
        (["list", "T/empty"], "found no version"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_changes(
    tmp_path, arguments, found
):
    make_model(str(tmp_path), "quern", 1, 2)
    (tmp_path / "empty").mkdir()
    for version in ("1", "2"):
        (tmp_path / "foreign" / version).mkdir(parents=True)
        (tmp_path / "foreign" / version / "saved_model.pb").touch()
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=found):
        export.main([x.replace("T/", f"{tmp_path}/") for x in arguments])
    assert everything(tmp_path) == before


@pytest.mark.parametrize("text", ["{}", "name: 1", "\xff"])
def test_a_models_config_of_another_tool_is_left_as_it_is(tmp_path, text):
    path = make_model(str(tmp_path), "quern", 1, 2)
    (tmp_path / "models.config").write_bytes(text.encode("latin-1"))
    before = everything(tmp_path)
    for arguments in (
        ["promote", path, "--version", "1"],
        ["rollback", path],
        ["prune", path, "--keep", "1"],
        ["list", str(tmp_path)],
    ):
        with pytest.raises(UsageError, match=r"models\.config.*move it away"):
            export.main(arguments)
    assert everything(tmp_path) == before


def everything(folder: Path) -> dict[str, bytes]:
    return {str(x): x.read_bytes() for x in folder.rglob("*") if x.is_file()}


@pytest.mark.slow
def test_twenty_moves_by_four_processes_at_once_lose_nothing(tree):
    for name in "ab":
        make_model(tree, name, 1, 2, 3, 4)
    code = [sys.executable, "-c", MOVER, tree]
    movers = [
        subprocess.Popen(
            [*code, str(seed)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    for mover in movers:
        assert mover.stdout.readline() == "ready\n", mover.stderr.read()
    for mover in movers:
        mover.stdin.write("\n")
        mover.stdin.flush()
    told = [mover.communicate()[0].splitlines() for mover in movers]
    assert [mover.returncode for mover in movers] == [0] * 4
    assert [len(lines) for lines in told] == [5] * 4
    lines = [line.split() for mine in told for line in mine]
    assert all(
        "showed before" in " ".join(x) or "on none" in " ".join(x)
        for x in lines
        if x[0] == "refused"
    )
    moved = [(*x[1:3], *map(as_number, x[3:])) for x in lines if x[0] == "moved"]
    for name, (labels, versions) in served(tree).items():
        assert set(versions) == set(labels.values())
        moves = read_moves(storage.join(tree, name))
        steps = [(name, x.label, x.before, x.version) for x in moves]
        # Each move that was told and changed something is in the history, once.
        told = Counter(x for x in moved if x[0] == name and x[2] != x[3])
        assert Counter(steps) == told
        for label, shown in labels.items():
            way = [x for x in moves if x.label == label]
            assert [x.before for x in way] == [None, *(x.version for x in way[:-1])]
            assert shown == way[-1].version


@pytest.mark.slow
def test_whenever_a_promotion_is_killed_the_file_is_one_of_the_two(tmp_path):
    """Its history and models.config: before and after each has its name."""
    seen = set()
    for moment in (1, 2, 3, 4):
        models = str(tmp_path / str(moment))
        path = make_model(models, "quern", 1, 2, 3)
        promote(path, 3)
        promote(path, 1)
        code = [sys.executable, "-c", KILLED, path, str(moment)]
        assert subprocess.run(code, cwd=ROOT, check=False).returncode == -9
        (shown,) = served(models)["quern"][0].values()
        seen.add((moment, shown))
        assert rollback(path).version == (3 if shown == 1 else 1)
        assert promote(path, 2).version == 2
        assert label_tree.CLAIM_NAME not in storage.list_names(models)
    assert seen == {(1, 1), (2, 1), (3, 1), (4, 2)}


def as_number(word: str) -> int | None:
    return None if word == "None" else int(word)


def test_who_writes_without_a_claim_loses_nothing_either(tree, monkeypatch):
    """A person's editor writes between what is read and what is written."""
    path = make_model(tree, "quern", 1, 2)
    promote(path, 1)
    config = storage.join(tree, "models.config")
    check, edits = label_tree.Claim.check, []

    def edited(claim):
        check(claim)
        if not edits:
            edits.append(storage.read_bytes(config) + b"# by hand\n")
            storage.write_atomically(config, edits[0])

    monkeypatch.setattr(label_tree.Claim, "check", edited)
    promote(path, 2)
    assert served(tree)["quern"] == ({"stable": 2}, [2])
    assert b"# by hand" in storage.read_bytes(config)
    assert [x.version for x in read_moves(path)] == [1, 2]

    def always(claim):
        text = storage.read_bytes(config)
        storage.write_atomically(config, text + b"#")

    monkeypatch.setattr(label_tree.Claim, "check", always)
    with pytest.raises(WorkError, match="changed by another program"):
        promote(path, 1)
    assert served(tree)["quern"] == ({"stable": 2}, [2])
    monkeypatch.undo()
    assert rollback(path).version == 1, "and what never was is not what was before"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["promote", "rollback", "killed"])), st.data())
def test_the_way_back_is_a_stack_whatever_was_killed_on_it(actions, data):
    """A killed one has written its line of the history and moved nothing."""
    moves, stack = [], []
    for action in actions:
        shown = stack[-1] if stack else None
        version = data.draw(st.sampled_from([x for x in range(4) if x != shown]))
        if action != "rollback":
            moves.append(LabelMove("a", shown, version, "promote", ""))
            stack += [version] if action == "promote" else []
        elif len(stack) > 1:
            moves.append(LabelMove("a", stack.pop(), stack[-1], "rollback", ""))
        moves.append(LabelMove("another", 1, 2, "promote", ""))
        if stack:
            assert shown_before(moves, "a", stack[-1]) == stack[:-1]


def test_what_a_person_moved_a_label_to_is_on_the_way_back():
    moves = [
        LabelMove("a", None, 1, "promote", ""),
        LabelMove("a", 1, 2, "promote", ""),
    ]
    assert shown_before(moves, "a", 5) == [1, 2]
    moves.append(LabelMove("a", 5, 6, "promote", ""))
    assert shown_before(moves, "a", 6) == [1, 2, 5]
    assert shown_before(moves, "b", 6) == []
