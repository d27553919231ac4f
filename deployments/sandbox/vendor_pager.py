"""A pager in small, as one of the many that Apprise reaches: what is posted to it is kept."""

import json
from collections.abc import Mapping
from typing import Any

from deployments.sandbox.vault import Vault, plain_password
from deployments.sandbox.vendor_protocol import Act, Conduct, VendorAnswer, VendorRequest

TOKEN = "pager-token"


class Pager:
    """One account, whose token is a part of the address."""

    name = "pager"
    dashboard: Mapping[str, Act] = {}

    def __init__(self, vault: Vault) -> None:
        """Take where the account's token is kept."""
        self._vault = vault
        self.kept: list[dict[str, Any]] = []

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Keep a message that is posted as JSON."""
        token = self._vault.once(TOKEN, plain_password)
        if request.method != "POST" or request.path.strip("/") != token or token in conduct.revoked:
            return VendorAnswer(404, {"error": "There is no such pager."})
        self.kept.append(json.loads(request.body))
        return VendorAnswer(200, {"ok": True})

    def fail(self, status: int) -> VendorAnswer:
        """Answer that something failed."""
        return VendorAnswer(status, {"error": "Something failed."})
