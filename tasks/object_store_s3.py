"""An object store on S3, or on anything that speaks it."""

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, cast
from urllib.parse import urlsplit

from botocore.config import Config

from tasks.aws_models import open_session
from tasks.errors import ConfigurationError, NotFoundError, UnreachableError
from tasks.object_store import StoredKey
from tasks.object_store_s3_errors import translated
from tasks.object_store_s3_upload import Upload

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS: Final = 10
READ_SECONDS: Final = 60
ATTEMPTS: Final = 3
# Parts of a backup are saved side by side, each with two parts of an object in flight.
CONNECTIONS: Final = 64
# How often in a row a download is gone on with that brings nothing, and after how many times this long.
_RESUMPTIONS: Final = 4
_RESUME_SECONDS: Final = 2.0
_SKIPPED_BYTES: Final = 1 << 20
Checksums = Literal["when_supported", "when_required"]


@functools.lru_cache(maxsize=8)
def _open_client(
    endpoint_url: str | None,
    region: str,
    access_key_id: str | None,
    secret_access_key: str | None,
    checksums: Checksums,
) -> "S3Client":
    """Return the process's client of an endpoint: threads may share one, and making one takes 50 ms.

    A key that was rotated makes another.
    """
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    try:
        client = open_session().create_client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
            config=config,
        )
    except ValueError as error:
        raise ConfigurationError(f"The endpoint_url or the region is no valid one: {error}.") from error
    return cast("S3Client", client)


class S3Store:
    """An ``ObjectStore`` on a bucket, below a prefix."""

    def __init__(  # noqa: PLR0913  a bucket has these seven properties
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str = "us-east-1",
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        checksums: Checksums = "when_required",
    ) -> None:
        """Given the bucket and how to get at it, open it without asking it anything.

        Without a key, AWS's own chain of credentials is used. Raise ``ConfigurationError`` if the endpoint
        is no URL.
        """
        self._bucket = bucket
        self._root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._place = urlsplit(endpoint_url).netloc.rpartition("@")[2] if endpoint_url else region
        self._client = _open_client(endpoint_url, region, access_key_id, secret_access_key, checksums)

    @property
    def address(self) -> str:
        """The bucket, the prefix and where they are."""
        return f"s3://{self._bucket}/{self._root}".rstrip("/") + f" ({self._place})"

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        """Yield every key that starts with the prefix, in the order of the keys."""
        paginator = self._client.get_paginator("list_objects_v2")
        with self._attempt(prefix):
            found = [
                StoredKey(entry["Key"].removeprefix(self._root), entry["Size"], entry["LastModified"])
                for page in paginator.paginate(Bucket=self._bucket, Prefix=self._root + prefix)
                for entry in page.get("Contents", [])
            ]
        # Not every store that speaks S3 keeps S3's order.
        yield from sorted(found, key=lambda stored: stored.key)

    def read(self, key: str) -> bytes:
        """Return a small object whole."""
        return b"".join(self.stream(key))

    def stream(self, key: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield a large object in chunks; raise ``UnreachableError`` if the connection is lost for good.

        One that is lost midway is made again for the rest: hours of a restore would begin anew.
        """
        with self._attempt(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._root + key)
        size, read, fruitless = answer["ContentLength"], 0, 0
        while True:
            try:
                body = self._get_rest(key, answer["ETag"], read) if fruitless else answer["Body"]
                for chunk in self._read_body(key, body, size - read, chunk_bytes):
                    read, fruitless = read + len(chunk), 0
                    yield chunk
            except UnreachableError:
                fruitless += 1
                if fruitless > _RESUMPTIONS:
                    raise
                time.sleep(_RESUME_SECONDS * fruitless)
            else:
                return

    def _get_rest(self, key: str, etag: str, read: int) -> "StreamingBody":
        """Ask for what comes behind so many bytes; nobody gets the rest of another object."""
        with self._attempt(key):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._root + key, Range=f"bytes={read}-", IfMatch=etag
            )
            body = answer["Body"]
            # A store that knows no ranges gives all of it.
            left = 0 if answer.get("ContentRange") else read
            while chunk := body.read(min(left, _SKIPPED_BYTES)):
                left -= len(chunk)
        return body

    def _read_body(self, key: str, body: "StreamingBody", size: int, chunk_bytes: int) -> Iterator[bytes]:
        left = size
        with contextlib.closing(body):
            while True:
                # The read behind the last one is where botocore holds all against its checksum.
                with self._attempt(key):
                    chunk = body.read(chunk_bytes)
                if not chunk:
                    break
                left -= len(chunk)
                yield chunk
        if left:
            raise UnreachableError(
                f"{self.address}: {key}: the connection was lost {left} bytes before the end: try again."
            )

    def write(self, key: str, content: bytes) -> None:
        """Write a small object, replacing what is there. Durable on return."""
        with self._attempt(key):
            self._client.put_object(Bucket=self._bucket, Key=self._root + key, Body=content)

    def write_if_absent(self, key: str, content: bytes) -> None:
        """Write a small object; raise ``AlreadyExistsError`` if there is one, whoever wrote it."""
        with self._attempt(key):
            self._client.put_object(Bucket=self._bucket, Key=self._root + key, Body=content, IfNoneMatch="*")

    def write_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        """Write what the chunks yield as one object and return its bytes.

        When the iterable raises, nothing is left and its error passes through.
        """
        upload = Upload(self._client, self._bucket, self._root + key, lambda: self._attempt(key))
        return upload.write(chunks)

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with contextlib.suppress(NotFoundError), self._attempt(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._root + key)

    def discard_unfinished(self, prefix: str, older_than: datetime) -> int:
        """Throw away the uploads that were begun under the prefix before the moment; return how many."""
        with self._attempt(prefix):
            pages = list(
                self._client.get_paginator("list_multipart_uploads").paginate(
                    Bucket=self._bucket, Prefix=self._root + prefix
                )
            )
        old = [
            upload
            for page in pages
            for upload in page.get("Uploads", [])
            if upload["Initiated"] < older_than and upload["Key"].startswith(self._root + prefix)
        ]
        for upload in old:
            # One that was completed or thrown away meanwhile is what we want.
            with contextlib.suppress(NotFoundError), self._attempt(upload["Key"]):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        return len(old)

    def _attempt(self, key: str) -> contextlib.AbstractContextManager[None]:
        return translated(self.address, key)
