"""The process of the vendors' doubles: `python -m deployments.sandbox.vendors_server STATE` and four ports.

They are its own, PropertyPulse's, that of IAM and the object store's.

Each vendor is below its name: /stripe/v1/balance, /sendgrid/v3/scopes, /google/token, /pager. What
people were sent is kept and read at /control/sendgrid/kept and /control/pager/kept. How it
behaves is changed through /control, with the secret of the vault; what a person does in a vendor's web pages
is done at /control/stripe/roll_key. All of it outlives the process.
"""

import hmac
import json
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from deployments.sandbox.iam_front import IamFront
from deployments.sandbox.ports import HOST
from deployments.sandbox.vault import Vault, write_private
from deployments.sandbox.vendor_google import Google
from deployments.sandbox.vendor_iam import Iam
from deployments.sandbox.vendor_pager import Pager
from deployments.sandbox.vendor_protocol import MODES, Conduct, Fault, Vendor, VendorAnswer, VendorRequest
from deployments.sandbox.vendor_sendgrid import SendGrid
from deployments.sandbox.vendor_stripe import Stripe

CONTROL = "vendors-control"
_POLL_SECONDS = 0.05


class Doubles(ThreadingHTTPServer):
    """All vendors, on one port of this host."""

    daemon_threads = True

    def __init__(self, state: Path, port: int, application_port: int, store_port: int) -> None:
        """Listen, and behave as was told last."""
        vault = Vault(state / "secrets")
        address = f"http://{HOST}:{port}"
        self.iam = Iam(vault, state / "vendors", f"http://{HOST}:{store_port}")
        vendors: list[Vendor] = [
            Google(vault, f"{address}/google"),
            Stripe(vault, state / "vendors", f"http://{HOST}:{application_port}"),
            SendGrid(vault, state / "vendors"),
            Pager(vault),
            self.iam,
        ]
        self.vendors = {vendor.name: vendor for vendor in vendors}
        self.control_secret = vault.read(CONTROL)
        self._file = state / "vendors.json"
        self._lock = threading.Lock()
        told = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.conducts = {name: _conduct(told.get(name, {})) for name in self.vendors}
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who 127.0.0.1 is, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def conduct_vendor(self, name: str, change: dict[str, object]) -> None:
        """Let a vendor behave otherwise from now on."""
        with self._lock:
            self._write(name, _conduct({**asdict(self.conducts[name]), **change}))

    def befall(self, name: str, request: VendorRequest) -> Fault | None:
        """Return what becomes of a request instead of what it asks for, once less from now on."""
        with self._lock:
            conduct = self.conducts[name]
            found = next((fault for fault in conduct.faults if fault.matches(request)), None)
            if found is not None:
                left = [replace(one, times=one.times - (one is found)) for one in conduct.faults]
                self._write(name, replace(conduct, faults=tuple(one for one in left if one.times > 0)))
            return found

    def _write(self, name: str, conduct: Conduct) -> None:
        self.conducts[name] = conduct
        write_private(self._file, json.dumps({key: asdict(value) for key, value in self.conducts.items()}))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Doubles
    _clock_ahead = 0.0

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path, _, query = self.path.partition("?")
        name, _, rest = path.removeprefix("/").partition("/")
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
        return self._answer_or_fail(
            vendor, VendorRequest(self.command, f"/{rest}", headers, body, query), conduct
        )

    def _answer_or_fail(self, vendor: Vendor, request: VendorRequest, conduct: Conduct) -> None:
        fault = self.server.befall(vendor.name, request)
        if fault is None:
            return self._answer(vendor.answer(request, conduct))
        if fault.works:
            vendor.answer(request, conduct)
        if fault.status is not None:
            return self._answer(vendor.fail(fault.status))
        self.close_connection = True
        # Nothing comes, until the client has enough and closes.
        while self.connection.recv(1, socket.MSG_PEEK):
            time.sleep(_POLL_SECONDS)
        return None

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815  the names that the base class calls

    def _control(self, request: VendorRequest) -> VendorAnswer:
        if not hmac.compare_digest(request.key or "", self.server.control_secret):
            return VendorAnswer(401, {"error": "The control path wants its secret as bearer token."})
        name, _, what = request.path.partition("/")
        vendor = self.server.vendors.get(name)
        if vendor is None or not (what in {"", "kept"} or what in vendor.dashboard):
            return VendorAnswer(404, {"error": "There is no such vendor or page here."})
        try:
            if what == "kept":
                return VendorAnswer(200, {"kept": getattr(vendor, "kept", [])})
            if what:
                return VendorAnswer(200, vendor.dashboard[what](json.loads(request.body)))
            if request.method == "PUT":
                self.server.conduct_vendor(name, json.loads(request.body))
        except (KeyError, TypeError, ValueError) as error:
            return VendorAnswer(400, {"error": f"{type(error).__name__}: {error}"})
        return VendorAnswer(200, asdict(self.server.conducts[name]))

    def _answer(self, answer: VendorAnswer) -> None:
        content = b"" if answer.status == HTTPStatus.NO_CONTENT else json.dumps(answer.body).encode()
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


def _conduct(told: Mapping[str, Any]) -> Conduct:
    given: dict[str, Any] = {**told, "revoked": tuple(told.get("revoked", ()))}
    given["faults"] = tuple(Fault(**fault) for fault in told.get("faults", ()))
    conduct = Conduct(**given)
    if conduct.mode not in MODES:
        raise ValueError(f"A vendor is one of {', '.join(MODES)}, not {conduct.mode}.")
    return conduct


if __name__ == "__main__":
    _port, _application, _iam, _store = map(int, sys.argv[2:])
    _doubles = Doubles(Path(sys.argv[1]), _port, _application, _store)
    _front = IamFront(_doubles.iam, _doubles, _iam, _store)
    threading.Thread(target=_front.serve_forever, daemon=True).start()
    _doubles.serve_forever()
