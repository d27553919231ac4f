"""AWS IAM in small: the object store's own, with what that lacks: two keys at most, last use, propagation.

It does not answer below the vendors' address: a signature covers the path, so it has an address of its own,
before the object store's (`iam_front`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from botocore.exceptions import ClientError

from deployments.sandbox.object_store import KEY_ID, KEY_SECRET
from deployments.sandbox.uploads import iam_client
from deployments.sandbox.vault import Vault
from deployments.sandbox.vendor_protocol import Act, Conduct, VendorAnswer, VendorRequest
from deployments.sandbox.vendor_state import VendorState

if TYPE_CHECKING:  # stubs: a development dependency
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.literals import StatusTypeType
    from mypy_boto3_iam.type_defs import AccessKeyMetadataTypeDef

VERSION = "2010-05-08"
MOST_KEYS = 2
_USER = r"[\w+=,.@-]{1,64}"
_KEY = r"\w{16,128}"
# Each action's fields with their forms; those with a ! have to be there.
ACTIONS: dict[str, dict[str, str]] = {
    "CreateAccessKey": {"UserName": _USER},
    "ListAccessKeys": {"UserName": _USER, "Marker": r".{1,320}", "MaxItems": r"\d{1,4}"},
    "UpdateAccessKey": {"UserName": _USER, "AccessKeyId!": _KEY, "Status!": "Active|Inactive"},
    "DeleteAccessKey": {"UserName": _USER, "AccessKeyId!": _KEY},
    "GetAccessKeyLastUsed": {"AccessKeyId!": _KEY},
    "GetUser": {"UserName": _USER},
}


class IamError(Exception):
    """What IAM answers when it does not do what it was asked."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Take the answer."""
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Call:
    """One call of IAM."""

    action: str
    fields: Mapping[str, str]

    @property
    def user(self) -> str:
        """Return the user that it is about; without a name it is the caller's."""
        return self.fields.get("UserName", "operator")


class Iam:
    """The users' keys, which the object store keeps and checks."""

    name = "iam"
    dashboard: Mapping[str, Act] = {}

    def __init__(self, vault: Vault, folder: Path, store: str) -> None:
        """Take the operator's key, where to remember what the store does not, and the store's address."""
        self._vault = vault
        self._store = store
        self._state = VendorState(folder / "iam.json", dict)

    def answer(self, request: VendorRequest, _conduct: Conduct) -> VendorAnswer:
        """Answer whoever asks at the wrong address."""
        return VendorAnswer(404, {"error": f"{request.path}: IAM is at an address of its own."})

    def fail(self, status: int) -> VendorAnswer:
        """Answer that something failed."""
        return VendorAnswer(status, {"error": "InternalFailure"})

    @property
    def operator(self) -> tuple[str, str]:
        """Return the id and the secret of the one key that may call IAM."""
        return self._vault.read(KEY_ID), self._vault.read(KEY_SECRET)

    def is_propagating(self, key: str, conduct: Conduct) -> bool:
        """Tell whether a key was made so short a time ago that nobody else knows of it yet."""
        with self._state.opened() as known:
            facts = known.get(key, {})
        # One that was made while keys were known at once stays known.
        if not facts.get("spreads"):
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(facts["made"])
        return age.total_seconds() < conduct.propagation_seconds

    def note_use(self, key: str, region: str) -> None:
        """Remember that a key was used for S3 now."""
        with self._state.opened() as known:
            known.setdefault(key, {})["used"] = [_now(), "s3", region]

    def knows(self, key: str) -> bool:
        """Tell whether a key is a user's, whatever its state."""
        return self._owner(key) is not None

    def call(self, call: Call, conduct: Conduct) -> dict[str, Any]:
        """Do what is asked for and return the result's fields; raise IamError if it cannot be."""
        # One after the other, or two at once would both see room for a key.
        with self._state.opened() as known:
            try:
                found: dict[str, Any] = getattr(self, f"_{call.action}")(call, known) or {}
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                said = error.response["Error"]
                raise IamError(status, said["Code"], said["Message"]) from error
            if "AccessKey" in found:
                known[found["AccessKey"]["AccessKeyId"]]["spreads"] = conduct.propagation_seconds > 0
            return found

    def _CreateAccessKey(self, call: Call, known: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if len(self._keys(call.user)) >= MOST_KEYS:
            raise IamError(409, "LimitExceeded", f"Cannot exceed quota for AccessKeysPerUser: {MOST_KEYS}")
        made = self._client().create_access_key(UserName=call.user)["AccessKey"]
        known[made["AccessKeyId"]] = {"made": _now()}
        return {"AccessKey": {**made, "CreateDate": known[made["AccessKeyId"]]["made"]}}

    def _ListAccessKeys(self, call: Call, known: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        keys = self._keys(call.user)
        for key in keys:
            known.setdefault(key["AccessKeyId"], {}).setdefault("made", _now())
        listed = [{**key, "CreateDate": known[key["AccessKeyId"]]["made"]} for key in keys]
        return {"IsTruncated": "false", "AccessKeyMetadata": listed}

    def _UpdateAccessKey(self, call: Call, _known: dict[str, Any]) -> None:  # noqa: N802
        key = self._existing(call)
        status: StatusTypeType = "Active" if call.fields["Status"] == "Active" else "Inactive"
        self._client().update_access_key(UserName=call.user, AccessKeyId=key, Status=status)

    def _DeleteAccessKey(self, call: Call, known: dict[str, Any]) -> None:  # noqa: N802
        key = self._existing(call)
        self._client().delete_access_key(UserName=call.user, AccessKeyId=key)
        known.pop(key, None)

    def _GetAccessKeyLastUsed(self, call: Call, known: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        key = call.fields["AccessKeyId"]
        owner = self._owner(key)
        if owner is None:
            raise _not_found(key)
        when, service, region = known.get(key, {}).get("used", (None, "N/A", "N/A"))
        used = {"ServiceName": service, "Region": region} | ({"LastUsedDate": when} if when else {})
        return {"UserName": owner, "AccessKeyLastUsed": used}

    def _GetUser(self, call: Call, _known: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        user = self._client().get_user(UserName=call.user)["User"]
        return {"User": {**user, "UserId": "AIDASANDBOX", "CreateDate": "2024-01-15T00:00:00Z"}}

    def _existing(self, call: Call) -> str:
        key = call.fields["AccessKeyId"]
        if key not in [found["AccessKeyId"] for found in self._keys(call.user)]:
            raise _not_found(key)
        return key

    def _keys(self, user: str) -> "list[AccessKeyMetadataTypeDef]":
        client = self._client()
        client.get_user(UserName=user)  # of a user that is not there the store lists no keys and does not say
        return client.list_access_keys(UserName=user)["AccessKeyMetadata"]

    def _owner(self, key: str) -> str | None:
        users = [user["UserName"] for user in self._client().list_users()["Users"]]
        return next((user for user in users if key in [k["AccessKeyId"] for k in self._keys(user)]), None)

    def _client(self) -> "IAMClient":
        return iam_client(self._store, *self.operator)


def read_call(body: bytes) -> Call:
    """Return the call that a form asks for; raise IamError if a field is missing, unknown or wrong."""
    fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    action, version = fields.pop("Action", ""), fields.pop("Version", "")
    forms = ACTIONS.get(action)
    if forms is None or version != VERSION:
        raise IamError(400, "InvalidAction", f"Could not find operation {action} for version {version}")
    required = {name.rstrip("!") for name in forms if name.endswith("!")}
    known = {name.rstrip("!"): form for name, form in forms.items()}
    for name in required - set(fields):
        raise IamError(400, "ValidationError", f"Value null at '{name}' failed: Member must not be null")
    for name, value in fields.items():
        if name not in known:
            raise IamError(400, "ValidationError", f"{name} is no member of {action}Request")
        if not re.fullmatch(known[name], value):
            raise IamError(400, "ValidationError", f"Value at '{name}' failed to satisfy: {known[name]}")
    return Call(action, fields)


def _not_found(key: str) -> IamError:
    return IamError(404, "NoSuchEntity", f"The Access Key with id {key} cannot be found.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
