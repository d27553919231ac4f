"""The access keys of an IAM user, as the admin sees and changes them."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final

from tasks.aws_asking import ask, open_iam
from tasks.errors import ConfigurationError, NotFoundError
from tasks.records.credential_care import S3Credentials

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

MOST_KEYS: Final = 2
_IAM: Final = "IAM"


@dataclass(frozen=True)
class UserKey:
    """A key of a user. Its secret is told once, when it is made."""

    key_id: str
    is_active: bool
    made_at: datetime | None
    secret: str = field(default="", repr=False)


class IamKeys:
    """The keys of the user of ``credentials.s3``."""

    def __init__(self, terms: S3Credentials) -> None:
        """Take whose keys, and who may manage them; nothing is asked yet."""
        self._terms = terms
        self._whose = (
            "the key of credentials.s3.admin_key_id" if terms.admin_key_id else "this host's credentials"
        )

    @cached_property
    def _client(self) -> "IAMClient":
        return open_iam(self._terms)

    def list_keys(self) -> dict[str, UserKey]:
        """Return the user's keys by their ids; raise ``ConfigurationError`` if there is no such user."""
        try:
            found = ask(lambda: self._client.list_access_keys(UserName=self._terms.user), _IAM, self._whose)
        except NotFoundError:
            raise ConfigurationError(
                f"IAM has no user {self._terms.user}: correct credentials.s3.user."
            ) from None
        keys = (
            UserKey(key["AccessKeyId"], key["Status"] == "Active", key.get("CreateDate"))
            for key in found["AccessKeyMetadata"]
        )
        return {key.key_id: key for key in keys}

    def create(self) -> UserKey:
        """Return a new key; raise ``RefusedError`` if the user has two already."""
        once = open_iam(self._terms, repeating=False)
        made = ask(lambda: once.create_access_key(UserName=self._terms.user), _IAM, self._whose)["AccessKey"]
        return UserKey(made["AccessKeyId"], is_active=True, made_at=None, secret=made["SecretAccessKey"])

    def find_last_use(self, key_id: str) -> datetime | None:
        """Return when a key was used last; None if never, or if this IAM does not know."""
        try:
            found = ask(lambda: self._client.get_access_key_last_used(AccessKeyId=key_id), _IAM, self._whose)
        except (ConfigurationError, NotFoundError):
            return None
        return found["AccessKeyLastUsed"].get("LastUsedDate")

    def make_inactive(self, key_id: str) -> None:
        """Make a key inactive; one that is gone is that."""
        with suppress(NotFoundError):
            ask(
                lambda: self._client.update_access_key(
                    UserName=self._terms.user, AccessKeyId=key_id, Status="Inactive"
                ),
                _IAM,
                self._whose,
            )

    def delete(self, key_id: str) -> None:
        """Delete a key; one that is gone is no error."""
        with suppress(NotFoundError):
            ask(
                lambda: self._client.delete_access_key(UserName=self._terms.user, AccessKeyId=key_id),
                _IAM,
                self._whose,
            )
