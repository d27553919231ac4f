"""HTTPS in the sandbox: an authority, certificates for the applications, and the front as a part."""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from deployments.sandbox import tls_front
from deployments.sandbox.ports import HOST
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import write_private

NAME = "localhost"
AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the sandbox")])
LIFETIME = timedelta(days=3650)
START_SECONDS = 20
STOP_SECONDS = 2


class TlsFront:
    """One process that ends TLS before every application."""

    name = "tls-front"

    def __init__(self, supervisor: Supervisor, fronts: Mapping[str, tuple[int, int]]) -> None:
        """Take, for every application, the port to listen on and the port to pass on to."""
        self._supervisor = supervisor
        self._fronts = fronts
        self._folder = supervisor.state / "tls"

    @property
    def trusted(self) -> Path:
        """Return the file of authorities that a client of the front must trust: SSL_CERT_FILE."""
        return self._folder / "trusted.pem"

    def prepare(self) -> None:
        """Make the authority, the certificates, and the file of what is trusted, unless they are there."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = self._folder / "authority.pem"
        if not authority.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(authority, _in_pem(_certify_authority(key), key))
        for application in self._fronts:
            if not self.certificate(application).exists():
                self.issue(application, datetime.now(UTC) + LIFETIME)
        # SSL_CERT_FILE replaces what is trusted otherwise, so that goes along.
        known = Path(os.environ.get("SSL_CERT_FILE") or certifi.where())
        if known != self.trusted:
            ours = x509.load_pem_x509_certificate(authority.read_bytes()).public_bytes(Encoding.PEM)
            text = known.read_text(encoding="utf-8") if known.is_file() else ""
            write_private(self.trusted, f"{text}\n{ours.decode('ascii')}")

    def certificate(self, application: str) -> Path:
        """Return the file with an application's certificate and its key."""
        return self._folder / f"{application}.pem"

    def issue(self, application: str, ends: datetime) -> None:
        """Give an application a certificate that ends then; the front takes it when it starts."""
        pem = (self._folder / "authority.pem").read_bytes()
        authority_key = load_pem_private_key(pem, None)
        if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
            raise TypeError("The authority of the sandbox has an elliptic curve key.")
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(IPv4Address(HOST))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        # Every sandbox's authority has the same name: this tells a client that knows several which it was.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        builder = _builder(subject, key, ends - LIFETIME, ends).add_extension(names, critical=False)
        builder = builder.add_extension(issuer, critical=False)
        certificate = builder.sign(authority_key, SHA256())
        write_private(self.certificate(application), _in_pem(certificate, key))

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the front unless it runs, and wait until it listens.

        Raises:
            SandboxError: it does not come up.
        """
        if not self.is_running():
            fronts = [f"{listen}:{target}:{name}" for name, (listen, target) in self._fronts.items()]
            command: list[str | Path] = [
                sys.executable,
                "-I",
                "-S",
                tls_front.__file__,
                self._folder,
                *fronts,
            ]
            self._supervisor.spawn(self.name, command)
        self._supervisor.wait_until(self.name, self._missing, seconds=START_SECONDS)

    def stop(self) -> None:
        """Stop the front."""
        self._supervisor.stop(self.name, signal.SIGTERM, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the process away with SIGKILL."""
        self._supervisor.kill(self.name)

    def _missing(self) -> str | None:
        try:
            for listen, _ in self._fronts.values():
                socket.create_connection((HOST, listen), timeout=1).close()
        except OSError as error:
            return type(error).__name__
        return None


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(AUTHORITY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _certify_authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = _builder(AUTHORITY, key, now - timedelta(days=1), now + LIFETIME)
    basic = x509.BasicConstraints(ca=True, path_length=0)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(basic, critical=True).add_extension(identifier, critical=False)
    return builder.sign(key, SHA256())


def _in_pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> str:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (certificate.public_bytes(Encoding.PEM) + private).decode("ascii")
