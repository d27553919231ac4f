"""The process of the vendors' doubles: `python -m deployments.sandbox.vendors_server STATE PORT`.

Each vendor is below its name: /stripe/v1/balance, /sendgrid/v3/scopes, /google/token, /pager. What
people were sent is kept and read at /control/sendgrid/kept and /control/pager/kept. How it
behaves is changed through /control, with the secret of the vault, and outlives the process.
"""

import hmac
import json
import sys
import time
from dataclasses import asdict
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

from deployments.sandbox.ports import HOST
from deployments.sandbox.vault import Vault, write_private
from deployments.sandbox.vendor_google import Google
from deployments.sandbox.vendor_pager import Pager
from deployments.sandbox.vendor_protocol import MODES, Conduct, Vendor, VendorAnswer, VendorRequest
from deployments.sandbox.vendor_sendgrid import SendGrid
from deployments.sandbox.vendor_stripe import Stripe

CONTROL = "vendors-control"
_POLL_SECONDS = 0.05


class Doubles(ThreadingHTTPServer):
    """All vendors, on one port of this host."""

    daemon_threads = True

    def __init__(self, state: Path, port: int) -> None:
        """Listen, and behave as was told last."""
        vault = Vault(state / "secrets")
        address = f"http://{HOST}:{port}"
        vendors: list[Vendor] = [
            Google(vault, f"{address}/google"),
            Stripe(vault),
            SendGrid(vault),
            Pager(vault),
        ]
        self.vendors = {vendor.name: vendor for vendor in vendors}
        self.control_secret = vault.read(CONTROL)
        self._file = state / "vendors.json"
        told = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.conducts = {name: _conduct(told.get(name, {})) for name in self.vendors}
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who 127.0.0.1 is, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def conduct_vendor(self, name: str, change: dict[str, object]) -> None:
        """Let a vendor behave otherwise from now on."""
        self.conducts[name] = _conduct({**asdict(self.conducts[name]), **change})
        write_private(self._file, json.dumps({key: asdict(value) for key, value in self.conducts.items()}))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Doubles
    _clock_ahead = 0.0

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        name, _, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        self._clock_ahead = 0.0
        if name == "control":
            return self._answer(self._control(VendorRequest(self.command, rest, headers, body)))
        vendor = self.server.vendors.get(name)
        if vendor is None:
            return self._answer(VendorAnswer(404, {"error": "There is no such vendor here."}))
        while self.server.conducts[name].mode == "hanging":
            time.sleep(_POLL_SECONDS)
        conduct = self.server.conducts[name]
        self._clock_ahead = conduct.clock_ahead
        if conduct.mode == "down":
            return self._answer(VendorAnswer(503, {"message": "Service Unavailable"}))
        return self._answer(vendor.answer(VendorRequest(self.command, f"/{rest}", headers, body), conduct))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815  the names that the base class calls

    def _control(self, request: VendorRequest) -> VendorAnswer:
        if not hmac.compare_digest(request.key or "", self.server.control_secret):
            return VendorAnswer(401, {"error": "The control path wants its secret as bearer token."})
        name, _, what = request.path.partition("/")
        if what == "kept" and name in self.server.vendors:
            return VendorAnswer(200, {"kept": getattr(self.server.vendors[name], "kept", [])})
        if request.path not in self.server.vendors:
            return VendorAnswer(404, {"error": "There is no such vendor here."})
        if request.method == "PUT":
            self.server.conduct_vendor(request.path, json.loads(request.body))
        return VendorAnswer(200, asdict(self.server.conducts[request.path]))

    def _answer(self, answer: VendorAnswer) -> None:
        content = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the vendor's own time, for the Date header."""
        return formatdate((timestamp or time.time()) + self._clock_ahead, usegmt=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
        """Keep quiet: what goes wrong is in the answer."""


def _conduct(told: dict[str, object]) -> Conduct:
    conduct = Conduct(**{**told, "revoked": tuple(told.get("revoked", ()))})  # type: ignore[arg-type]
    if conduct.mode not in MODES:
        raise ValueError(f"A vendor is one of {', '.join(MODES)}, not {conduct.mode}.")
    return conduct


if __name__ == "__main__":
    Doubles(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
