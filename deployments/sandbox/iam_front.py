"""IAM's own address, which is S3's too: calls of IAM are answered here, all else goes on to the object store.

On the way it looks at the key that a request carries: one that was made a moment ago is refused as AWS
refuses it, and a use is remembered.
"""

import hmac
import re
import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from deployments.sandbox.ports import HOST
from deployments.sandbox.vendor_iam import VERSION, Iam, IamError, read_call
from deployments.sandbox.vendor_protocol import Conduct, Fault, VendorRequest

_NAMESPACE = f"https://iam.amazonaws.com/doc/{VERSION}/"
_SECONDS = 30
_POLL_SECONDS = 0.05
_OWN_TO_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_CREDENTIAL = re.compile(r"Credential=(?P<key>\w+)/\d{8}/(?P<region>[\w-]+)/(?P<service>\w+)/aws4_request")
_SIGNATURE = re.compile(r"SignedHeaders=([\w;-]+), *Signature=([0-9a-f]{64})")
# AWS says that it is asked too often with a status of its own.
_FAILURES = {
    429: (400, "Throttling", "Rate exceeded"),
    403: (403, "AccessDenied", "User: operator is not authorized to perform this action"),
    503: (503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server."),
}
_INTERNAL = (500, "InternalFailure", "The request processing has failed because of an unknown error.")


class Conductor(Protocol):
    """Who knows how IAM behaves today."""

    @property
    def conducts(self) -> Mapping[str, Conduct]:
        """Return how each vendor behaves."""

    def befall(self, name: str, request: VendorRequest) -> Fault | None:
        """Return what becomes of a request instead of what it asks for."""


class IamFront(ThreadingHTTPServer):
    """IAM and S3 on one port of this host."""

    daemon_threads = True

    def __init__(self, iam: Iam, conductor: Conductor, port: int, store_port: int) -> None:
        """Listen; what is not for IAM goes on to the object store."""
        self.iam, self.conductor, self.store_port = iam, conductor, store_port
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who 127.0.0.1 is, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: IamFront

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        form = "x-www-form-urlencoded" in self.headers.get("Content-Type", "")
        if self.command == "POST" and self.path == "/" and form:
            return self._answer_iam(body)
        return self._pass_on(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  the names that the base class calls

    def _answer_iam(self, body: bytes) -> None:
        iam, conduct = self.server.iam, self.server.conductor.conducts["iam"]
        action = dict(parse_qsl(body.decode("utf-8", "replace"))).get("Action", "")
        if conduct.mode == "hanging":
            return self._say_nothing()
        if conduct.mode == "down":
            return self._fail(503)
        fault = self.server.conductor.befall("iam", VendorRequest(self.command, f"/{action}", {}, body))
        if fault is not None and not fault.works:
            return self._fail(fault.status)
        try:
            self._check_caller(body, conduct)
            call = read_call(body)
            result = iam.call(call, conduct)
        except IamError as error:
            self._send_iam(error.status, _error(error))
        except BotoCoreError:
            return self._fail(503)
        else:
            if fault is not None:
                return self._fail(fault.status)
            self._send_iam(200, _success(call.action, result))
        return None

    def _fail(self, status: int | None) -> None:
        if status is None:
            return self._say_nothing()
        error = IamError(*_FAILURES.get(status, _INTERNAL))
        return self._send_iam(error.status, _error(error))

    def _say_nothing(self) -> None:
        self.close_connection = True
        while self.connection.recv(1, socket.MSG_PEEK):
            time.sleep(_POLL_SECONDS)

    def _check_caller(self, body: bytes, conduct: Conduct) -> None:
        iam = self.server.iam
        authorization = self.headers.get("Authorization", "")
        credential, signature = _CREDENTIAL.search(authorization), _SIGNATURE.search(authorization)
        if credential is None or signature is None or credential["service"] != "iam":
            raise IamError(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
        key, (operator, secret) = credential["key"], iam.operator
        if key != operator and (iam.is_propagating(key, conduct) or not iam.knows(key)):
            message = "The security token included in the request is invalid."
            raise IamError(403, "InvalidClientTokenId", message)
        if key != operator:
            raise IamError(
                403, "AccessDenied", "The user of this key is not authorized to perform this action"
            )
        names = signature[1].split(";")
        request = AWSRequest("POST", f"http://{self.headers['Host']}/", data=body)
        for name in names:
            request.headers[name] = self.headers.get(name, "")
        request.context["timestamp"] = self.headers.get("X-Amz-Date", "")
        signer = SigV4Auth(Credentials(operator, secret), "iam", credential["region"])
        text = signer.string_to_sign(request, signer.canonical_request(request))
        if not hmac.compare_digest(signer.signature(text, request), signature[2]):
            message = "The request signature we calculated does not match the signature you provided."
            raise IamError(403, "SignatureDoesNotMatch", message)

    def _pass_on(self, body: bytes) -> None:
        iam, conduct = self.server.iam, self.server.conductor.conducts["iam"]
        query = dict(parse_qsl(self.path.partition("?")[2]))
        carried = self.headers.get("Authorization") or f"Credential={query.get('X-Amz-Credential', '')}"
        credential = _CREDENTIAL.search(carried)
        if credential is not None and iam.is_propagating(credential["key"], conduct):
            return self._refuse_key(credential["key"])
        connection = HTTPConnection(HOST, self.server.store_port, timeout=_SECONDS)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN_TO_A_CONNECTION:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            return self._send(502, {"Content-Type": "text/plain"}, b"The object store does not answer.")
        finally:
            connection.close()
        if credential is not None and not _is_unknown_key(answer, content):
            iam.note_use(credential["key"], credential["region"])
        headers = {
            name: value for name, value in answer.getheaders() if name.lower() not in _OWN_TO_A_CONNECTION
        }
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        return self._send(answer.status, headers, content, length)

    def _refuse_key(self, key: str) -> None:
        message = "The AWS Access Key Id you provided does not exist in our records."
        error = {"Code": "InvalidAccessKeyId", "Message": message, "AWSAccessKeyId": key}
        self._send(403, {"Content-Type": "application/xml"}, f"<Error>{_xml(error)}</Error>".encode())

    def _send_iam(self, status: int, content: str) -> None:
        self._send(status, {"Content-Type": "text/xml", "x-amzn-RequestId": "sandbox"}, content.encode())

    def _send(
        self, status: int, headers: Mapping[str, str], content: bytes, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
        """Keep quiet: what goes wrong is in the answer."""


def _is_unknown_key(answer: HTTPResponse, content: bytes) -> bool:
    refused = b"InvalidAccessKeyId" in content or b"SignatureDoesNotMatch" in content
    return answer.status == 403 and refused  # noqa: PLR2004  forbidden


def _success(action: str, result: Mapping[str, Any]) -> str:
    inner = f"<{action}Result>{_xml(result)}</{action}Result>" if result else ""
    metadata = "<ResponseMetadata><RequestId>sandbox</RequestId></ResponseMetadata>"
    return f'<{action}Response xmlns="{_NAMESPACE}">{inner}{metadata}</{action}Response>'


def _error(error: IamError) -> str:
    fields = {"Error": {"Type": "Sender", "Code": error.code, "Message": str(error)}, "RequestId": "sandbox"}
    return f'<ErrorResponse xmlns="{_NAMESPACE}">{_xml(fields)}</ErrorResponse>'


def _xml(value: object) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{name}>{_xml(part)}</{name}>" for name, part in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_xml(part)}</member>" for part in value)
    return escape(str(value))
