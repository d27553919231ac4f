"""Runbook row P6: the key that the application uses its bucket with, of an IAM user who may have two.

The operator's key makes the second, which is put in force; the first is made inactive when nobody uses it any
more, and deleted when nobody missed it.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from prefect.logging import get_run_logger

from tasks.bucket_exercise import KNOWN_EVERYWHERE_SECONDS, Bucket
from tasks.environment_file import read_variables
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.iam_keys import MOST_KEYS, IamKeys, UserKey
from tasks.key_sharing import find_other_user
from tasks.known_good import fingerprint
from tasks.patience import comes_true
from tasks.records.credential_care import S3Credentials
from tasks.records.rotation import CredentialFacts, Kept, Stage
from tasks.records.service import ServiceProfile
from tasks.rotation_files import read_kept, read_open

INACTIVE: Final = "make the old key inactive at IAM"
DELETE: Final = "delete the old key at IAM"
_KEY_ID: Final = "key_id"
# An answer that never came may be to a request that is still under way.
_LATE_SECONDS: Final = 2.0
_GONE_EVERYWHERE_SECONDS: Final = 60.0
# The clocks of IAM and of this host, and an order that was long on its way.
_ABOUT: Final = timedelta(minutes=1)


class S3Rotator:
    """One key of an IAM user, and the operator's that makes and deletes it."""

    def __init__(self, profile: ServiceProfile, terms: S3Credentials) -> None:
        """Take the service and what its profile says of the key."""
        self._profile, self._terms = profile, terms
        self._id, self._secret = terms.key_id_variable, terms.secret_variable
        self._iam = IamKeys(terms)

    def observe(self) -> CredentialFacts:
        """Return how the user's keys are now; refuse what could not be rotated without harm."""
        present = read_variables(self._profile)
        keys = self._iam.list_keys()
        names = f"{self._id} and {self._secret}"
        return CredentialFacts(
            credential="s3",
            identity=self._profile.application.process_name,
            variables={
                name: fingerprint(self._profile, name, present[name])[:12] if name in present else None
                for name in (self._id, self._secret)
            },
            provider={key.key_id: _say_status(key) for key in keys.values()},
            making=f"Make a second access key of the IAM user {self._terms.user}",
            testing=(
                f"Put, get, presign and delete an object at s3://{self._terms.bucket}/{self._terms.prefix} "
                "with it, as soon as S3 knows it"
            ),
            proving=f"Compare the fingerprints of {names} that every process runs with",
            undoing="it is deleted at IAM",
            stages=(
                Stage(name=INACTIVE, after=self._terms.grace),
                Stage(name=DELETE, after=self._terms.soak),
            ),
            refusal=self._refuse(present, keys),
        )

    def make(self, rotation: str, before: Mapping[str, str]) -> Kept:
        """Return a new key of the user; raise ``RefusedError`` if the user has two by now."""
        del before
        made = self._iam.create()
        return Kept(rotation, {self._id: made.key_id, self._secret: made.secret}, {_KEY_ID: made.key_id})

    def discard(
        self, rotation: str, before: Mapping[str, str], pending: Kept | None, making: datetime | None = None
    ) -> None:
        """Delete the key that was made.

        Where its answer never came, it is the one that was not there before, that the env file does not have,
        that was never used, and that was made when ours was ordered: nobody knows its secret. Another one is
        a person's, and is left.
        """
        del rotation
        present = read_variables(self._profile)
        if pending is not None:
            # One of a rotation in grace, whose secret is in the env file alone, is known by its id.
            self._delete_unused(pending.facts.get(_KEY_ID, pending.value(self._id)), present)
        else:
            time.sleep(_LATE_SECONDS)
            for key in self._iam.list_keys().values():
                if key.key_id in before or self._iam.find_last_use(key.key_id) is not None:
                    continue
                if _is_made_about(key, making):
                    self._delete_unused(key.key_id, present)
                elif key.key_id != present.get(self._id):
                    get_run_logger().warning(
                        "%s has a key that no rotation is known to have made, and it is left: %s. If nobody "
                        "needs it, delete it.",
                        self._terms.user,
                        self._describe(key),
                    )
        if present.get(self._id) and present.get(self._secret):
            self._open(Kept("", {**present}), "the old key").clear()

    def put_in_force(self, pending: Kept, previous: Kept) -> None:
        """A key works from its creation on."""

    def put_back(self, pending: Kept, previous: Kept) -> None:
        """The old key worked all the time."""

    def accepts(self, values: Kept) -> bool:
        """Return whether the bucket's store knows the key."""
        if not values.value(self._id) or not values.value(self._secret):
            return False
        return self._open(values, f"the key of {self._id}").knows_key()

    def exercise(self, pending: Kept, previous: Kept) -> None:
        """Wait until the store knows the new key; raise ``RunbookError`` if it may less than the old one."""
        if not comes_true(lambda: self.accepts(pending), KNOWN_EVERYWHERE_SECONDS):
            raise UnreachableError(
                f"{self._profile.name}: S3 does not know the new key after {KNOWN_EVERYWHERE_SECONDS:g} s."
            )
        refused = self._open(pending, "the new key").find_refused()
        if refused and self.accepts(previous):
            refused -= self._open(previous, "the old key").find_refused()
            if refused:
                raise RunbookError(
                    f"{self._profile.name}: the new key may not {', '.join(sorted(refused))} in the bucket "
                    f"{self._terms.bucket}, which the old one may: see the policies of {self._terms.user}."
                )

    def prove_application(self, pending: Kept, previous: Kept) -> str | None:
        """Return None: what an application does with its bucket is its own affair."""

    def find_use(self, stage: str, previous: Kept) -> str | None:
        """Return when the old key was used within the grace, or that somebody wants it again; else None."""
        old = previous.value(self._id)
        if stage == DELETE:
            key = self._iam.list_keys().get(old)
            return "somebody made it active again" if key is not None and key.is_active else None
        used = self._iam.find_last_use(old)
        if used is None or datetime.now(UTC) - used >= self._terms.grace:
            return None
        return f"it was used at {used.astimezone(self._profile.zone):%Y-%m-%d %H:%M %Z}"

    def retire(self, stage: str, pending: Kept, previous: Kept) -> None:
        """Make the old key inactive, or delete it; raise ``RefusedError`` if it is in force again."""
        old = previous.value(self._id)
        if old == pending.value(self._id):
            raise RefusedError(
                f"{self._profile.name}: {self._id} in {self._profile.env_path} is the old key again, beside "
                f"another {self._secret}: put the new key there, both of it."
            )
        if stage == INACTIVE:
            self._iam.make_inactive(old)
        else:
            self._iam.delete(old)

    def prove_refused(self, stage: str, previous: Kept) -> str:
        """Return how the old key was refused; raise ``RefusedError`` if S3 still takes it."""
        if not comes_true(lambda: not self.accepts(previous), _GONE_EVERYWHERE_SECONDS):
            raise RefusedError(
                f"{self._profile.name}: S3 still accepts the old key {previous.value(self._id)} after "
                f"{_GONE_EVERYWHERE_SECONDS:g} s: see its status at IAM."
            )
        how = "inactive" if stage == INACTIVE else "deleted"
        return f"The old key is {how}, and S3 refuses it (InvalidAccessKeyId)."

    def _refuse(self, present: Mapping[str, str], keys: Mapping[str, UserKey]) -> str | None:
        key_id, user = present.get(self._id, ""), self._terms.user
        for name in (self._id, self._secret):
            if not present.get(name):
                return f"{name} is not set in {self._profile.env_path}: the application needs it, set it."
        if (other := find_other_user(self._profile, self._terms, key_id)) is not None:
            return (
                f"{self._id} is the very key that {other} uses, which would stop working: make an IAM user "
                "of the application's own, with a key of its own, and put that into the env file."
            )
        if key_id not in keys and self.accepts(Kept("", {**present})):
            return f"{self._id} is a key of another user than {user}: correct credentials.s3.user."
        if len(keys) >= MOST_KEYS and self._find_own_old_key() not in keys:
            return self._say_full([key for key in keys.values() if key.key_id != key_id])
        return None

    def _find_own_old_key(self) -> str | None:
        """Return the old key of a rotation that is in grace: it is ours, and goes first."""
        previous = read_kept(self._profile, "s3", "previous")
        if previous is None or read_open(self._profile, "s3") is None:
            return None
        return previous.value(self._id)

    def _say_full(self, others: list[UserKey]) -> str:
        said = "; ".join(self._describe(key) for key in others)
        return (
            f"{self._terms.user} has two keys already, the most that IAM allows, and what is not the "
            f"application's is never deleted to make room: {said}. If nobody needs it, delete it: aws iam "
            f"delete-access-key --user-name {self._terms.user} --access-key-id {others[0].key_id}."
        )

    def _describe(self, key: UserKey) -> str:
        used = self._iam.find_last_use(key.key_id)
        made = f"made {key.made_at:%Y-%m-%d}, " if key.made_at else ""
        last = f"last used {used:%Y-%m-%d}" if used else "never used as far as IAM knows"
        return f"{key.key_id} ({_say_status(key)}, {made}{last})"

    def _delete_unused(self, key_id: str, present: Mapping[str, str]) -> None:
        if key_id and key_id != present.get(self._id):
            self._iam.delete(key_id)

    def _open(self, values: Kept, whose: str) -> Bucket:
        return Bucket(
            self._terms, self._profile.name, values.value(self._id), values.value(self._secret), whose
        )


def _is_made_about(key: UserKey, moment: datetime | None) -> bool:
    return moment is not None and key.made_at is not None and abs(key.made_at - moment) <= _ABOUT


def _say_status(key: UserKey) -> str:
    return "active" if key.is_active else "inactive"
