"""No secret survives masking, in whatever form and wherever it stands; what helps people does."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.log_masking import collect_secrets, mask

# What a password may be made of; longer than what is too short to be taken out.
secrets = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=6, max_size=40
).filter(lambda secret: secret.strip("*") and not secret.isspace())
surroundings = st.text(max_size=30)


@settings(deadline=None)
@given(surroundings, st.lists(secrets, min_size=1, max_size=3), surroundings)
def test_no_secret_survives(before: str, hidden: list[str], after: str) -> None:
    masked = mask(before + after.join(hidden) + after, frozenset(hidden))
    assert [secret for secret in hidden if secret in masked] == []


@settings(deadline=None)
@given(surroundings, secrets, surroundings)
def test_nor_does_one_that_was_encoded(before: str, secret: str, after: str) -> None:
    for encoded in (quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
        assert encoded not in mask(before + encoded + after, frozenset({secret}))


@settings(deadline=None)
@given(st.binary(max_size=9), secrets, st.binary(max_size=9))
def test_nor_does_one_within_base64(before: bytes, secret: str, after: bytes) -> None:
    plain = before + secret.encode() + after
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(plain).decode()
        masked = mask(f"header {encoded}", frozenset({secret}))
        assert encoded not in masked
        assert not any(secret.encode() in decoded for decoded in _decode(masked.removeprefix("header ")))


def _decode(text: str) -> Iterator[bytes]:
    """Yield what somebody would read who tries all places to begin at."""
    for piece in text.split("***"):
        for begin in range(4):
            whole = piece[begin:].rstrip("=")
            yield base64.b64decode(whole[: len(whole) // 4 * 4], altchars=b"-_")


@settings(deadline=None)
@given(surroundings, st.lists(secrets, max_size=3))
def test_masking_again_changes_nothing_of_what_is_secret(text: str, hidden: list[str]) -> None:
    once = mask(text, frozenset(hidden))
    assert [secret for secret in hidden if secret in mask(once, frozenset(hidden))] == []


@settings(deadline=None)
@given(secrets.filter(lambda secret: not {"@", "/", " "} & set(secret)))
def test_the_password_of_a_url_is_a_secret_in_both_spellings(password: str) -> None:
    url = f"mongodb://app:{quote(password, safe='')}@db.example.com:27017/invoice?authSource=admin"
    hidden = collect_secrets({"MONGODB_URI": url})
    masked = mask(f"cannot connect to {url} with {password}", hidden)
    assert password not in masked
    assert "db.example.com:27017/invoice" in masked or password in "db.example.com:27017/invoice"


@settings(deadline=None)
@given(
    st.sampled_from(["JWT_SECRET", "EMAIL_PASSWORD", "STRIPE_SECRET_KEY", "DB_PW", "SESSION_TOKEN"]), secrets
)
def test_what_a_telling_name_holds_is_a_secret_even_if_it_looks_plain(name: str, value: str) -> None:
    hidden = collect_secrets({name: value})
    assert value not in mask(f"got {value}!", hidden)


@pytest.mark.parametrize(
    "harmless",
    [
        "production",
        "8080",
        "us-east-1",
        "db.example.com",
        "127.0.0.1:9000",
        "/srv/invoice/logs",
        "http://127.0.0.1:9000",
        "https://api.example.com/v1/users",
        "3600000",
        "true",
        "invoice-backend",
    ],
)
def test_a_plain_word_a_number_or_an_address_is_none(harmless: str) -> None:
    assert collect_secrets({"SETTING": harmless}) == frozenset()


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgres://app:hunter2@db:5432/x", "hunter2"),
        ("postgres://app:p@ss/w:rd@db:5432/x", "p@ss/w:rd"),
        ("Authorization: Bearer abc.def", "abc.def"),
        ("headers: {authorization: 'Basic dTpw'}", "dTpw"),
        ("sent with bearer 0123456789abcdef", "0123456789abcdef"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjF9.c2ln was sent", "eyJzdWIiOjF9"),
        ("Invalid API Key provided: sk_live_4eC39HqLyjWD", "4eC39HqLyjWD"),
        ("whsec_abcDEF123/+=", "abcDEF123"),
        ("SG.abcdefghijkl.mnopqrstuvwx", "mnopqrstuvwx"),
        ("AKIAIOSFODNN7EXAMPLE is not allowed", "IOSFODNN7"),
        ("password=hunter2&x=1", "hunter2"),
        ('{"password":"hun\\"ter2","a":1}', "ter2"),
        ("api_key: hunter2", "hunter2"),
        ("GET /reset?token=hunter2", "hunter2"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
        ("-----BEGIN RSA PRIVATE KEY-----\\nMIIE cut off", "MIIE"),
        ("Set-Cookie: session=hunter2; Path=/", "hunter2"),
    ],
)
def test_known_forms_are_masked_wherever_they_come_from(text: str, hidden: str) -> None:
    assert hidden not in mask(text, frozenset())


@pytest.mark.parametrize(
    "helpful",
    [
        "JsonWebTokenError: jwt malformed",
        "❌ Authentication failed: invalid signature",
        'password authentication failed for user "app"',
        "❌ Environment variable errors: JWT_SECRET is missing; STRIPE_SECRET_KEY: is missing",
        "connect ECONNREFUSED 127.0.0.1:5432",
        "Error: listen EADDRINUSE: address already in use 127.0.0.1:8080",
        "getaddrinfo ENOTFOUND db.example.com",
        "Missing bearer token",
        "Invalid token: expired",
        "http://127.0.0.1:9000/health took 3 s",
    ],
)
def test_what_helps_people_stays(helpful: str) -> None:
    assert mask(helpful, frozenset()) == helpful


def test_every_line_of_a_private_key_is_a_secret() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\nbgkqhkiG9w0B\n-----END PRIVATE KEY-----\n"
    hidden = collect_secrets({"FIREBASE_PRIVATE_KEY": key})
    assert mask("read bgkqhkiG9w0B from it", hidden) == "read *** from it"


def test_a_line_of_any_length_is_masked_in_time() -> None:
    for hostile in ("password", "a_", "a/", "://", "eyJ", "token=", "bearer "):
        assert isinstance(mask(hostile * (65536 // len(hostile)), frozenset({"secret-word"})), str)
