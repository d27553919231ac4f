"""Runbook row P7b: the key that the application sends mail with.

The operator's manager key makes a new one with the same scopes, and deletes the old one by its id, which is
the middle part of a key. The new one's name carries the rotation's id, so that it is found after a kill.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from tasks.credentials import resolve
from tasks.environment_file import read_variables
from tasks.errors import AccessDeniedError, DeadCredentialError, RefusedError, RunbookError, UnreachableError
from tasks.known_good import fingerprint
from tasks.patience import comes_true
from tasks.records.credential_care import SendGridKey
from tasks.records.rotation import CredentialFacts, Kept, Stage
from tasks.records.service import ServiceProfile
from tasks.sendgrid_asking import ask_sendgrid, open_sendgrid

MOST_KEYS: Final = 100
_FORM: Final = re.compile(r"SG\.(?P<id>[\w-]+)\.[\w-]+")
_MARK: Final = re.compile(r" rotated \d{8}T\d{6}-[0-9a-f]{6}$")
_LONGEST_NAME: Final = 60
# SendGrid puts these on every key by itself.
_ITS_OWN: Final = frozenset({"2fa_required", "sender_verification_eligible"})
_SENDS: Final = "mail.send"
_KNOWN_EVERYWHERE_SECONDS = 60.0
_GONE_EVERYWHERE_SECONDS = 15.0
_MANAGER: Final = "the key of credentials.sendgrid_key.manager_key"


class SendGridRotator:
    """One key of the account, and the operator's that makes and deletes it."""

    def __init__(self, profile: ServiceProfile, terms: SendGridKey) -> None:
        """Take the service and what its profile says of the key."""
        self._profile, self._terms = profile, terms

    def observe(self) -> CredentialFacts:
        """Return how the key is now; refuse what could not be rotated without harm."""
        key = read_variables(self._profile).get(self._terms.variable, "")
        names = self._list_names()
        identity = _read_id(key)
        name = names.get(identity)
        return CredentialFacts(
            credential="sendgrid-key",
            identity=self._profile.application.process_name,
            variables={
                self._terms.variable: fingerprint(self._profile, self._terms.variable, key)[:12]
                if key
                else None
            },
            provider={} if name is None else {identity: name},
            making="Make a SendGrid key with the scopes of the present one",
            testing="Read its scopes with it, and send a mail in sandbox mode, which is never delivered",
            proving=f"Compare the fingerprint of {self._terms.variable} that every process runs with",
            undoing="it is deleted at SendGrid",
            stages=(Stage(name="delete the old key at SendGrid", after=self._terms.grace),),
            refusal=self._refuse(key, names),
        )

    def make(self, rotation: str, before: Mapping[str, str]) -> Kept:
        """Return a new key with the scopes of the present one; what this rotation made before is deleted."""
        old = _read_id(read_variables(self._profile).get(self._terms.variable, ""))
        self.discard(rotation, before, None)
        scopes = self._read_scopes(old)
        name = _MARK.sub("", before.get(old, self._profile.name))[:_LONGEST_NAME]
        body = {"name": f"{name} rotated {rotation}", "scopes": sorted(scopes)}
        made = self._manage(lambda api: api.post(request_body=body))
        return Kept(
            rotation,
            {self._terms.variable: made["api_key"]},
            {"key_id": made["api_key_id"], "old_key_id": old, "scopes": " ".join(sorted(scopes))},
        )

    def discard(
        self, rotation: str, before: Mapping[str, str], pending: Kept | None, making: datetime | None = None
    ) -> None:
        """Delete the keys whose name carries this rotation's id."""
        del pending, making
        for identity, name in self._list_names().items():
            if name.endswith(f" rotated {rotation}") and identity not in before:
                self._delete(identity)

    def put_in_force(self, pending: Kept, previous: Kept) -> None:
        """A key works from its creation on."""

    def put_back(self, pending: Kept, previous: Kept) -> None:
        """The old key worked all the time."""

    def accepts(self, values: Kept) -> bool:
        """Return whether SendGrid knows the key."""
        try:
            self._ask_scopes(values)
        except DeadCredentialError:
            return False
        except AccessDeniedError:
            return True
        return True

    def exercise(self, pending: Kept, previous: Kept) -> None:
        """Wait until SendGrid knows the key; raise ``RunbookError`` if it lacks a scope or cannot send."""
        del previous
        if not comes_true(lambda: self.accepts(pending), _KNOWN_EVERYWHERE_SECONDS):
            raise UnreachableError(
                f"{self._profile.name}: SendGrid refuses the new key, {_KNOWN_EVERYWHERE_SECONDS:g} s old."
            )
        wanted = set(pending.facts["scopes"].split())
        if missing := sorted(wanted - self._ask_scopes(pending)):
            raise RunbookError(f"{self._profile.name}: the new SendGrid key lacks {', '.join(missing)}.")
        if _SENDS in wanted:
            self._send_nothing(pending)

    def prove_application(self, pending: Kept, previous: Kept) -> str | None:
        """Return None: no mail is sent to somebody only to prove it."""

    def find_use(self, stage: str, previous: Kept) -> str | None:
        """Return None: SendGrid does not tell when a key was used."""

    def retire(self, stage: str, pending: Kept, previous: Kept) -> None:
        """Delete the old key."""
        del stage
        old = _read_id(previous.value(self._terms.variable))
        if old != _read_id(pending.value(self._terms.variable)):
            self._delete(old)

    def prove_refused(self, stage: str, previous: Kept) -> str:
        """Return how the old key was refused; raise ``RefusedError`` if SendGrid still takes it."""
        del stage
        if not comes_true(lambda: not self.accepts(previous), _GONE_EVERYWHERE_SECONDS):
            raise RefusedError(
                f"{self._profile.name}: SendGrid still accepts the old key: delete it there, at API Keys."
            )
        return "SendGrid refuses the old key (401)."

    def _refuse(self, key: str, names: Mapping[str, str]) -> str | None:
        variable, identity = self._terms.variable, _read_id(key)
        if not identity:
            return (
                f"{variable} in {self._profile.env_path} is no SendGrid key (SG.id.secret): correct it first."
            )
        escalation = self._profile.escalation.sendgrid_key
        for whose, reference in (
            ("the escalation sends with", escalation),
            ("makes others", self._terms.manager_key),
        ):
            if reference is not None and _read_id(resolve(reference)) == identity:
                return (
                    f"{variable} is the very key that {whose} ({reference}), which would stop working: make "
                    "one of its own for that at SendGrid, and put it there."
                )
        if identity not in names:
            return (
                f"the manager key's account at SendGrid has no key with the id of {variable}, so nobody "
                "knows its scopes: make a new one by hand, or name the manager key of the right account."
            )
        if len(names) >= MOST_KEYS:
            return f"SendGrid has {MOST_KEYS} keys already, the most it allows: delete one that is not used."
        own = set(
            ask_sendgrid(self._open(resolve(self._terms.manager_key)).scopes.get, _MANAGER).to_dict["scopes"]
        )
        if missing := sorted(self._read_scopes(identity) - own):
            return (
                f"the manager key cannot give {', '.join(missing)}, which the present key has: give it these "
                "scopes too."
            )
        return None

    def _send_nothing(self, pending: Kept) -> None:
        client = self._open(pending.value(self._terms.variable))
        mail = {
            "personalizations": [{"to": [{"email": self._terms.sender}]}],
            "from": {"email": self._terms.sender},
            "subject": "A key is being rotated",
            "content": [{"type": "text/plain", "value": "This is checked and never delivered."}],
            "mail_settings": {"sandbox_mode": {"enable": True}},
        }
        ask_sendgrid(partial(client.mail.send.post, request_body=mail), "a mail with the new key")

    def _ask_scopes(self, values: Kept) -> set[str]:
        client = self._open(values.value(self._terms.variable))
        return set(ask_sendgrid(client.scopes.get, self._terms.variable).to_dict["scopes"])

    def _read_scopes(self, identity: str) -> set[str]:
        found = self._manage(lambda api: api._(identity).get())
        whole = found["result"][0] if "result" in found else found
        return {*whole["scopes"]} - _ITS_OWN

    def _list_names(self) -> dict[str, str]:
        return {one["api_key_id"]: one["name"] for one in self._manage(lambda api: api.get())["result"]}

    def _delete(self, identity: str) -> None:
        if identity in self._list_names():
            self._manage(lambda api: api._(identity).delete())

    def _manage(self, act: Any) -> dict[str, Any]:
        client = self._open(resolve(self._terms.manager_key))
        answer = ask_sendgrid(lambda: act(client.api_keys), _MANAGER)
        return dict(answer.to_dict or {})

    def _open(self, key: str) -> Any:
        return open_sendgrid(key, self._terms.url).client


def _read_id(key: str) -> str:
    found = _FORM.fullmatch(key)
    return found["id"] if found else ""
