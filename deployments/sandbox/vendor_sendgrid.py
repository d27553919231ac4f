"""SendGrid in small: keys with scopes, and mails that are kept instead of sent."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.sandbox import vendor_sendgrid_keys as keys
from deployments.sandbox.vault import Vault
from deployments.sandbox.vendor_protocol import Act, Conduct, VendorAnswer, VendorRequest
from deployments.sandbox.vendor_sendgrid_keys import SendGridError
from deployments.sandbox.vendor_sendgrid_mail import find_wrong
from deployments.sandbox.vendor_state import VendorState

KEY = "propertypulse-sendgrid-key"
MAIL_KEY = "mail-key"
MANAGER_KEY = "sendgrid-manager-key"
_ONE_KEY = re.compile(r"/v3/api_keys/(?P<identity>[\w-]+)")


def first_key(vault: Vault) -> str:
    """Return the key that the application has from its first day."""
    return keys.KEY_PREFIX + vault.once(KEY, lambda: keys.new_key().removeprefix(keys.KEY_PREFIX))


def mail_key(vault: Vault) -> str:
    """Return the key that the escalation sends with, which is not the application's."""
    if vault.once(MAIL_KEY, keys.new_key) == first_key(vault):
        # A sandbox from the time when both sent with the same one.
        vault.write(MAIL_KEY, keys.new_key())
    return vault.read(MAIL_KEY)


def manager_key(vault: Vault) -> str:
    """Return the operator's key that makes and deletes others."""
    return vault.once(MANAGER_KEY, keys.new_key)


class SendGrid:
    """One account with its keys."""

    name = "sendgrid"
    dashboard: Mapping[str, Act] = {}

    def __init__(self, vault: Vault, state: Path) -> None:
        """Take where the first keys are, and where it keeps what it knows."""
        self._vault = vault
        self._state = VendorState(state / "sendgrid.json", self._first)
        self.kept: list[dict[str, Any]] = []

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Answer a request as api.sendgrid.com does."""
        try:
            with self._state.opened() as document:
                record = keys.authenticate(document, request.key, conduct)
                if request.path.startswith("/v3/api_keys"):
                    return _manage(document, record, request)
        except SendGridError as error:
            return VendorAnswer(error.status, error.body)
        if (request.method, request.path) == ("GET", "/v3/scopes"):
            return VendorAnswer(200, {"scopes": record["scopes"]})
        if (request.method, request.path) == ("POST", "/v3/mail/send"):
            return self._send(record, request)
        return self.fail(404)

    def fail(self, status: int) -> VendorAnswer:
        """Answer in SendGrid's words that something failed."""
        words = {403: "access forbidden", 404: "not found", 429: "too many requests"}
        return VendorAnswer(status, SendGridError(status, words.get(status, "internal error")).body)

    def _send(self, record: dict[str, Any], request: VendorRequest) -> VendorAnswer:
        try:
            keys.permit(record, "mail.send")
            mail = _read_mail(request.body)
        except SendGridError as error:
            return VendorAnswer(error.status, error.body)
        if mail.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            return VendorAnswer(200, {})
        self.kept.append(mail)
        return VendorAnswer(202, {})

    def _first(self) -> dict[str, Any]:
        return {
            "keys": [
                keys.record_of(first_key(self._vault), "propertypulse", keys.APPLICATION_SCOPES),
                keys.record_of(mail_key(self._vault), "runbooks: escalation", keys.MAIL_SCOPES),
                keys.record_of(manager_key(self._vault), "runbooks: manager", keys.MANAGER_SCOPES),
            ]
        }


def _read_mail(body: bytes) -> dict[str, Any]:
    try:
        mail: dict[str, Any] = json.loads(body)
    except ValueError:
        raise SendGridError(400, "Bad Request") from None
    if (wrong := find_wrong(mail)) is not None:
        raise SendGridError(400, *wrong)
    return mail


def _manage(document: dict[str, Any], record: dict[str, Any], request: VendorRequest) -> VendorAnswer:
    one = _ONE_KEY.fullmatch(request.path)
    identity = one["identity"] if one else ""
    match (request.method, bool(one), request.path):
        case ("GET", False, "/v3/api_keys"):
            keys.permit(record, "api_keys.read")
            return VendorAnswer(200, keys.list_keys(document))
        case ("POST", False, "/v3/api_keys"):
            keys.permit(record, "api_keys.create")
            return VendorAnswer(201, keys.make_key(document, record, request.body))
        case ("GET", True, _):
            keys.permit(record, "api_keys.read")
            return VendorAnswer(200, keys.find_key(document, identity))
        case ("PATCH", True, _):
            keys.permit(record, "api_keys.update")
            return VendorAnswer(200, keys.rename_key(document, identity, request.body))
        case ("PUT", True, _):
            keys.permit(record, "api_keys.update")
            return VendorAnswer(200, keys.change_key(document, record, identity, request.body))
        case ("DELETE", True, _):
            keys.permit(record, "api_keys.delete")
            keys.delete_key(document, identity)
            return VendorAnswer(204, {})
    raise SendGridError(404, "not found")
