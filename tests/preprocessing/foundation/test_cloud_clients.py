# SPDX-License-Identifier: Apache-2.0
"""A part of an object comes with one request, from each of the three clouds.

The clients lie in attributes that cloudpathlib does not document: where one is gone, or
is another SDK's, these tests say which cloud's ranged reads break.
"""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from azure.storage.blob import BlobServiceClient
from cloudpathlib import AzureBlobClient, GSClient, S3Client
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from preprocessing.foundation.cloud_clients import cloud_path, read_cloud_range
from preprocessing.foundation.commands import UsageError

DATA = bytes(range(256)) * 20


class Objects(BaseHTTPRequestHandler):
    """Answers any GET of a range with that range of `DATA`, and remembers both."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # the name that http.server calls
        asked = self.headers.get("x-ms-range") or self.headers["Range"]
        if asked is None:  # Google's SDK looks at the bucket too, in the background.
            self.send_error(404)
            return
        self.server.requests.append((self.path, asked))
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups())
        body = DATA[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("x-ms-blob-type", "BlockBlob")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Says nothing."""


@pytest.fixture
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    served.requests = []
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def s3(url):
    return S3Client(aws_access_key_id="x", aws_secret_access_key="x", endpoint_url=url)


def gs(url):
    sdk = storage.Client(
        "project", AnonymousCredentials(), client_options={"api_endpoint": url}
    )
    return GSClient(storage_client=sdk)


def az(url):
    sdk = BlobServiceClient(f"{url}/account", credential="eA==")
    return AzureBlobClient(blob_service_client=sdk)


@pytest.mark.parametrize(
    ("make", "attribute", "method"),
    [
        (s3, "client", "get_object"),
        (gs, "client", "bucket"),
        (az, "service_client", "get_blob_client"),
    ],
)
def test_a_range_of_an_object_is_read_with_one_request(
    server, monkeypatch, make, attribute, method
):
    client = make(f"http://127.0.0.1:{server.server_address[1]}")
    sdk = getattr(client, attribute, None)
    assert hasattr(sdk, method), (
        f"ranged reads of {make.__name__}:// break: cloudpathlib's "
        f"{type(client).__name__} keeps no SDK client in .{attribute} any more "
        "(preprocessing/foundation/cloud_clients.py)"
    )
    monkeypatch.setattr(type(client), "_default_client", client)
    path = f"{make.__name__}://bucket/a/b.bin"
    assert read_cloud_range(path, 250, 260) == DATA[250:260]
    ((asked, found),) = server.requests
    assert asked.startswith(("/bucket/a/b.bin", "/download", "/account/bucket/a/b.bin"))
    assert found == "bytes=250-259"


def test_an_unknown_scheme_is_refused_by_name():
    with pytest.raises(UsageError, match=r"s3://.*ftp://x/y fails"):
        cloud_path("ftp://x/y")
