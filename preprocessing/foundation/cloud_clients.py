# SPDX-License-Identifier: Apache-2.0
"""cloudpathlib's paths, and ranged reads through the clients that lie inside them.

cloudpathlib reads an object whole or not at all. It keeps each SDK's own client in an
attribute that it does not document (version 0.26: `S3Client.client`, `GSClient.client`,
`AzureBlobClient.service_client`); those are asked for a range here, and nowhere else.
"""

import warnings
from typing import Any, cast

from preprocessing.foundation.commands import UsageError


def cloud_path(path: str) -> Any:
    """Returns cloudpathlib's object for a URI.

    Raises:
        UsageError: cloudpathlib knows no such scheme, or finds no credentials.
    """
    # Imported here: it costs a second, and a local job never needs it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import cloudpathlib
    try:
        return cloudpathlib.CloudPath(path)  # type: ignore[abstract]
    except (
        cloudpathlib.exceptions.CloudPathException,
        ImportError,
    ) as error:
        raise UsageError(
            f"wanted a path cloudpathlib can open (s3://, gs://, az://), {path} fails: "
            f"{error}. Check the scheme and the credentials"
        ) from None


def read_cloud_range(path: str, start: int, end: int) -> bytes:
    """Returns bytes start to end (exclusive, within the object) with one request."""
    cloud = cloud_path(path)
    client = cloud.client
    if path.startswith("s3://"):
        answer = client.client.get_object(
            Bucket=cloud.bucket, Key=cloud.key, Range=f"bytes={start}-{end - 1}"
        )
        return cast(bytes, answer["Body"].read())
    if path.startswith("gs://"):
        blob = client.client.bucket(cloud.bucket).blob(cloud.blob)
        return cast(bytes, blob.download_as_bytes(start=start, end=end - 1))
    blob = client.service_client.get_blob_client(cloud.container, cloud.blob)
    return cast(bytes, blob.download_blob(offset=start, length=end - start).readall())
