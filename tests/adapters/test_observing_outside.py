"""What is seen of a service from outside, against servers that behave and that do not."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tasks.errors import ConfigurationError, UnreachableError
from tasks.http_probe import observe_health, observe_public_health
from tasks.known_good import remember_healthy
from tasks.observing_authentication import observe_authentication
from tasks.observing_certificate import observe_certificate
from tasks.observing_clocks import observe_clocks
from tasks.observing_firebase import observe_firebase
from tasks.observing_upstreams import observe_upstreams
from tasks.records.application import Login
from tasks.records.outage_care import Firebase, Upstream
from tasks.records.service import ServiceProfile

SECRET = "a-secret-of-thirty-two-characters-or-more"
GOOGLE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Said:
    """What a server answers, and what it was asked."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    asked: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    then: Callable[["Said", str], None] | None = None


class Handler(BaseHTTPRequestHandler):
    said: Said

    def do_GET(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.said.asked.append((self.command, self.path, dict(self.headers), text))
        if self.said.then is not None:
            self.said.then(self.said, text)
        time.sleep(self.said.seconds)
        body = json.dumps(self.said.body).encode()
        self.send_response_only(self.said.status)
        for name, value in {"Content-Type": "application/json", **self.said.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(b"" if self.command == "HEAD" else body)

    do_POST = do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


Serve = Callable[[Said], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    def make(said: Said) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"said": said}))
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def profile(service: ServiceProfile, tmp_path: Path) -> ServiceProfile:
    """A service whose application's folder is the test's own."""
    (tmp_path / "application").mkdir()
    application = service.application.model_copy(
        update={"directory": tmp_path / "application", "login": None, "process_name": "nobody-has-this"}
    )
    return service.model_copy(update={"application": application, "firebase": Firebase()})


def changed(profile: ServiceProfile, **application: Any) -> ServiceProfile:
    return profile.model_copy(update={"application": profile.application.model_copy(update=application)})


def write_env(profile: ServiceProfile, **variables: str) -> None:
    profile.env_path.write_text("".join(f'{name}="{value}"\n' for name, value in variables.items()))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- health


def test_a_healthy_service_is_asked_three_times(serve: Serve, profile: ServiceProfile) -> None:
    found = observe_health.fn(changed(profile, health_url=serve(Said(body={"status": "OK"}))))
    assert found.problem is None
    assert [answer.status_code for answer in found.answers] == [200, 200, 200]


def test_a_blip_among_the_answers_is_kept(serve: Serve, profile: ServiceProfile) -> None:
    def blink(said: Said, _: str) -> None:
        said.status = 503 if len(said.asked) == 2 else 200

    found = observe_health.fn(changed(profile, health_url=serve(Said(body={"status": "OK"}, then=blink))))
    assert [answer.problem for answer in found.answers] == [None, "it answered 503", None]


def test_the_bodys_own_words_are_kept_when_it_is_ill(serve: Serve, profile: ServiceProfile) -> None:
    error = "Database connection failed: mongodb://app:hunter22@db/invoice"
    said = Said(500, {"message": "Internal server error", "error": error})
    (answer, *_) = observe_health.fn(changed(profile, health_url=serve(said))).answers
    assert (answer.status_code, answer.problem, answer.error) == (
        500,
        "it answered 500",
        "Database connection failed: mongodb://app:***@db/invoice",
    )


def test_one_slow_answer_of_several_is_not_the_last_word(serve: Serve, profile: ServiceProfile) -> None:
    def stumble(said: Said, _: str) -> None:
        said.seconds = 0.0 if said.asked[1:] else 0.3

    found = observe_health.fn(changed(profile, health_url=serve(Said(body={"status": "OK"}, then=stumble))))
    assert found.problem is None
    assert [answer.seconds > 0.3 for answer in found.answers] == [True, False, False]


def test_what_only_our_own_limit_cut_short_is_not_told(
    serve: Serve, profile: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As slow as that, it answers once within the whole time, and the second question is not to its end.
    monkeypatch.setattr("tasks.http_probe._OBSERVE_SECONDS", 1.6)
    url = serve(Said(body={"status": "OK"}, seconds=0.8))
    found = observe_health.fn(changed(profile, health_url=url))
    assert [answer.problem for answer in found.answers] == [None]
    assert found.answers[0].seconds > 0.8


def hang(listener: socket.socket) -> None:
    """Dribble headers for ever: no read of a client ever takes long."""
    with suppress(OSError):
        client, _ = listener.accept()
        client.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            client.sendall(b"X: y\r\n")
            time.sleep(0.05)


def test_a_server_that_dribbles_is_given_up_in_time(
    profile: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.http_probe._OBSERVE_SECONDS", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
        began = time.monotonic()
        found = observe_health.fn(changed(profile, health_url=url))
        assert time.monotonic() - began < 1.5
    assert [answer.failure for answer in found.answers] == ["timed out"]
    assert found.problem == "it did not answer within 0.6 s"


def test_what_is_on_this_host_is_asked_itself_and_the_rest_through_the_environments_proxy(
    serve: Serve, profile: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    proxy = Said(407)
    monkeypatch.setenv("http_proxy", serve(proxy))
    here = serve(Said(body={"status": "OK"}))
    for url in (here, here.replace("127.0.0.1", "localhost")):
        assert observe_health.fn(changed(profile, health_url=url)).problem is None
    found = observe_health.fn(changed(profile, health_url="http://service.example/health"))
    assert found.problem == "it answered 407"


def close_at_once(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_why_there_was_no_answer_is_told_apart(profile: ServiceProfile) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=close_at_once, args=(listener,), daemon=True).start()
        places = {
            "refused": f"http://127.0.0.1:{free_port()}/health",
            "unknown host": "http://no-such-host.invalid/health",
            "broken off": f"http://127.0.0.1:{listener.getsockname()[1]}/health",
        }
        for failure, url in places.items():
            found = observe_health.fn(changed(profile, health_url=url))
            assert {answer.failure for answer in found.answers} == {failure}, url


def test_the_public_url_is_asked_only_where_there_is_one(serve: Serve, profile: ServiceProfile) -> None:
    assert observe_public_health.fn(profile) is None
    found = observe_public_health.fn(changed(profile, public_url=serve(Said(502))))
    assert found is not None
    assert found.problem == "it answered 502"


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://api..example/health", f"http://{'a' * 64}.example/", "http://xn--/"]
)
def test_a_url_that_is_none_names_itself(profile: ServiceProfile, url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{re.escape(url)} is no URL"):
        observe_health.fn(changed(profile, health_url=url))


# --- Firebase


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return written.decode().replace("\n", "\\n")


def google(said: Said, text: str) -> None:
    """Answer as Google does: only the key that it knows gets a token."""
    form = {name: values[0] for name, values in parse_qs(text).items()}
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    try:
        claims = jwt.decode(
            form["assertion"], GOOGLE.public_key(), algorithms=["RS256"], options={"verify_aud": False}
        )
        assert claims["aud"].endswith("/token")
        assert claims["iss"] == "messaging@example.com"
        assert claims["exp"] - claims["iat"] <= 3600
        said.status, said.body = 200, {"access_token": "ya29.token", "expires_in": 3599}
    except jwt.InvalidTokenError:
        said.status = 400
        said.body = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}


def with_google(profile: ServiceProfile, url: str) -> ServiceProfile:
    return profile.model_copy(update={"firebase": Firebase(token_url=f"{url}/token")})


def write_firebase(profile: ServiceProfile, key: str) -> None:
    write_env(
        profile,
        FIREBASE_PROJECT_ID="project",
        FIREBASE_CLIENT_EMAIL="messaging@example.com",
        FIREBASE_PRIVATE_KEY=key,
    )


def test_a_key_that_google_knows_is_accepted_and_a_service_without_firebase_has_nothing(
    serve: Serve, profile: ServiceProfile
) -> None:
    ours = with_google(profile, serve(Said(then=google)))
    write_firebase(ours, pem(GOOGLE))
    found = observe_firebase.fn(ours)
    assert found is not None
    assert (found.credentials, found.problem) == ("accepted", None)
    assert observe_firebase.fn(profile.model_copy(update={"firebase": None})) is None


def test_a_key_that_was_revoked_is_refused_with_googles_words(serve: Serve, profile: ServiceProfile) -> None:
    ours = with_google(profile, serve(Said(then=google)))
    write_firebase(ours, pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    found = observe_firebase.fn(ours)
    assert found is not None
    assert found.credentials == "refused"
    assert found.problem is not None
    assert found.problem.endswith("answered 400: invalid_grant: Invalid JWT Signature.")


@pytest.mark.parametrize(
    ("key", "state", "words"),
    [
        ("", "not set", "FIREBASE_PRIVATE_KEY is not set in"),
        ("nonsense", "malformed", "is no PEM private key"),
        (pem(GOOGLE)[:400], "malformed", "is no PEM private key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "malformed", "is no RSA key"),
    ],
)
def test_a_key_that_is_none_is_not_sent_anywhere(
    serve: Serve, profile: ServiceProfile, key: str, state: str, words: str
) -> None:
    said = Said(then=google)
    ours = with_google(profile, serve(said))
    write_firebase(ours, key)
    found = observe_firebase.fn(ours)
    assert found is not None
    assert found.credentials == state
    assert words in str(found.problem)
    assert said.asked == []


def test_a_token_endpoint_that_is_ill_says_nothing_of_the_key(serve: Serve, profile: ServiceProfile) -> None:
    for url in (serve(Said(503)), serve(Said(200, {})), f"http://127.0.0.1:{free_port()}"):
        ours = with_google(profile, url)
        write_firebase(ours, pem(GOOGLE))
        found = observe_firebase.fn(ours)
        assert found is not None
        assert found.credentials == "unreachable"


# --- logins and their tokens


def log_in_with(serve: Serve, profile: ServiceProfile, folder: Path, said: Said) -> ServiceProfile:
    secret = folder / "probe-password"
    secret.touch(mode=0o600)
    secret.write_text("probe")
    login = Login(url=serve(said), user="probe@example.com", password=f"file:{secret}")
    return changed(profile, login=login)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_that_the_env_files_secret_signed_verifies_and_another_does_not(
    serve: Serve, profile: ServiceProfile, tmp_path: Path, algorithm: str
) -> None:
    # An hour too old: the signature counts.
    claims = {"sub": "1", "exp": datetime.now(UTC) - timedelta(hours=1)}
    token = jwt.encode(claims, SECRET.ljust(64, "!"), algorithm=algorithm)
    ours = log_in_with(serve, profile, tmp_path, Said(body={"token": token}))
    write_env(ours, JWT_SECRET=SECRET.ljust(64, "!"))
    found = observe_authentication.fn(ours)
    assert (found.secret, found.login, found.token_verifies) == ("set", "works", True)
    write_env(ours, JWT_SECRET=SECRET.ljust(64, "?"))
    assert observe_authentication.fn(ours).token_verifies is False


def test_a_secret_that_is_written_in_base64_or_hex_counts_as_its_bytes_too(
    serve: Serve, profile: ServiceProfile, tmp_path: Path
) -> None:
    key = bytes(range(200, 248))
    ours = log_in_with(serve, profile, tmp_path, Said(body={"token": jwt.encode({}, key)}))
    for written in ("yMnKy8zNzs_Q0dLT1NXW19jZ2tvc3d7f4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3", key.hex()):
        write_env(ours, JWT_SECRET=written)
        assert observe_authentication.fn(ours).token_verifies is True


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "a.b.c",
        "..",
        jwt.encode({}, GOOGLE, algorithm="RS256"),
        jwt.encode({}, "", algorithm="none"),
    ],
)
def test_of_a_token_that_no_shared_secret_signs_nothing_is_said(
    serve: Serve, profile: ServiceProfile, tmp_path: Path, token: str
) -> None:
    ours = log_in_with(serve, profile, tmp_path, Said(body={"token": token}))
    write_env(ours, JWT_SECRET=SECRET)
    found = observe_authentication.fn(ours)
    assert (found.login, found.token_verifies) == ("works", None)


@pytest.mark.parametrize(
    ("status", "outcome"), [(401, "refused"), (404, "refused"), (500, "no answer"), (200, "no token")]
)
def test_how_a_login_failed_is_told_apart(
    serve: Serve, profile: ServiceProfile, tmp_path: Path, status: int, outcome: str
) -> None:
    found = observe_authentication.fn(log_in_with(serve, profile, tmp_path, Said(status, {})))
    assert (found.login, found.token_verifies, found.secret) == (outcome, None, "unknown")
    assert str(status) in str(found.login_problem)


@pytest.mark.parametrize(("secret", "state"), [(SECRET, "set"), ("short", "too short"), ("", "not set")])
def test_the_secrets_state_and_change_is_told_without_a_login(
    profile: ServiceProfile, secret: str, state: str
) -> None:
    write_env(profile, JWT_SECRET=secret)
    found = observe_authentication.fn(profile)
    assert (found.secret, found.secret_changed, found.login) == (state, None, "not probed")
    remember_healthy.fn(profile, datetime.now(UTC))
    assert observe_authentication.fn(profile).secret_changed is False
    write_env(profile, JWT_SECRET=SECRET + "!")
    assert observe_authentication.fn(profile).secret_changed is True
    write_env(profile)
    assert observe_authentication.fn(profile).secret_changed is True


# --- upstreams and clocks


def test_upstreams_are_asked_at_once_and_each_by_itself(serve: Serve, profile: ServiceProfile) -> None:
    stripe, key = Said(seconds=0.4), "STRIPE_SECRET_KEY"
    write_env(profile, STRIPE_SECRET_KEY="sk_test_1", BROKEN_KEY="schlüssel")
    ours = profile.model_copy(
        update={
            "upstreams": (
                Upstream(name="Stripe", url=serve(stripe), bearer_variable=key),
                Upstream(
                    name="revoked", url=serve(Said(401, seconds=0.4)), bearer_variable="STRIPE_SECRET_KEY"
                ),
                Upstream(
                    name="narrow", url=serve(Said(403, seconds=0.4)), bearer_variable="STRIPE_SECRET_KEY"
                ),
                Upstream(name="broken", url=serve(Said()), bearer_variable="BROKEN_KEY"),
                Upstream(name="keyless", url=serve(Said(401))),
                Upstream(name="busy", url=serve(Said(429, headers={"Retry-After": "60"}))),
                Upstream(name="ill", url=serve(Said(503))),
                Upstream(name="gone", url=f"http://127.0.0.1:{free_port()}/"),
                Upstream(name="lost", url="https://no-such-host.invalid/"),
            )
        }
    )
    began = time.monotonic()
    found = {one.name: one for one in observe_upstreams.fn(ours)}
    assert time.monotonic() - began < 1.1
    assert {name: one.state for name, one in found.items()} == {
        "Stripe": "answers",
        "revoked": "refuses the key",
        "narrow": "answers",
        "broken": "refuses the key",
        "keyless": "answers",
        "busy": "answers",
        "ill": "down",
        "gone": "down",
        "lost": "down",
    }
    assert found["ill"].problem == "it answered 503"
    assert found["revoked"].problem == "it answered 401 to the key in STRIPE_SECRET_KEY"
    assert "schlüssel" not in str(found)
    assert stripe.asked[0][2]["Authorization"] == "Bearer sk_test_1"


def test_without_an_env_file_upstreams_are_asked_without_a_key(serve: Serve, profile: ServiceProfile) -> None:
    upstream = Upstream(name="Stripe", url=serve(Said(401)), bearer_variable="STRIPE_SECRET_KEY")
    (found,) = observe_upstreams.fn(profile.model_copy(update={"upstreams": (upstream,)}))
    assert found.state == "answers"


def dated(ahead: timedelta, **headers: str) -> Said:
    return Said(headers={"Date": format_datetime(datetime.now(UTC) + ahead, usegmt=True), **headers})


def test_clocks_are_compared_within_their_steps_and_those_that_are_silent_left_out(
    serve: Serve, profile: ServiceProfile
) -> None:
    app = Said(body={"timestamp": f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S.%fZ}"})
    stripe = serve(dated(timedelta(seconds=90)))
    ours = changed(profile, health_url=serve(app)).model_copy(
        update={
            "upstreams": (
                Upstream(name="Stripe", url=f"{stripe}/v1/balance"),
                Upstream(name="Stripe again", url=f"{stripe}/v1/account"),
                Upstream(name="cached", url=serve(dated(timedelta(minutes=-5), Age="300"))),
                Upstream(name="dateless", url=serve(Said())),
                Upstream(name="ageless", url=serve(dated(timedelta(0), Age="old"))),
                Upstream(name="ancient", url=serve(dated(timedelta(0), Age="9" * 20))),
                Upstream(name="gone", url=f"http://127.0.0.1:{free_port()}/"),
            )
        }
    )
    found = {one.source: one for one in observe_clocks.fn(ours)}
    assert set(found) == {"application", "Stripe", "cached"}
    for name, ahead in (("application", -3600), ("Stripe", 90), ("cached", 0)):
        # The servers' answers were made a moment ago.
        assert abs(found[name].seconds - ahead) <= found[name].uncertainty + 2, name
        assert found[name].uncertainty < 1.5


# --- certificates


def certify(folder: Path, begins: timedelta, ends: timedelta, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """Write a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Authority")])
    alternative = x509.DNSName(host) if host[0].isalpha() else x509.IPAddress(ip_address(host))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, private


@pytest.fixture
def secured() -> Iterator[Callable[[Path, Path], str]]:
    servers: list[ThreadingHTTPServer] = []

    def make(certificate: Path, key: Path) -> str:
        said = Said(body={"status": "OK"})
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"said": said}))
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"https://127.0.0.1:{server.server_address[1]}/health"

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "case",
    [
        (-DAY, 9 * DAY, "127.0.0.1", True, None),
        (-9 * DAY, -DAY, "127.0.0.1", True, "It ended on "),
        (DAY, 9 * DAY, "127.0.0.1", True, "It is not valid before "),
        (-DAY, 9 * DAY, "other.example.com", True, "It is for other.example.com and not for 127.0.0.1"),
        (
            -DAY,
            9 * DAY,
            "127.0.0.1",
            False,
            "It was issued by nobody whom this host trusts",
        ),
    ],
)
def test_a_certificate_is_held_to_what_users_clients_hold_it_to(
    secured: Callable[[Path, Path], str],
    profile: ServiceProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[timedelta, timedelta, str, bool, str | None],
) -> None:
    begins, ends, host, trusted, problem = case
    certificate, key = certify(tmp_path, begins, ends, host)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    ours = changed(profile, public_url=secured(certificate, key))
    found = observe_certificate.fn(ours)
    assert found is not None
    assert found.ends_at is not None
    assert abs(found.ends_at - datetime.now(UTC) - ends) < timedelta(minutes=1)
    health = observe_public_health.fn(ours)
    assert health is not None
    if problem is None:
        assert (found.problem, health.problem) == (None, None)
    else:
        assert str(found.problem).startswith(problem)
        assert health.answers[-1].failure == "tls"


def test_a_service_without_https_has_no_certificate_and_one_that_shows_none_cannot_be_observed(
    serve: Serve, profile: ServiceProfile
) -> None:
    assert observe_certificate.fn(profile) is None
    plain = serve(Said()).replace("http:", "https:")
    for url in (f"https://127.0.0.1:{free_port()}", plain):
        with pytest.raises(UnreachableError, match="shows no certificate"):
            observe_certificate.fn(changed(profile, health_url=url))


def test_authorities_that_cannot_be_read_are_named(
    profile: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigurationError, match=r"none\.pem: correct SSL_CERT_FILE"):
        observe_health.fn(profile)
