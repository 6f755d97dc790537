# SPDX-License-Identifier: Apache-2.0
"""quern-doctor: each judgement on literals, then the whole command as users run it."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from preprocessing.foundation.commands import WorkError
from tests.trainer.machine.recorded_gpus import ONE_H100
from trainer import doctor
from trainer.distribution.local_ports import lend_ports
from trainer.machine.tensorflow_probe import TensorflowProbe

HEALTHY = TensorflowProbe(
    version="2.16.2",
    import_error="",
    schemes=("", "s3", "az", "gs"),
    io_error="",
    text_error="",
    gpus=(),
    cuda=None,
)


def levels(findings):
    return {finding.what: finding.level for finding in findings}


@pytest.mark.parametrize(
    ("found", "level"),
    [("2.16.2", "ok"), ("2.21.0", "ok"), ("2.15.1", "fail"), ("", "fail")],
)
def test_a_version_is_judged_by_the_range_it_must_lie_in(found, level):
    assert doctor.judge_version("tensorflow", found, ">=2.16,<2.22").level == level


def test_every_package_setup_asks_for_gets_a_line():
    lines = levels(doctor.check_versions())
    assert {"python", "tensorflow", "apache-beam", "gigatoken"} <= lines.keys()
    assert "pytest" not in lines


def test_an_x86_cpu_without_avx_fails_and_an_unknown_one_does_not():
    assert doctor.judge_cpu(frozenset({"sse2"}), 2).level == "fail"
    assert doctor.judge_cpu(frozenset({"avx", "avx2"}), 2).level == "ok"
    assert doctor.judge_cpu(frozenset(), 2).level == "ok"


@pytest.mark.parametrize(("gib", "level"), [(1, "fail"), (3, "warn"), (8, "ok")])
def test_memory_is_judged_by_what_a_worker_needs(gib, level):
    assert doctor.judge_memory(gib << 30).level == level


def test_a_folder_that_is_missing_or_is_a_file_fails(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("absent", "file"):
        finding = doctor.judge_folder("TMPDIR", tmp_path / name)
        assert finding.level == "fail" and "TMPDIR" in finding.advice


def test_judging_a_folder_leaves_nothing_in_it(tmp_path):
    assert doctor.judge_folder("current directory", tmp_path).level != "fail"
    assert not list(tmp_path.iterdir())


def test_an_import_that_dies_is_the_only_line_about_tensorflow():
    probe = replace(HEALTHY, import_error="importing it killed the process")
    findings = list(doctor.judge_tensorflow(probe))
    assert levels(findings) == {"import tensorflow": "fail"}


def test_missing_native_file_systems_are_a_warning_that_says_who_needs_them():
    probe = replace(HEALTHY, version="2.21.0", schemes=("", "gs"))
    findings = list(doctor.judge_tensorflow(probe))
    assert levels(findings)["tensorflow-io ABI"] == "warn"
    advice = next(f.advice for f in findings if f.what == "tensorflow-io ABI")
    assert "TensorBoard" in advice


def test_cuda_is_tried_only_where_there_is_a_driver(monkeypatch):
    asked = []

    def probe(try_cuda):
        asked.append(try_cuda)
        return HEALTHY

    for driver in (None, ONE_H100):
        monkeypatch.setattr(doctor, "read_driver", lambda driver=driver: driver)
        told = [finding.what for finding in doctor.examine({}, probe)]
        assert ("gpu driver" in told) == (driver is not None) and "gpus" in told
    assert asked == [False, True]


def test_a_taken_port_is_named_and_a_free_one_is_not():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        taken = doctor.judge_ports("ports", [("127.0.0.1", port)])
    assert taken.level == "warn" and str(port) in taken.found
    assert doctor.judge_ports("ports", [("127.0.0.1", port)]).level == "ok"


def test_a_cluster_tells_its_own_port_and_which_peers_answer():
    with socket.socket() as peer, socket.socket() as spare:
        peer.bind(("127.0.0.1", 0))
        peer.listen()
        spare.bind(("127.0.0.1", 0))
        own, closed = f"127.0.0.1:{lend_ports(1)[0]}", _name(spare)
        tasks = [own, _name(peer), closed]
        task = {"type": "worker", "index": 0}
        config = json.dumps({"cluster": {"worker": tasks}, "task": task})
        port, *peers = doctor.judge_cluster(config)
        assert (port.what, port.level) == ("worker 0 port", "ok")
        assert [finding.level for finding in peers] == ["ok", "warn"]


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"cluster": {}}', '{"cluster": {"worker": ["nowhere"]}, '
               '"task": {"type": "worker", "index": 0}}']
)  # fmt: skip
def test_a_broken_tf_config_fails_and_shows_the_form_wanted(config):
    (finding,) = doctor.judge_cluster(config)
    assert finding.level == "fail" and "host:port" in finding.advice


def test_a_failed_check_is_named_by_the_error(capsys):
    findings = doctor.examine({"TF_CONFIG": "{"}, lambda try_cuda: HEALTHY)
    with pytest.raises(WorkError, match="found failing: TF_CONFIG"):
        doctor.tell(findings)
    assert "fail  TF_CONFIG" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.smoke
def test_the_command_reports_every_part_and_ends_well(tmp_path):
    command = [sys.executable, "-m", "trainer.doctor"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    for what in ("cpu", "memory", "TMPDIR", "import tensorflow", "tensorflow-text op"):
        assert any(line[6:].startswith(what) for line in lines), what


def _name(bound):
    return "{}:{}".format(*bound.getsockname())
