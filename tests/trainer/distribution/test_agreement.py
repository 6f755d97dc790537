# SPDX-License-Identifier: Apache-2.0
"""Processes of a run that differ are all refused, before any of them trains."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets import write_dataset
from tests.trainer.distribution.test_replicated_runs import finish, start
from tests.trainer.small_runs import small_run
from trainer.distribution.agreement import (
    SERVER,
    decoded,
    disagreement,
    encoded,
    versions,
)
from trainer.distribution.local_ports import lend_ports
from trainer.loop.stated import keys, stated, stated_by_server
from trainer.run.config import RunConfig
from trainer.run.overrides import flattened
from trainer.run.rollback import Rollback, record

WORKERS = {"worker": 2}
SERVERS = {"chief": 1, "worker": 1, "ps": 1}
STATEMENTS = st.dictionaries(st.text(max_size=9), st.text(max_size=200), max_size=5)


@given(STATEMENTS, STATEMENTS)
@settings(max_examples=100, deadline=None)
def test_two_statements_agree_only_where_they_are_equal(one, two):
    one, two = [{k: v for k, v in s.items() if k != SERVER} for s in (one, two)]
    said = disagreement({"worker 0": one, "worker 1": two})
    assert (said is None) == (one == two)
    assert disagreement({"worker 0": one, "worker 1": dict(one)}) is None
    assert decoded(encoded("worker 1", two)) == ("worker 1", two)


def test_a_refusal_names_the_key_and_every_value_and_who_has_it():
    said = disagreement(
        {"worker 0": {"a": "1", "b": "2"}, "worker 1": {"a": "3", "b": "2"}}
    )
    assert said is not None and "\n" not in said
    assert "found a 1 on worker 0, 3 on worker 1." in said
    many = {f"worker {i}": {"a": str(i == 4)} for i in range(6)}
    assert "a False on worker 0 and 4 others, True on worker 4" in disagreement(many)


def test_a_process_of_another_version_that_greets_with_a_name_is_refused():
    name, said = decoded(b"worker 1")
    assert (name, said) == ("worker 1", {})
    refusal = disagreement({"worker 0": versions(), name: said})
    assert "version of Quern" in refusal and "absent on worker 1" in refusal


def test_a_server_need_not_know_what_it_does_not_compute():
    coordinator = stated(RunConfig(), "a hash", None, {"--profile": "none"})
    for config in (None, RunConfig()):
        server = stated_by_server(config)
        assert disagreement({"chief 0": coordinator, "ps 0": server}) is None
    older = {**stated_by_server(None), "version of Quern": "another"}
    assert disagreement({"chief 0": coordinator, "ps 0": older}) is not None


def test_every_key_of_a_configuration_is_shared_but_for_a_process_s_own():
    left_out = set(flattened(RunConfig())) - set(keys(RunConfig()))
    assert left_out == {
        "loop.watchdog_seconds",
        "compute.lanes",
        "compute.peak_flops",
    }
    loop = dataclasses.replace(RunConfig().loop, stop_after_step=7)
    assert keys(dataclasses.replace(RunConfig(), loop=loop)) != keys(RunConfig())


def test_rollbacks_that_leave_out_other_rows_are_told_apart(tmp_path):
    views = []
    for name, rows in (("one", (0, 8)), ("two", (8, 16))):
        run = tmp_path / name
        run.mkdir()
        record(str(run), Rollback(0, (rows,)), [])
        views.append(stated(RunConfig(), "hash", str(run), {}))
    refusal = disagreement(dict(zip(("worker 0", "worker 1"), views, strict=True)))
    assert refusal is not None and "rollbacks of --run 1 (" in refusal


def run_together(roles, flags):
    """Returns the statuses and last lines of processes with these flags, in order."""
    ports = iter(lend_ports(sum(roles.values())))
    cluster = {
        role: [f"127.0.0.1:{next(ports)}" for _ in range(count)]
        for role, count in roles.items()
    }
    tasks = [(role, index) for role, count in roles.items() for index in range(count)]
    processes = [
        start(
            "trainer.task",
            each,
            {"cluster": cluster, "task": {"type": role, "index": index}},
        )
        for (role, index), each in zip(tasks, flags, strict=True)
    ]
    statuses, errors = finish(processes)
    return statuses, [error.splitlines()[-1] for error in errors]


@pytest.mark.slow
def test_workers_with_other_keys_flags_and_data_are_all_refused(dataset, tmp_path):
    run, other = tmp_path / "run", write_dataset(tmp_path / "other", seed=5)
    pairs = ["optimizer.peak_learning_rate=0.02", "loop.log_every=3"]
    flags = [
        small_run(dataset, run),
        [*small_run(other, run, *pairs), "--profile", "2:3"],
    ]
    statuses, lines = run_together(WORKERS, flags)
    assert statuses == [2, 2], lines
    for line in lines:
        assert "peak_learning_rate 0.01 on worker 0, 0.02 on worker 1" in line
        assert "loop.log_every 10 on worker 0, 3 on worker 1" in line
        assert "--profile none on worker 0, 2:3 on worker 1" in line
        assert "dataset " in line
    assert not run.exists()


@pytest.mark.drill
def test_a_worker_that_would_train_alone_is_refused_with_the_others(dataset, tmp_path):
    flags = small_run(dataset, tmp_path / "run")
    each = [flags, [*flags, "--strategy", "one_device"]]
    statuses, lines = run_together(WORKERS, each)
    assert statuses == [2, 2], lines
    for line in lines:
        assert "--strategy multi_worker on worker 0, one_device on worker 1" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_servers_with_other_keys_are_refused_with_their_coordinator(dataset, tmp_path):
    run = tmp_path / "run"
    flags = [
        small_run(dataset, run, *pairs) for pairs in ([], ["optimizer.beta2=0.5"], [])
    ]
    statuses, lines = run_together(SERVERS, flags)
    assert statuses == [2, 2, 2], lines
    for line in lines:
        assert "optimizer.beta2 0.95 on chief 0 and ps 0, 0.5 on worker 0" in line
