# SPDX-License-Identifier: Apache-2.0
"""Where trees of models lie: on a disk, and in a bucket that keeps conditions."""

import threading

import boto3
import pytest
from cloudpathlib import S3Client
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


@pytest.fixture(scope="module")
def store():
    """A bucket that keeps conditions; one request after another, so each is atomic."""
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        boto3.client("s3").create_bucket(Bucket="models")
        patch.setattr(S3Client, "_default_client", None)
        yield "s3://models"
    server.shutdown()


@pytest.fixture(params=["disk", "bucket"])
def tree(request, tmp_path):
    """An empty tree of models."""
    if request.param == "disk":
        return str(tmp_path / "models")
    return f"{request.getfixturevalue('store')}/{tmp_path.name}"
