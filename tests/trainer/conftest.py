# SPDX-License-Identifier: Apache-2.0
"""What the trainer's tests share: one small dataset, written once, and a bucket."""

from pathlib import Path

import boto3
import pytest
from cloudpathlib import S3Client
from moto.server import ThreadedMotoServer

from preprocessing.contracts.manifest import Manifest, read_manifest
from tests.datasets import write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """A dataset of 64 tokens a row, to be left as it is."""
    return write_dataset(tmp_path_factory.mktemp("shared") / "dataset")


@pytest.fixture(scope="session")
def manifest(dataset) -> Manifest:
    """The manifest of `dataset`."""
    return read_manifest(str(dataset))


@pytest.fixture(scope="module")
def bucket():
    """An S3 bucket served on the loopback; yields its URI."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket="runs")
        patch.setattr(S3Client, "_default_client", None)
        yield "s3://runs"
    server.stop()
