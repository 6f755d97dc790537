# SPDX-License-Identifier: Apache-2.0
"""A label that is in use moves under a running server without a gap.

The server below is no TensorFlow Serving: it takes a file as `ServerCore::ReloadConfig`
and `UpdateModelVersionLabelMap` of its server_core.cc do, which look at labels first,
and loads and unloads as its AvailabilityPreservingPolicy.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from preprocessing.foundation.commands import UsageError, WorkError
from tests.trainer.labels.trees import make_model
from trainer import export
from trainer.labels.labels import promote

LOADING_LOOKS = 3


class ServedModels:
    """What a server with --allow_version_labels_for_unavailable_models makes of a file.

    `gaps` are moments at which a request by a label found no version.
    """

    def __init__(self, path):
        self.path, self.bad = path, set()
        self.labels, self.wanted, self.states = {}, set(), {}
        self.refused, self.gaps = [], []

    def look(self):
        """Reads the file, and goes one look on with what it asks for."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return
        config = text_format.Parse(text, ModelServerConfig())
        for model in config.model_config_list.config:
            self.reload(model)
        for version in self.wanted:
            looks = self.states.get(version, 0)
            self.states[version] = looks if version in self.bad else looks + 1
        if any(map(self.loaded, self.wanted)):
            self.states = {v: n for v, n in self.states.items() if v in self.wanted}
        self.gaps += [x for x, v in self.labels.items() if not self.loaded(v)]

    def loaded(self, version):
        return self.states.get(version, 0) > LOADING_LOOKS

    def reload(self, model):
        for label, version in model.version_labels.items():
            used = self.labels.get(label, version) != version
            if used and not self.loaded(version):
                self.refused.append((label, version))
                return
        self.labels = dict(model.version_labels)
        self.wanted = set(model.model_version_policy.specific.versions)

    def status(self, version):
        if version not in self.states:
            return 404, {"error": f"Could not find version {version}"}
        state, code = "LOADING", "OK"
        if version in self.bad:
            state, code = "END", "DATA_LOSS"
        elif self.loaded(version):
            state = "AVAILABLE"
        told = {"error_code": code, "error_message": "broken"}
        found = {"version": str(version), "state": state, "status": told}
        return 200, {"model_version_status": [found]}


class Status(BaseHTTPRequestHandler):
    """GET /v1/models/quern/versions/N; each request is a look at the file as well."""

    def do_GET(self):  # the name that http.server calls
        name, version = self.path.removeprefix("/v1/models/").split("/versions/")
        assert name == "quern"
        with self.server.lock:
            code, found = self.server.served.status(int(version))
            self.server.served.look()
        body = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Says nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    running = ThreadingHTTPServer(("127.0.0.1", 0), Status)
    running.served = ServedModels(tmp_path / "models.config")
    running.lock = threading.Lock()
    running.url = f"http://127.0.0.1:{running.server_address[1]}"
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    yield running
    running.shutdown()
    running.server_close()


def start(path, served):
    """Starts with version 1 as stable, in use and loaded."""
    promote(path, 1)
    for _ in range(LOADING_LOOKS + 2):
        served.look()
    assert served.labels == {"stable": 1} and served.loaded(1)
    served.gaps.clear()


def test_without_servers_named_one_refuses_the_file_and_stays(tmp_path, server):
    path, served = make_model(str(tmp_path), "quern", 1, 2), server.served
    start(path, served)
    promote(path, 2)
    for _ in range(20):
        served.look()
    assert served.labels == {"stable": 1} and served.wanted == {1}
    assert set(served.refused) == {("stable", 2)} and not served.gaps


def test_a_server_loads_first_and_then_the_label_moves_there_and_back(tmp_path, server):
    path, served = make_model(str(tmp_path), "quern", 1, 2), server.served
    start(path, served)
    export.main(["promote", path, "--version", "2", "--server", server.url])
    for _ in range(5):
        served.look()
    assert served.labels == {"stable": 2} and set(served.states) == {2}
    export.main(["rollback", path, "--server", f"{server.url}/"])
    for _ in range(5):
        served.look()
    assert served.labels == {"stable": 1} and set(served.states) == {1}
    assert not served.gaps and not served.refused


def test_a_version_that_does_not_load_is_taken_back(tmp_path, server):
    path, served = make_model(str(tmp_path), "quern", 1, 2), server.served
    start(path, served)
    served.bad.add(2)
    config = tmp_path / "models.config"
    before = config.read_text()
    with pytest.raises(WorkError, match="END, DATA_LOSS: broken"):
        export.main(["promote", path, "--version", "2", "--server", server.url])
    assert config.read_text() == before
    waiting = ["--wait", "0", "--server"]
    with pytest.raises(WorkError, match="no answer"):
        nobody = "http://127.0.0.1:1"
        export.main(["promote", path, "--version", "2", *waiting, nobody])
    with pytest.raises(UsageError, match="wanted --server as"):
        export.main(["promote", path, "--version", "2", *waiting, "http://:a:b"])
    assert config.read_text() == before
    assert not served.gaps
