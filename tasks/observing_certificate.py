"""Whether the certificate that users meet is one that their clients accept, and how long it will be."""

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import UnreachableError
from tasks.http_exchange import explain, trust
from tasks.records.evidence import CertificateFacts
from tasks.records.figures import shorten
from tasks.records.service import ServiceProfile
from tasks.time_limits import run_together

_SECONDS = 4.0
_HTTPS_PORT = 443
_MOST_NAMES = 4
_LONGEST_ISSUER = 80
# OpenSSL's X509_V_ERR_*.
_OUT_OF_TIME = {9, 10}
_OTHER_HOST = {62, 64}
_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_certificate(profile: ServiceProfile) -> CertificateFacts | None:
    """Given a service, return how the certificate of its https URL is; None if neither URL is https.

    The URL is the public one, or else that of its health. Raise ``UnreachableError`` if nobody shows one.
    """
    urls = (profile.application.public_url, profile.application.health_url)
    url = next((url for url in urls if url and url.startswith("https:")), None)
    if url is None:
        return None
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _HTTPS_PORT
    trusted, trusting = trust(), httpx.create_ssl_context(verify=False)
    acts: list[Callable[[], bytes | Exception]] = [
        partial(_shake_hands, host, port, context) for context in (trusting, trusted)
    ]
    shown, accepted = run_together(acts, _SECONDS)
    refused = accepted if isinstance(accepted, ssl.SSLCertVerificationError) else None
    if not isinstance(shown, bytes) or not (refused or isinstance(accepted, bytes)):
        failed = next(one for one in (shown, accepted) if not isinstance(one, bytes))
        why = explain(failed or TimeoutError(), _SECONDS)[1]
        raise UnreachableError(f"{profile.name}: {url} shows no certificate: {why}.")
    certificate = x509.load_der_x509_certificate(shown)
    return CertificateFacts(
        where=f"{host}:{port}",
        ends_at=certificate.not_valid_after_utc,
        problem=f"It {_say_problem(certificate, refused, host)}." if refused else None,
    )


def _shake_hands(host: str, port: int, context: ssl.SSLContext) -> bytes | Exception:
    """Return the certificate that the server shows, or why there is none."""
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""
    except OSError as error:
        return error


def _say_problem(certificate: x509.Certificate, refused: ssl.SSLCertVerificationError, host: str) -> str:
    issuer = shorten(certificate.issuer.rfc4514_string() or "nobody who is named", _LONGEST_ISSUER)
    if refused.verify_code in _OUT_OF_TIME:
        now = datetime.now(UTC)
        if certificate.not_valid_after_utc <= now:
            return f"ended on {_say(certificate.not_valid_after_utc)}; {issuer} issued it"
        if certificate.not_valid_before_utc > now:
            return f"is not valid before {_say(certificate.not_valid_before_utc)}; {issuer} issued it"
        return f"rests on a certificate that is out of its time ({refused.verify_message})"
    if refused.verify_code in _OTHER_HOST:
        return f"is for {_list_names(certificate)} and not for {host}"
    if refused.verify_code in _UNKNOWN_ISSUER:
        return f"was issued by nobody whom this host trusts, but by {issuer}"
    return f"is refused ({refused.verify_message}); {issuer} issued it"


def _list_names(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string() or "nobody"
    names = [str(name.value) for name in found]
    return shorten(", ".join(names[:_MOST_NAMES]) + (" and others" if names[_MOST_NAMES:] else ""))


def _say(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
