# SPDX-License-Identifier: Apache-2.0
"""A run's numbers: `metrics.jsonl` and TensorBoard events, each step once.

    {"step", "loss", "learning_rate", "gradient_norm", "tokens_per_second", "mfu",
     "data_wait"}                                      per logged step
    {"step", "validation_loss", "bits_per_byte"}       per evaluation, and of a mixture
        "sources": {name: {"loss", "bits_per_byte", "tokens"}}

A number that is not finite is null, and "not_finite" says what it was, by its key.
TensorBoard also shows curves that are no part of that file, and text samples. Resuming
removes whatever lies past the restored step from both. A run in a bucket is kept in a
local directory and uploaded whenever a checkpoint is written.
"""

import dataclasses
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.protocol_buffers import read
from trainer.machine.tensorflow_messages import Event
from trainer.run.interval import Interval
from trainer.run.run_directory import METRICS_NAME

_EVENTS_PREFIX = "events.out.tfevents."


@dataclass(frozen=True)
class TrainingLine:
    """One line of training metrics.

    Attributes:
        step: the last step it covers.
        loss: cross-entropy in nats per target since the last line; None where every
            update was skipped.
        learning_rate: of the last step.
        gradient_norm: of the last step, before clipping; it may be NaN or infinite.
        tokens_per_second: row positions trained on per second, all devices together.
        mfu: model FLOP/s over the devices' peak; None where the peak is not known.
        data_wait: share of the time spent waiting for rows.
    """

    step: int
    loss: float | None
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    mfu: float | None
    data_wait: float


@dataclass(frozen=True)
class SourceLine:
    """One source of a mixture in a line of evaluation metrics; `tokens` are targets."""

    loss: float
    bits_per_byte: float | None
    tokens: int


@dataclass(frozen=True)
class EvaluationLine:
    """One line of evaluation metrics: nats per target, and bits per byte of text.

    `sources` has the same of each source of a mixture by name; a line of any other
    dataset is written without it.
    """

    step: int
    validation_loss: float
    bits_per_byte: float | None
    sources: Mapping[str, SourceLine] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """What turns rows and seconds into tokens per second and utilisation.

    Attributes:
        sequence_length: tokens of a row.
        flops_per_token: of the model, forward and backward.
        peak_flops: FLOP/s of all devices together; None if not known.
    """

    sequence_length: int
    flops_per_token: float
    peak_flops: float | None


def training_line(interval: Interval, speed: Speed) -> TrainingLine:
    """Returns the line for what happened since the last one."""
    tokens_per_second = interval.rows * speed.sequence_length / interval.seconds
    mfu = None
    if speed.peak_flops is not None:
        mfu = tokens_per_second * speed.flops_per_token / speed.peak_flops
    return TrainingLine(
        step=interval.step,
        loss=interval.loss_sum / interval.weight_sum if interval.weight_sum else None,
        learning_rate=interval.learning_rate,
        gradient_norm=interval.gradient_norm,
        tokens_per_second=tokens_per_second,
        mfu=mfu,
        data_wait=interval.wait_seconds / interval.seconds,
    )


class MetricsFiles:
    """The metrics of one run, open for more; the chief alone makes one."""

    def __init__(
        self,
        run: str,
        restored_step: int,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Opens the metrics of `run`, removing what lies past `restored_step`.

        `check` is called before something is written there; what it raises is raised.
        """
        self._run, self._check = run, check
        self._uploads = storage.is_cloud(run)
        self._directory = run
        if self._uploads:
            self._directory = tempfile.mkdtemp(prefix="quern-metrics-")
            _download(run, self._directory)
        truncate_lines(os.path.join(self._directory, METRICS_NAME), restored_step)
        truncate_events(self._directory, restored_step)
        self._writer = tf.summary.create_file_writer(self._directory)

    def append(
        self,
        line: TrainingLine | EvaluationLine,
        curves: Mapping[str, float] | None = None,
    ) -> None:
        """Writes one line to both files; `curves` are for TensorBoard alone."""
        if not self._uploads:
            self._check()
        values = dataclasses.asdict(line)
        sources = values.pop("sources", {})
        with open(os.path.join(self._directory, METRICS_NAME), "a") as file:
            written = {**values, "sources": sources} if sources else values
            told = strict_json.with_nulls(written)
            file.write(strict_json.dumps(told) + "\n")
        shown = {name: value for name, value in values.items() if name != "step"}
        for source, numbers in sources.items():
            shown[f"validation/{source}/bits_per_byte"] = numbers["bits_per_byte"]
        with self._writer.as_default(step=line.step):
            for name, value in {**shown, **(curves or {})}.items():
                if value is not None and math.isfinite(value):
                    tf.summary.scalar(name, value)
        self._writer.flush()

    def append_texts(self, step: int, texts: Sequence[str]) -> None:
        """Writes texts in Markdown for TensorBoard, as `samples/0` and so on."""
        with self._writer.as_default(step=step):
            for index, text in enumerate(texts):
                tf.summary.text(f"samples/{index}", text)
        self._writer.flush()

    def publish(self) -> None:
        """Puts what was written where a power cut, or this host's end, leaves it.

        Locally it waits for the disk, 2 to 30 ms; a run in a bucket is uploaded.
        """
        if not self._uploads:
            for name in _metrics_names(self._directory):
                storage.sync_file(os.path.join(self._directory, name))
            return
        self._check()
        names = _metrics_names(self._directory)
        for name in names:
            with (
                open(os.path.join(self._directory, name), "rb") as source,
                storage.atomic_file(storage.join(self._run, name)) as copy,
            ):
                shutil.copyfileobj(source, copy)
        # Events that were cut back on resume live on in a file of another name.
        for name in set(_metrics_names(self._run)) - set(names):
            storage.remove_file(storage.join(self._run, name))

    def close(self) -> None:
        """Writes out what is buffered."""
        self._writer.close()
        try:
            self.publish()
        finally:
            if self._uploads:
                shutil.rmtree(self._directory)


def is_evaluated(lines: Iterable[Mapping[str, Any]], step: int) -> bool:
    """Tells whether the evaluation of `step` is among the lines."""
    return any("validation_loss" in line and line["step"] == step for line in lines)


def read_lines(path: str) -> list[dict[str, Any]]:
    """Returns the lines of a `metrics.jsonl`, local or cloud; none if it is absent.

    A line that a killed process left unfinished ends the list.
    """
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        return []
    lines = []
    for line in data.split(b"\n")[:-1]:
        try:
            lines.append(strict_json.loads_measured(line))
        except ValueError:
            break
    return lines


def truncate_lines(path: str, step: int) -> None:
    """Drops the lines past `step` from a local file."""
    kept = [line for line in read_lines(path) if line["step"] <= step]
    text = "".join(strict_json.dumps(line) + "\n" for line in kept)
    storage.write_atomically(path, text.encode())


def truncate_events(directory: str, step: int) -> None:
    """Drops the events past `step`, gathering the kept ones in one new file.

    Events have no index to cut at, and a killed process may leave half a record, so
    all files are read and rewritten; a line of metrics takes about 400 bytes.
    """
    names = [n for n in sorted(os.listdir(directory)) if n.startswith(_EVENTS_PREFIX)]
    if not names:
        return
    # TensorBoard reads files by name: this one sorts before those written from now on.
    kept = f"{_EVENTS_PREFIX}{int(time.time()):010d}-kept"
    # A dict drops what a kill between renaming and unlinking left in two files.
    records = dict.fromkeys(
        record
        for name in names
        for record in _whole_records(os.path.join(directory, name))
        if read(Event, record).step <= step
    )
    temporary = os.path.join(directory, f".{kept}.tmp")
    with tf.io.TFRecordWriter(temporary) as writer:
        for record in records:
            writer.write(record)
    os.replace(temporary, os.path.join(directory, kept))
    for name in set(names) - {kept}:
        os.unlink(os.path.join(directory, name))


def _whole_records(path: str) -> list[bytes]:
    """Returns a file's records up to the first that is cut short."""
    records = []
    try:
        for record in tf.data.TFRecordDataset(path):
            records.append(record.numpy())
    except tf.errors.DataLossError:
        pass  # What a kill -9 left half-written is past the last checkpoint.
    return records


def _metrics_names(directory: str) -> list[str]:
    return [
        name
        for name in storage.list_names(directory)
        if name == METRICS_NAME or name.startswith(_EVENTS_PREFIX)
    ]


def _download(run: str, directory: str) -> None:
    for name in _metrics_names(run):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(storage.read_bytes(storage.join(run, name)))
