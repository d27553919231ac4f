"""Ask AWS, or what speaks as it does, within a limit that nothing exceeds; its errors become ours."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from urllib3.exceptions import HTTPError

from tasks.aws_models import open_session
from tasks.credentials import resolve
from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadCredentialError,
    NotFoundError,
    RefusedError,
    RunbookError,
    UnreachableError,
)
from tasks.records.credential_care import S3Credentials
from tasks.time_limits import run_together

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

SECONDS: Final = 30.0
CONNECT_SECONDS = 3.0
READ_SECONDS = 8.0
_ATTEMPTS: Final = 3
_Meaning = tuple[type[RunbookError], str]

# A key that was made a moment ago is refused in the same words as one that never was.
_DEAD: Final[_Meaning] = (DeadCredentialError, "does not know {whose}")
_DENIED: Final[_Meaning] = (AccessDeniedError, "knows {whose} and does not allow this")
_CLOCK: Final[_Meaning] = (AccessDeniedError, "says that this host's clock is wrong: correct it")
_UNKNOWN: Final[_Meaning] = (NotFoundError, "has no such user, key or object")
_NO_BUCKET: Final[_Meaning] = (ConfigurationError, "has no such bucket: correct credentials.s3.bucket")
_REGION: Final[_Meaning] = (
    ConfigurationError,
    "has the bucket in another region: correct credentials.s3.region",
)
_FULL: Final[_Meaning] = (RefusedError, "gives no more: the limit is reached")
_CANNOT: Final[_Meaning] = (ConfigurationError, "cannot do this")
_BUSY: Final[_Meaning] = (UnreachableError, "is too busy or out of order")

_BY_CODE: Final[dict[str, _Meaning]] = {
    "InvalidClientTokenId": _DEAD,
    "InvalidAccessKeyId": _DEAD,
    "SignatureDoesNotMatch": _DEAD,
    "UnrecognizedClientException": _DEAD,
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "AllAccessDisabled": _DENIED,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "NoSuchEntity": _UNKNOWN,
    "NoSuchKey": _UNKNOWN,
    "NoSuchBucket": _NO_BUCKET,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "LimitExceeded": _FULL,
    "NotImplemented": _CANNOT,
    "InvalidAction": _CANNOT,
    "Throttling": _BUSY,
    "SlowDown": _BUSY,
}


def open_iam(terms: S3Credentials, *, repeating: bool = True) -> "IAMClient":
    """Return what asks IAM with the admin's key; nothing is asked yet.

    ``repeating`` is for what may be asked twice: of two answers that do not come, one may be a key's.
    """
    key_id = resolve(terms.admin_key_id) if terms.admin_key_id else None
    secret = resolve(terms.admin_secret) if terms.admin_secret else None
    return cast("IAMClient", _open("iam", terms, terms.iam_url, (key_id, secret), repeating=repeating))


def open_s3(terms: S3Credentials, key_id: str, secret: str) -> "S3Client":
    """Return what asks the bucket's store with a key; nothing is asked yet."""
    return cast("S3Client", _open("s3", terms, terms.endpoint_url, (key_id, secret), repeating=True))


def ask(act: Callable[[], T], where: str, whose: str) -> T:
    """Given a request, return its answer; ``whose`` names the key in the sentence.

    Raise ``DeadCredentialError`` if the key is not known, ``AccessDeniedError`` if it may not do this,
    ``NotFoundError`` if what it is about is not there, ``RefusedError`` if a limit is reached,
    ``ConfigurationError`` if it can never be done, ``UnreachableError`` if no answer comes, or another.
    """
    found = run_together([lambda: [_ask(act, where, whose)]], SECONDS)[0]
    if found is None:
        raise UnreachableError(f"{where} did not answer within {SECONDS:g} s.")
    return found[0]


def explain_code(code: str, status: int, where: str, whose: str) -> RunbookError:
    """Given how a request was refused, return what it means to us."""
    kind, sentence = _BY_CODE.get(code) or _by_status(status)
    return kind(f"{where} {sentence.format(whose=whose)} ({code}).")


def _by_status(status: int) -> _Meaning:
    match status:
        case 403 | 401:
            return _DENIED
        case 404:
            return _UNKNOWN
        case 501:
            return _CANNOT
        case _:
            return _BUSY


def _ask(act: Callable[[], T], where: str, whose: str) -> T:
    try:
        return act()
    except ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = error.response.get("Error", {})
        code = str(said.get("Code", "")) or str(status)
        if code == "SignatureDoesNotMatch" and "xpired" in said.get("Message", ""):
            code = "RequestExpired"  # IAM has no other word for it
        raise explain_code(code, status, where, whose) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise ConfigurationError(
            f"{where} wants credentials and this host has none: give credentials.s3.admin_key_id and "
            "admin_secret."
        ) from None
    except (BotoCoreError, HTTPError, OSError) as error:
        raise UnreachableError(f"{where} did not answer ({type(error).__name__}).") from None


def _open(
    service: str,
    terms: S3Credentials,
    url: str | None,
    key: tuple[str | None, str | None],
    *,
    repeating: bool,
) -> object:
    config = Config(
        signature_version="s3v4" if service == "s3" else None,
        s3={"addressing_style": "path" if url else "auto"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS if repeating else 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return open_session().create_client(
            service,
            endpoint_url=url,
            region_name=terms.region,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            config=config,
        )
    except ValueError as error:
        raise ConfigurationError(
            f"credentials.s3 has an address or a region that is none: {error}."
        ) from None
