# SPDX-License-Identifier: Apache-2.0
"""Processes that cannot meet say why, each in one line."""

import contextlib
import signal
import socket
import time

import pytest
import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from tests.datasets import write_dataset
from tests.trainer.distribution.test_replicated_runs import finish, flags, start
from trainer.distribution.agreement import encoded
from trainer.distribution.local_ports import lend_ports
from trainer.distribution.rendezvous import answers, as_lost_peer, check_port
from trainer.loop.plan import ConfigSource, read_data
from trainer.loop.stated import stated


def test_a_port_in_use_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert answers(address)
        with pytest.raises(UsageError, match=rf"listen on {address}.*in use.*another"):
            check_port(address)
    assert not answers(address)
    check_port(address)


def test_a_lost_peer_is_told_from_other_errors():
    text = (
        "Graph execution error:\n\n stack\nCollective ops is aborted by: Socket closed"
    )
    line = str(as_lost_peer(tf.errors.UnavailableError(None, None, text)))
    assert line.startswith("wanted all processes of the run to answer")
    assert "found one gone: Socket closed." in line and "\n" not in line
    assert as_lost_peer(tf.errors.ResourceExhaustedError(None, None, "memory")) is None


def start_two(dataset, runs, more=(), only=(0, 1), ports=None):
    hosts = [f"127.0.0.1:{port}" for port in ports or lend_ports(2)]
    return [
        start(
            "trainer.task",
            [*flags(dataset, runs[index]), *more],
            {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}},
        )
        for index in only
    ]


@pytest.mark.slow
def test_a_worker_alone_names_the_peer_that_does_not_answer(dataset, tmp_path):
    more = ["--connect_timeout", "4"]
    runs = [tmp_path / "run"] * 2
    alone = [start_two(dataset, runs, more, only=[index])[0] for index in (0, 1)]
    statuses, errors = finish(alone)
    assert statuses == [1, 1], errors
    for index in (0, 1):
        last = errors[index].splitlines()[-1]
        assert last.startswith("error: wanted all 2 processes to meet within 4 s")
        assert f"worker {1 - index} at 127.0.0.1:" in last


@pytest.mark.slow
def test_a_peer_that_greets_and_never_connects_is_not_waited_for(dataset, tmp_path):
    more = ["--connect_timeout", "4"]
    ports = lend_ports(2)
    run, addresses = tmp_path / "run", [f"127.0.0.1:{port}" for port in ports]
    pairs = tuple(each for each in flags(dataset, run) if "=" in each)
    data, config = read_data([str(dataset)], None, ConfigSource("tiny", None, pairs))
    statement = {
        "--strategy": "multi_worker",
        "cluster of TF_CONFIG": str(
            {f"worker {index}": each for index, each in enumerate(addresses)}
        ),
        "devices": "a CPU",
        "--collectives": "ring",
        **stated(
            config, data.hash, str(run), {"--profile": "none", "--init_from": "none"}
        ),
    }
    [process] = start_two(dataset, [run] * 2, more, [0], ports)
    greeted = b""
    while not greeted and process.poll() is None:
        time.sleep(0.05)
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", ports[0])) as connection,
        ):
            connection.sendall(encoded("worker 1", statement))
            greeted = connection.recv(2)
    statuses, errors = finish([process])
    assert greeted == b"go"
    assert statuses == [-signal.SIGKILL]
    last = errors[0].splitlines()[-1]
    assert last.startswith("error: wanted all 2 processes to meet within 4 s")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        (["data.global_batch_size=7"], "data.global_batch_size"),
        (["data.sequence_length=63"], "sequence_length that divides"),
    ],
)
def test_what_cannot_be_is_refused_by_every_worker(dataset, tmp_path, pairs, wanted):
    more = ["--set", *pairs]
    statuses, errors = finish(start_two(dataset, [tmp_path / "run"] * 2, more))
    assert statuses == [2, 2], errors
    for each in errors:
        assert wanted in each.splitlines()[-1]


@pytest.mark.slow
def test_a_changed_manifest_is_refused_by_every_worker(dataset, tmp_path):
    run, other = tmp_path / "run", write_dataset(tmp_path / "other", seed=5)
    statuses, errors = finish(start_two(dataset, [run] * 2))
    assert statuses == [0, 0], errors
    statuses, errors = finish(start_two(other, [run] * 2))
    assert statuses == [2, 2], errors
    for each in errors:
        assert "is another" in each.splitlines()[-1]


@pytest.mark.slow
def test_a_directory_that_is_no_dataset_is_refused_by_every_worker(tmp_path):
    statuses, errors = finish(start_two(tmp_path, [tmp_path / "run"] * 2))
    assert statuses == [2, 2], errors
    for each in errors:
        assert "found no manifest.json" in each.splitlines()[-1]
