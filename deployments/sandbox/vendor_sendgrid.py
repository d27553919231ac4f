"""SendGrid in small: the key is checked, and its scopes are told."""

from deployments.sandbox.vault import Vault
from deployments.sandbox.vendor_protocol import Conduct, VendorAnswer, VendorRequest

KEY = "propertypulse-sendgrid-key"
KEY_PREFIX = "SG."
_SCOPES = ["mail.send", "mail.batch.create", "scopes.read", "stats.read", "suppression.read"]


class SendGrid:
    """One account, with the one key that the vault knows."""

    name = "sendgrid"

    def __init__(self, vault: Vault) -> None:
        """Take where the account's key is kept."""
        self._vault = vault

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Answer a request as api.sendgrid.com does."""
        key = request.key
        if key is None:
            return _refuse(401, "authorization required")
        if key in conduct.revoked or key != KEY_PREFIX + self._vault.read(KEY):
            return _refuse(401, "The provided authorization grant is invalid, expired, or revoked")
        if (request.method, request.path) == ("GET", "/v3/scopes"):
            return VendorAnswer(200, {"scopes": _SCOPES})
        return _refuse(404, "not found")


def _refuse(status: int, message: str) -> VendorAnswer:
    return VendorAnswer(status, {"errors": [{"field": None, "message": message, "help": None}]})
