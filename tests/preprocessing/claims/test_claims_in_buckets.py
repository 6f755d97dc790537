# SPDX-License-Identifier: Apache-2.0
"""Claims in the three clouds: conditions go out as each store wants them, and hold.

The store below is none of theirs; it answers as their documents say: S3's PutObject and
DeleteObject, Google's JSON API for objects, Azure's Put, Get and Delete Blob.
"""

import contextlib
import json
import re
import threading
import time
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from preprocessing.claims.claims import (
    CLAIM_NAME,
    Claim,
    ClaimTimes,
    Held,
    check_claim,
    claimed,
)
from preprocessing.foundation import cloud_clients, storage
from preprocessing.foundation.commands import WorkError
from tests.preprocessing.foundation.test_cloud_clients import az, gs, s3

QUICK = ClaimTimes(renewal=0.05, gone=0.4, look=0.02)
NEVER_RENEWED = ClaimTimes(renewal=3600.0, gone=0.2, look=0.01)


class Store(BaseHTTPRequestHandler):
    """One object; `server.found` is (bytes, version) or None, under `server.lock`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with self.server.lock:
            found = self.server.found
        if found is None:
            return self.answer(404)
        return self.answer(200, found[0], found[1])

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.write(data, self.headers.get("If-Match"), self.headers["If-None-Match"])

    def do_POST(self):
        """Google's: two parts, of which the second is the object."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = b"Content-Type: " + self.headers["Content-Type"].encode()
        parts = message_from_bytes(kind + b"\r\n\r\n" + body).get_payload()
        wanted = self.generation()
        none = "*" if wanted == "0" else None
        self.write(parts[1].get_payload(decode=True), None if none else wanted, none)

    def do_DELETE(self):
        wanted = self.headers.get("If-Match") or self.generation()
        with self.server.lock:
            if self.server.found is None:
                return self.answer(404)
            if not self.fits(wanted, None):
                return self.answer(412)
            self.server.found = None
        return self.answer(204 if "account" not in self.path else 202)

    def generation(self):
        asked = parse_qs(urlsplit(self.path).query)
        return asked.get("ifGenerationMatch", [None])[0]

    def fits(self, wanted, none):
        if self.server.careless:
            return True
        found = self.server.found
        if none == "*":
            return found is None
        return wanted is None or (found is not None and found[1] == wanted.strip('"'))

    def write(self, data, wanted, none):
        if self.server.refuses and (wanted or none):
            return self.answer(501)
        with self.server.lock:
            if not self.fits(wanted, none):
                return self.answer(409 if "account" in self.path and none else 412)
            self.server.count += 1
            version = str(self.server.count)
            self.server.found = data, version
        return self.answer(201 if "account" in self.path else 200, b"{}", version)

    def answer(self, status, body=b"", version=None):
        if status >= 400:
            body = b""
        elif self.command == "POST":
            name = urlsplit(self.path).path
            body = json.dumps({"name": name, "generation": version}).encode()
        elif self.command != "GET":
            body = b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if version is not None:
            self.send_header("ETag", f'"{version}"')
            self.send_header("X-Goog-Generation", version)
            self.send_header("x-ms-blob-type", "BlockBlob")
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if self.command == "GET" and status == 200:
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *words):
        """Says nothing."""


@pytest.fixture
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    served.found, served.count, served.lock = None, 0, threading.Lock()
    served.careless = served.refuses = False
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture(params=[s3, gs, az])
def bucket(request, server, monkeypatch):
    client = request.param(f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(type(client), "_default_client", client)
    return f"{request.param.__name__}://bucket/out"


def test_a_write_on_a_condition_is_refused_where_it_does_not_hold(bucket, server):
    path = storage.join(bucket, "a")
    assert cloud_clients.read_version(path) is None
    first = cloud_clients.write_version(path, b"one", None)
    assert first and cloud_clients.write_version(path, b"two", None) is None
    assert cloud_clients.read_version(path) == (b"one", first)
    second = cloud_clients.write_version(path, b"three", first)
    assert second and cloud_clients.write_version(path, b"four", first) is None
    cloud_clients.remove_version(path, first)
    assert cloud_clients.read_version(path) == (b"three", second)
    cloud_clients.remove_version(path, second)
    assert server.found is None
    assert cloud_clients.write_version(path, b"five", second) is None


def test_a_claim_in_a_bucket_is_held_renewed_and_given_free(bucket, server):
    with claimed(bucket, "it", times=QUICK) as claim:
        said = json.loads(server.found[0])
        assert said["token"] == claim.token
        while json.loads(server.found[0])["renewals"] == said["renewals"]:
            time.sleep(0.01)
        with pytest.raises(Held, match=f"process {said['process']} on"):
            Claim(claim.path, "it", QUICK).acquire()
        claim.check()
        check_claim(claim.path, claim.token, "it")
    assert server.found is None


def test_in_a_bucket_a_holder_elsewhere_is_waited_for_and_then_knows(bucket, server):
    lost = Claim(storage.join(bucket, CLAIM_NAME), "it", NEVER_RENEWED)
    lost.acquire()
    version = server.found[1]
    server.found = re.sub(rb'"host": "[^"]*"', b'"host": "b"', server.found[0]), version
    with claimed(bucket, "it", times=NEVER_RENEWED) as claim:
        with pytest.raises(WorkError, match="taken over"):
            lost.check()
        lost.release()
        claim.check()
    assert server.found is None


def test_of_many_at_once_one_has_the_bucket(bucket, server):
    barrier, won = threading.Barrier(5), []

    def contend():
        claim = Claim(storage.join(bucket, CLAIM_NAME), "it", NEVER_RENEWED)
        barrier.wait()
        with contextlib.suppress(Held):
            claim.acquire()
            won.append(claim)

    threads = [threading.Thread(target=contend) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (claim,) = won
    claim.check()
    claim.release()


@pytest.mark.parametrize("kind", ["careless", "refuses"])
def test_where_a_store_knows_no_conditions_the_last_to_write_has_it(
    server, monkeypatch, kind
):
    client = s3(f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(type(client), "_default_client", client)
    setattr(server, kind, True)
    path = storage.join("s3://bucket/out", CLAIM_NAME)
    one, other = Claim(path, "it", NEVER_RENEWED), Claim(path, "it", NEVER_RENEWED)
    pauses = []

    def meanwhile(seconds):
        pauses.append(seconds)
        if len(pauses) == 1:  # the other one found the place free as well, and wrote
            server.found = None
            other.acquire(lambda seconds: None)

    with pytest.raises(Held):
        one.acquire(meanwhile)
    assert pauses[0] > 1, "longer than two round trips"
    other.check()
    other.release()
    assert server.found is None
