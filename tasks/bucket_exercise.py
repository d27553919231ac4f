"""Do with a key what an application does in its bucket: put, get, delete, and hand out presigned URLs.

One object of the profile's own prefix is used, always the same, so that a kill leaves one at most.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import httpx

from tasks.aws_asking import SECONDS, ask, explain_code, open_s3
from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadCredentialError,
    NotFoundError,
    RunbookError,
    UnreachableError,
)
from tasks.http_exchange import exchange
from tasks.patience import comes_true
from tasks.records.credential_care import S3Credentials

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

KNOWN_EVERYWHERE_SECONDS = 60.0
_CONTENT: Final = b"Written by a rotation to see whether a key works; it may be deleted."
_URL_SECONDS: Final = 60
_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")


class Bucket:
    """The application's bucket, seen with one key."""

    def __init__(self, terms: S3Credentials, service: str, key_id: str, secret: str, whose: str) -> None:
        """Take the bucket, whose object is used, and the key, which ``whose`` names in sentences."""
        self._client: S3Client = open_s3(terms, key_id, secret)
        self._where, self._whose = f"S3 (bucket {terms.bucket})", whose
        self._bucket, self._key = terms.bucket, f"{terms.prefix}{service}"

    def knows_key(self) -> bool:
        """Return whether the store knows the key, whatever it may do."""
        try:
            self._ask(lambda: self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1))
        except DeadCredentialError:
            return False
        except (AccessDeniedError, ConfigurationError, NotFoundError):
            return True
        return True

    def find_refused(self) -> frozenset[str]:
        """Return what the key may not do; raise ``UnreachableError`` if the store does not know it yet."""
        acts: Mapping[str, Callable[[], object]] = {
            "put": self._put,
            "get": self._get,
            "presigned put": lambda: self._send("put_object", "PUT", content=_CONTENT),
            "presigned get": lambda: self._send("get_object", "GET"),
            "delete": self._delete,
        }
        return frozenset(name for name, act in acts.items() if not self._may(act))

    def clear(self) -> None:
        """Remove the object, where that is possible."""
        with suppress(RunbookError):
            self._delete()

    def _may(self, act: Callable[[], object]) -> bool:
        allowed = True

        def is_known() -> bool:
            nonlocal allowed
            try:
                # Who may not put the object finds none, and was let look.
                with suppress(NotFoundError):
                    act()
            except DeadCredentialError:
                return False
            except AccessDeniedError:
                allowed = False
            return True

        if not comes_true(is_known, KNOWN_EVERYWHERE_SECONDS):
            raise UnreachableError(
                f"{self._where} does not know {self._whose} after {KNOWN_EVERYWHERE_SECONDS:g} s."
            )
        return allowed

    def _put(self) -> None:
        self._ask(lambda: self._client.put_object(Bucket=self._bucket, Key=self._key, Body=_CONTENT))

    def _get(self) -> None:
        def read() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=self._key)["Body"].read()

        self._compare(self._ask(read))

    def _delete(self) -> None:
        self._ask(lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key))

    def _ask(self, act: Callable[[], T]) -> T:
        return ask(act, self._where, self._whose)

    def _send(self, operation: str, method: str, **content: bytes) -> None:
        """Do what a browser does that was given a presigned URL."""
        place = {"Bucket": self._bucket, "Key": self._key}
        url = self._client.generate_presigned_url(operation, Params=place, ExpiresIn=_URL_SECONDS)
        found = exchange(url, SECONDS, method, **content)
        if found.failure is not None:
            raise UnreachableError(f"{self._where} does not take a presigned URL: {found.problem}.")
        if not httpx.codes.is_success(found.status_code):
            code = _CODE.search(found.body)
            said = code[1].decode() if code else str(found.status_code)
            raise explain_code(said, found.status_code, self._where, self._whose)
        if method == "GET":
            self._compare(found.body)

    def _compare(self, found: bytes) -> None:
        if found != _CONTENT:
            raise UnreachableError(f"{self._where} gave back something else than was put there.")
