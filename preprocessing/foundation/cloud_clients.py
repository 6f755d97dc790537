# SPDX-License-Identifier: Apache-2.0
"""cloudpathlib's paths, and what only the clients that lie inside them can do.

cloudpathlib reads an object whole or not at all, and writes it whatever is there. It
keeps each SDK's own client in an attribute that it does not document (version 0.26:
`S3Client.client`, `GSClient.client`, `AzureBlobClient.service_client`); those are asked
for a range, or to write on a condition, here and nowhere else.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, cast

from preprocessing.foundation.commands import UsageError

# What stores answer where nothing is, or something else than the condition says.
_ABSENT = (404,)
_OTHERWISE = (404, 409, 412)
_UNKNOWN = 501


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


def read_version(path: str) -> tuple[bytes, str] | None:
    """Returns an object and what the store calls this state of it; None if absent."""
    cloud = cloud_path(path)
    client = cloud.client
    with _answered_by(_ABSENT):
        if path.startswith("s3://"):
            got = client.client.get_object(Bucket=cloud.bucket, Key=cloud.key)
            return got["Body"].read(), got["ETag"]
        if path.startswith("gs://"):
            blob = client.client.bucket(cloud.bucket).blob(cloud.blob)
            data = blob.download_as_bytes()
            return data, str(blob.generation)
        blob = client.service_client.get_blob_client(cloud.container, cloud.blob)
        got = blob.download_blob()
        return got.readall(), got.properties.etag
    return None


def write_version(path: str, data: bytes, expected: str | None) -> str | None:
    """Writes a small object where a version of it lies, or where none does.

    A store that knows no conditions and says so is written to without them.

    Args:
        path: the object.
        data: what to write.
        expected: the version that has to be there; None: there must be none.

    Returns:
        What the store calls the new version; None where another state was found, and
        nothing written.
    """
    cloud = cloud_path(path)
    client = cloud.client
    with _answered_by(_OTHERWISE):
        if path.startswith("s3://"):
            return _put(client.client, cloud.bucket, cloud.key, data, expected)
        if path.startswith("gs://"):
            blob = client.client.bucket(cloud.bucket).blob(cloud.blob)
            generation = 0 if expected is None else int(expected)
            blob.upload_from_string(data, if_generation_match=generation)
            return str(blob.generation)
        blob = client.service_client.get_blob_client(cloud.container, cloud.blob)
        headers = {} if expected is None else {"If-Match": expected}
        made = blob.upload_blob(data, overwrite=expected is not None, headers=headers)
        return cast(str, made["etag"])
    return None


def remove_version(path: str, expected: str) -> None:
    """Removes an object if it is still the version `expected`."""
    cloud = cloud_path(path)
    client = cloud.client
    with _answered_by(_OTHERWISE):
        if path.startswith("s3://"):
            client.client.delete_object(
                Bucket=cloud.bucket, Key=cloud.key, IfMatch=expected
            )
        elif path.startswith("gs://"):
            blob = client.client.bucket(cloud.bucket).blob(cloud.blob)
            blob.delete(if_generation_match=int(expected))
        else:
            blob = client.service_client.get_blob_client(cloud.container, cloud.blob)
            blob.delete_blob(headers={"If-Match": expected})


def _put(sdk: Any, bucket: str, key: str, data: bytes, expected: str | None) -> str:
    """Writes an object to S3 on a condition, or to what is like it but for those."""
    condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
    try:
        made = sdk.put_object(Bucket=bucket, Key=key, Body=data, **condition)
    except Exception as error:
        if _status(error) != _UNKNOWN:
            raise
        made = sdk.put_object(Bucket=bucket, Key=key, Body=data)
    return cast(str, made["ETag"])


@contextlib.contextmanager
def _answered_by(statuses: tuple[int, ...]) -> Iterator[None]:
    """Ends the block quietly where a store answers with one of some HTTP statuses."""
    try:
        yield
    except Exception as error:
        if _status(error) not in statuses:
            raise


def _status(error: Exception) -> int | None:
    """Returns the HTTP status in an error of any of the three SDKs."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # botocore's
        return cast(int, answer.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return getattr(error, "status_code", None) or getattr(error, "code", None)
