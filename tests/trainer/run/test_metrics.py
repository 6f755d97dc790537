# SPDX-License-Identifier: Apache-2.0
"""Lines of metrics: their numbers, and cutting them back to a step."""

import json
import math

import pytest
import tensorflow as tf

from trainer.compute.peak_flops import measured_cpu_flops, published_flops
from trainer.run.interval import Interval
from trainer.run.metrics import (
    EvaluationLine,
    MetricsFiles,
    SourceLine,
    Speed,
    is_evaluated,
    read_lines,
    training_line,
)

INTERVAL = Interval(
    step=20,
    loss_sum=30.0,
    weight_sum=12.0,
    gradient_norm=0.5,
    learning_rate=0.25,
    rows=40,
    seconds=8.0,
    wait_seconds=2.0,
    skipped=0,
)


def events(directory):
    """Yields all events, in the order in which TensorBoard reads them."""
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            yield tf.compat.v1.Event.FromString(record.numpy())


def scalars(directory):
    """Returns {(tag, step): value} of all events, refusing a pair seen twice."""
    found = {}
    for event in events(directory):
        for value in event.summary.value:
            key = (value.tag, event.step)
            assert key not in found
            found[key] = float(tf.make_ndarray(value.tensor))
    return found


def write(run, restored_step, steps):
    files = MetricsFiles(str(run), restored_step)
    for step in steps:
        line = training_line(
            Interval(**{**vars(INTERVAL), "step": step}), Speed(64, 1e6, None)
        )
        files.append(line)
        if step % 20 == 0:
            files.append(EvaluationLine(step, 2.5, 1.25))
    files.close()


def test_the_numbers_of_a_line_follow_from_rows_and_seconds():
    line = training_line(INTERVAL, Speed(64, flops_per_token=1e6, peak_flops=4e9))
    assert line.loss == 2.5
    assert line.tokens_per_second == 40 * 64 / 8
    assert line.mfu == 320 * 1e6 / 4e9
    assert line.data_wait == 0.25


def test_what_is_not_known_is_null_and_not_a_number():
    interval = Interval(
        **{
            **vars(INTERVAL),
            "weight_sum": 0.0,
            "loss_sum": 0.0,
            "gradient_norm": math.nan,
        }
    )
    line = training_line(interval, Speed(64, 1e6, None))
    assert (line.loss, line.mfu) == (None, None)


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_what_is_not_finite_is_null_with_a_note_and_no_point_of_a_curve(tmp_path):
    files = MetricsFiles(str(tmp_path), 0)
    interval = Interval(**{**vars(INTERVAL), "gradient_norm": math.inf})
    files.append(training_line(interval, Speed(64, 1e6, None)))
    sources = {"web": SourceLine(math.nan, math.inf, 10)}
    files.append(EvaluationLine(20, math.nan, math.nan, sources))
    files.close()
    trained, evaluated = strict((tmp_path / "metrics.jsonl").read_text())
    assert trained["gradient_norm"] is None
    assert trained["not_finite"] == {"gradient_norm": "Infinity"}
    assert evaluated == {
        "step": 20,
        "validation_loss": None,
        "bits_per_byte": None,
        "sources": {"web": {"loss": None, "bits_per_byte": None, "tokens": 10}},
        "not_finite": {
            "validation_loss": "NaN",
            "bits_per_byte": "NaN",
            "sources.web.loss": "NaN",
            "sources.web.bits_per_byte": "Infinity",
        },
    }
    assert {tag for tag, _ in scalars(tmp_path)} == {
        "loss",
        "learning_rate",
        "tokens_per_second",
        "data_wait",
    }


def test_lines_that_were_written_before_with_nan_are_kept_as_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    old = '{"step": 10, "validation_loss": NaN}\n{"step": 10, "loss": 2.0}\n'
    path.write_text(old)
    MetricsFiles(str(tmp_path), 10).close()
    assert strict(path.read_text()) == [
        {"step": 10, "validation_loss": None},
        {"step": 10, "loss": 2.0},
    ]
    assert is_evaluated(read_lines(str(path)), 10)


def test_lines_and_events_hold_the_same_numbers_under_the_contracts_names(tmp_path):
    write(tmp_path, 0, [10, 20])
    lines = read_lines(str(tmp_path / "metrics.jsonl"))
    names = "step loss learning_rate gradient_norm tokens_per_second mfu data_wait"
    assert list(lines[0]) == names.split()
    assert list(lines[2]) == ["step", "validation_loss", "bits_per_byte"]
    wanted = {
        (name, line["step"]): value
        for line in lines
        for name, value in line.items()
        if name != "step" and value is not None
    }
    assert scalars(tmp_path) == pytest.approx(wanted)
    assert [step for step in (10, 19, 20) if is_evaluated(lines, step)] == [20]


def test_a_mixtures_evaluation_has_a_curve_for_each_source(tmp_path):
    files = MetricsFiles(str(tmp_path), 0)
    sources = {"books": SourceLine(3.0, 1.5, 10), "code": SourceLine(2.0, None, 20)}
    files.append(EvaluationLine(20, 2.5, 1.25, sources))
    files.close()
    (line,) = read_lines(str(tmp_path / "metrics.jsonl"))
    assert line["sources"] == {
        "books": {"loss": 3.0, "bits_per_byte": 1.5, "tokens": 10},
        "code": {"loss": 2.0, "bits_per_byte": None, "tokens": 20},
    }
    assert scalars(tmp_path) == {
        ("validation_loss", 20): 2.5,
        ("bits_per_byte", 20): 1.25,
        ("validation/books/bits_per_byte", 20): 1.5,
    }


def test_a_resume_cuts_back_so_that_no_step_appears_twice(tmp_path):
    write(tmp_path, 0, [10, 20, 30, 40])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 50, "lo')  # what a kill leaves behind
    newest = next(tmp_path.glob("events.out.tfevents.*"))
    with open(newest, "ab") as file:
        file.write(b"half a record")
    write(tmp_path, 20, [30, 40, 50])
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == [10, 20, 30, 40, 50]
    found = scalars(tmp_path)
    assert [step for tag, step in found if tag == "loss"] == steps
    assert [step for tag, step in found if tag == "validation_loss"] == [20, 40]


def test_further_curves_and_texts_are_tensorboards_alone_and_cut_back_as_well(tmp_path):
    for restored, steps in ((0, (10, 20)), (10, (20,))):
        files = MetricsFiles(str(tmp_path), restored)
        for step in steps:
            at = Interval(**{**vars(INTERVAL), "step": step})
            files.append(training_line(at, Speed(64, 1e6, None)), {"guard/x": 3.0})
            files.append_texts(step, [f"text of {restored}"])
        files.close()
    lines = read_lines(str(tmp_path / "metrics.jsonl"))
    assert all("guard/x" not in line for line in lines)
    found = {
        (value.tag, event.step): tf.make_ndarray(value.tensor).item()
        for event in events(tmp_path)
        for value in event.summary.value
        if "/" in value.tag
    }
    assert found == {
        ("guard/x", 10): 3.0,
        ("guard/x", 20): 3.0,
        ("samples/0", 10): b"text of 0",
        ("samples/0", 20): b"text of 10",
    }


def test_a_device_that_is_not_in_the_table_has_no_known_peak():
    assert published_flops("NVIDIA A100-SXM4-80GB", "bfloat16") == 312e12
    assert published_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989.4e12
    assert published_flops("NVIDIA H100 PCIe", "float32") == 378e12
    assert published_flops("NVIDIA L40S", "bfloat16") == 362e12
    for unknown in ("NVIDIA L40", "NVIDIA GeForce RTX 4090", ""):
        assert published_flops(unknown, "bfloat16") is None


def test_a_cpus_peak_is_measured_within_reason():
    assert 1e8 < measured_cpu_flops("float32") < 1e14
