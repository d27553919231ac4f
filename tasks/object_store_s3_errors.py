"""What S3 and botocore say went wrong, and what that means to us: one table, used in one place."""

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from urllib3.exceptions import HTTPError

from tasks.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ConfigurationError,
    NotFoundError,
    RunbookError,
    StoreFullError,
    UnreachableError,
    UnsuitableStoreError,
)

_Meaning = tuple[type[RunbookError], str]

_NO_KEY: Final[_Meaning] = (NotFoundError, "there is no such object")
_NO_UPLOAD: Final[_Meaning] = (
    NotFoundError,
    "the unfinished upload was thrown away by somebody: start again",
)
_NO_BUCKET: Final[_Meaning] = (
    ConfigurationError,
    "there is no such bucket: create it or correct the destination's url",
)
_EXISTS: Final[_Meaning] = (AlreadyExistsError, "it is there already, or is being written by somebody else")
_DENIED: Final[_Meaning] = (
    AccessDeniedError,
    "access denied: allow this key to list the bucket and to get, put and delete objects in it",
)
_BAD_KEY: Final[_Meaning] = (
    AccessDeniedError,
    "the access key is not accepted: check both references, and whether the key was rotated or disabled",
)
_EXPIRED: Final[_Meaning] = (AccessDeniedError, "the credentials have expired: renew them")
_CLOCK: Final[_Meaning] = (AccessDeniedError, "this host's clock is wrong: correct it")
_REGION: Final[_Meaning] = (ConfigurationError, "the bucket is in another region: correct the region")
_BUSY: Final[_Meaning] = (UnreachableError, "the store is too busy or out of order: try again later")
_FULL: Final[_Meaning] = (StoreFullError, "there is no room left or the quota is used up: free or buy some")
_AWAY: Final[_Meaning] = (UnreachableError, "no answer: check the network, the endpoint_url and the store")
_TLS: Final[_Meaning] = (UnreachableError, "TLS failed: check the endpoint_url and the store's certificate")
_CUT: Final[_Meaning] = (UnreachableError, "the connection was lost or the bytes arrived damaged: try again")
_NO_CREDENTIALS: Final[_Meaning] = (
    ConfigurationError,
    "no credentials: give access_key_id and secret_access_key, or the host a role",
)
_BAD_REQUEST: Final[_Meaning] = (ConfigurationError, "the store does not take this request: check the url")
_UNSUITABLE: Final[_Meaning] = (
    UnsuitableStoreError,
    (
        "the store does not offer what was asked, such as conditional writes (If-None-Match), without which "
        "two hosts are not kept apart: use a store that knows them"
    ),
)
_CHECKSUMS: Final[_Meaning] = (
    ConfigurationError,
    (
        "the store wants other checksums: set destination.checksums to when_supported where it requires one, "
        "as a bucket with Object Lock does, and to when_required where it takes none"
    ),
)
# What a refusal's message names when it is about checksums.
_CHECKSUM_HEADERS: Final = re.compile("content-md5|x-amz-checksum|x-amz-sdk-checksum", re.IGNORECASE)

_BY_CODE: Final[dict[str, _Meaning]] = {
    "NoSuchKey": _NO_KEY,
    "NoSuchBucket": _NO_BUCKET,
    "InvalidBucketName": _NO_BUCKET,
    "NoSuchUpload": _NO_UPLOAD,
    "PreconditionFailed": _EXISTS,
    "ConditionalRequestConflict": _EXISTS,
    "OperationAborted": _EXISTS,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": _BAD_KEY,
    "SignatureDoesNotMatch": _BAD_KEY,
    "InvalidToken": _EXPIRED,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "NotImplemented": _UNSUITABLE,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "RequestTimeout": _CUT,
    "IncompleteBody": _CUT,
    "BadDigest": _CUT,
    "XAmzContentSHA256Mismatch": _CUT,
    "QuotaExceeded": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InsufficientStorage": _FULL,
    "TooManyParts": _FULL,
    "EntityTooLarge": _FULL,
}
_OF_HEADERS: Final = frozenset({"InvalidRequest", "NotImplemented"})
# Stores that are not AWS invent codes; their HTTP status is mostly right.
_BY_STATUS: Final[dict[int, _Meaning]] = {
    301: _REGION,
    401: _BAD_KEY,
    403: _DENIED,
    404: _NO_KEY,
    408: _CUT,
    409: _EXISTS,
    412: _EXISTS,
    429: _BUSY,
    501: _UNSUITABLE,
    507: _FULL,
}
# The first that fits; what is left of botocore's errors is about the connection.
_BY_TYPE: Final[tuple[tuple[type[Exception], _Meaning], ...]] = (
    (NoCredentialsError, _NO_CREDENTIALS),
    (PartialCredentialsError, _NO_CREDENTIALS),
    (CredentialRetrievalError, _NO_CREDENTIALS),
    (ParamValidationError, _BAD_REQUEST),
    (SSLError, _TLS),
    (EndpointConnectionError, _AWAY),
    (FlexibleChecksumError, _CUT),
    (HTTPError, _CUT),
    (OSError, _CUT),
    (BotoCoreError, _AWAY),
)


@contextlib.contextmanager
def translated(address: str, key: str) -> Iterator[None]:
    """Raise the vendor's errors as ours, naming the store and the key."""
    try:
        yield
    except ClientError as error:
        (kind, sentence), code = _meaning_of_answer(error)
        raise kind(f"{address}: {key or 'the bucket'}: {sentence} ({code}).") from error
    except (BotoCoreError, HTTPError, OSError) as error:
        kind, sentence = next(meaning for known, meaning in _BY_TYPE if isinstance(error, known))
        name = type(error).__name__
        raise kind(f"{address}: {key or 'the bucket'}: {sentence} ({name}).") from error


def _meaning_of_answer(error: ClientError) -> tuple[_Meaning, str]:
    """Given a store's refusal, return what it means to us and the code to show."""
    code = str(error.response.get("Error", {}).get("Code", "")) or "no code"
    message = str(error.response.get("Error", {}).get("Message", ""))
    if code in _OF_HEADERS and _CHECKSUM_HEADERS.search(message):
        return _CHECKSUMS, code
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    fallback = _BUSY if status >= 500 else _BAD_REQUEST  # noqa: PLR2004  HTTP's own border
    return _BY_CODE.get(code) or _BY_STATUS.get(status, fallback), code
