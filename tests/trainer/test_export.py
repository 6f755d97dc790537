# SPDX-License-Identifier: Apache-2.0
"""The command as a user runs it, and what a release holds.

The first test trains a run of a few steps and exports it with --check, which reloads
the release through TensorFlow's C API in a process of its own: of a recurrent model,
since `tests/test_end_to_end.py` does so with a decoder.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from preprocessing.contracts.releases import (
    WARMUP_NAME,
    find_release,
    read_lineage,
    versions,
)
from preprocessing.contracts.signatures import SIGNATURES, STATE
from preprocessing.foundation.commands import UsageError, WorkError
from preprocessing.foundation.globs import literal_directory
from tests.releases import (
    SEQUENCE_LENGTH,
    tokenizer_of,
    untrained_run,
)
from tests.trainer.small_runs import small_run
from trainer import export, task
from trainer.batch_export.judged import measure_release, release_size
from trainer.data.input_pipeline import SubRows
from trainer.distribution.strategies import make_strategy
from trainer.distribution.workers import workers_of
from trainer.labels.whole_release import check_whole
from trainer.loop.evaluate_rows import byte_counts, make_evaluate
from trainer.release.card import model_card
from trainer.release.check_apart import check_apart
from trainer.step.layout import Layout
from trainer.step.model_with_values import as_it_is

pytestmark = pytest.mark.slow

STEPS = ["loop.total_steps=2", "loop.evaluate_every=0", "loop.log_every=1"]


@pytest.fixture(scope="module")
def release(shared_release):
    """An untrained decoder's release, by a path that TensorFlow takes for no glob."""
    with literal_directory(str(shared_release("decoder"))) as name:
        yield Path(name)


@pytest.mark.smoke
def test_a_release_answers_through_the_c_api_as_the_trainer_does(
    dataset, tmp_path, capfd
):
    run, models = str(tmp_path / "run"), str(tmp_path / "recurrent")
    small = ["model.family=recurrent", "model.d_model=32", *STEPS]
    task.main(small_run(dataset, run, *small))
    export.main(["--run", run, "--output", models, "--check"])
    printed = capfd.readouterr().out
    assert "loads with XLA off" in printed
    assert "answers 37 of 37 requests as the trainer did" in printed
    assert [*versions(models)] == [1]
    lineage = read_lineage(find_release(models))
    assert lineage.step == 2
    assert lineage.config["model"]["family"] == "recurrent"
    assert lineage.context is None
    assert lineage.run == "run" and lineage.training["rows"] == 16
    index = Path(run, "checkpoints/step-00000002/weights.index").read_bytes()
    assert lineage.checkpoint_sha256 == hashlib.sha256(index).hexdigest()
    lines = Path(run, "metrics.jsonl").read_text().splitlines()
    assert lineage.evaluation == json.loads(lines[-1]), "its last line"
    assert check_whole(find_release(models)) == lineage
    export.main(["show", models])
    assert capfd.readouterr().out == model_card(lineage)


def evaluated(dataset) -> float:
    """What quern-evaluate tells of `release`'s model and the validation split."""
    run = untrained_run(dataset, "decoder")
    evaluate = make_evaluate(
        as_it_is(run.model),
        workers_of(make_strategy("one_device")),
        Layout(4, 4, 1),
        byte_counts(tokenizer_of(run)),
    )
    rows = SubRows(str(dataset), run.manifest, "validation", SEQUENCE_LENGTH)
    found = evaluate(rows, lambda: None).bits_per_byte
    assert found is not None
    return found


def test_the_releases_own_bits_per_byte_are_the_trainers(dataset, shared_release):
    wanted, release = evaluated(dataset), shared_release("decoder")
    # The C API takes a path for a glob, as the rest of TensorFlow.
    found = measure_release(str(release), str(dataset), "validation", wanted)
    assert found.bits_per_byte == pytest.approx(wanted, abs=1e-4)
    assert (found.documents, found.odd_documents) == (20, 0)
    assert found.size == release_size(str(release))
    # All were measured; the memory is a process's own, and holds the release.
    assert len(found.metrics()) == 7 and min(found.metrics().values()) > 0
    assert found.peak_memory > found.size


def test_a_release_has_door_threes_layout(release, manifest):
    files = {str(path.relative_to(release)) for path in release.rglob("*.*")}
    assert {
        "saved_model.pb",
        "variables/variables.index",
        "assets/tokenizer.json",
        "assets/lineage.json",
    } <= files
    assert (release / WARMUP_NAME).stat().st_size > 0
    lineage = json.loads((release / "assets/lineage.json").read_text())
    assert lineage["dataset_hash"] == manifest.dataset_hash
    assert lineage["tokenizer_sha256"] == manifest.tokenizer_sha256


def test_the_signatures_of_a_release_are_those_of_the_table_row_by_row(release):
    found = {}
    for name, function in tf.saved_model.load(str(release)).signatures.items():
        inputs = function.structured_input_signature[1]
        outputs = function.structured_outputs
        found[name] = [
            {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in part.items()}
            for part in (inputs, outputs)
        ]
    cache = found["prefill"][1]  # as many tensors as the model has, a row each
    assert cache and all(shape[0] is None for _, shape in cache.values())
    wanted = {}
    for name, signature in SIGNATURES.items():
        taken = {e.name: (e.dtype, [None, *e.shape]) for e in signature.inputs}
        given = {
            e.name: (e.dtype, [None, *(32 if size == -1 else size for size in e.shape)])
            for e in signature.outputs
        }
        for state in signature.states:
            taken |= {key.replace(STATE, state): each for key, each in cache.items()}
            given |= cache
        wanted[name] = [taken, given]
    assert found == wanted


def test_weights_are_float32_and_nothing_is_a_table(release):
    loaded = tf.saved_model.load(str(release))
    weights = tf.train.list_variables(str(release / "variables" / "variables"))
    kept = [name for name, shape in weights if "model/" in name and shape]
    assert kept
    reader = tf.train.load_checkpoint(str(release / "variables" / "variables"))
    assert all(reader.get_tensor(name).dtype.name == "float32" for name in kept)
    graph = loaded.signatures["generate"].graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    assert not [node.op for node in nodes if "Table" in node.op]


def test_a_release_that_answers_otherwise_is_refused_and_named(release, tmp_path):
    copy = tmp_path / "copy"
    tf.io.gfile.makedirs(str(copy))
    subprocess.run(["cp", "-r", f"{release}/.", str(copy)], check=True)
    path = copy / "assets/lineage.json"
    lineage = json.loads(path.read_text())
    lineage["expected"]["serving_default"]["outputs"]["text"][1] = "something else"
    path.write_text(json.dumps(lineage))
    with pytest.raises(WorkError, match=r"'something else', .* not published"):
        check_apart(str(copy))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run", "nowhere"], "wanted a run"),
        (["--run", "nowhere", "--version", "0"], "from 1 to"),
        (["--run", "nowhere", "--verson", "1"], "Did you mean --version"),
    ],
)
def test_what_is_wrong_with_the_flags_is_said_before_work(flags, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        export.main([*flags, "--output", str(tmp_path / "models")])
    assert not versions(str(tmp_path / "models"))


def test_the_release_check_runs_without_tensorflows_python():
    code = "import trainer.check_release, sys; print('tensorflow' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False"]
