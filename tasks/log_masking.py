"""Take every secret out of a text. Pure: text and secrets in, text out.

What is looked for are the values of the application's env file, also as they look in a URL, in JSON and in
base64, and whatever has the form of a secret, wherever it comes from.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
# Shorter ones would take ordinary words out of every line.
_SHORTEST = 6
_WIDTH = 3


@dataclass(frozen=True)
class _Shape:
    """A known form of secrets; only a text with one of the words, in lower case, is searched for it."""

    words: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


_TELLING = re.compile(
    r"SECRET|PASS|PWD|KEY|TOKEN|CREDENTIAL|PRIVATE|SALT|PEPPER|SIGN|WEBHOOK|DSN|LICEN[CS]E"
    r"|(?:\b|_)(?:AUTH|SEED|PIN|OTP|PW)(?:\b|_)",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"""
    -?[\d.,_]+                                          # a number
    | [A-Za-z]+ (?: [-_.\s/] (?: [A-Za-z]+ | \d{1,3} ) )*   # words, as production, us-east-1, db.example.com
    # A host, a URL.
    | (?:[a-z][a-z0-9+.-]*://)? (?: (?:[A-Za-z-]+\.)*[A-Za-z-]+ | \d{1,3}(?:\.\d{1,3}){3} )
      (?::\d+)? (?:/(?:v\d+|[A-Za-z_.-]*))*
    | [A-Za-z]:\\[\w\\ .-]* | \.{0,2}(?:/[A-Za-z0-9_.-]{1,24})+ /?   # a path
    """,
    re.VERBOSE,
)
_WITH_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s:/?#]*:(?P<password>\S*)@")
_QUERY_VALUE = re.compile(r"[?&][^=&\s]+=(?P<value>[^&\s#]+)")

_NAMES = r"pass(?:word|wd|phrase)|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|credentials?"
# "STRIPE_KEY: is missing" is a complaint about one, and what it says is needed.
_NO_VALUE = r"(?!(?:is|has|was|must|not|no|missing|invalid|expired|undefined|null|required|cannot|jwt)\b)"
_QUOTED_OR_BARE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;&"'})\]]+)"""
_SHAPES: tuple[_Shape, ...] = (
    _Shape(
        ("-----begin",),
        re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL),
        MASK,
    ),
    # Up to the last @: a password that nobody encoded may hold one.
    _Shape(
        ("://",),
        re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/?#@]*:)[^\s\"'<>]*@"),
        rf"\1{MASK}@",
    ),
    _Shape(("eyj",), re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"), MASK),
    _Shape(
        ("authorization", "x-api-key", "cookie"),
        re.compile(r"(?i)((?:proxy-)?authorization|x-api-key|(?:set-)?cookie)(\\?[\"']?\s*[:=]\s*)[^\r\n]+"),
        rf"\1\2{MASK}",
    ),
    _Shape(
        ("bearer", "basic"),
        re.compile(r"(?i)\b(bearer|basic)\s+(?=\S*\d|\S{16})[\w.~+/=-]{8,}"),
        rf"\1 {MASK}",
    ),
    _Shape(("k_live_", "k_test_"), re.compile(r"[sr]k_(?:live|test)_\w+"), MASK),
    _Shape(("whsec_",), re.compile(r"whsec_[\w+/=-]+"), MASK),
    _Shape(("sg.",), re.compile(r"(?<![A-Za-z0-9])SG\.[\w-]{8,}(?:\.[\w-]+)*"), MASK),
    _Shape(("akia", "asia"), re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{12,}"), MASK),
    _Shape(
        ("gh", "xox", "aiza", "ya29."),
        re.compile(r"(?:gh[pousr]_\w{20,}|xox[abprs]-[\w-]{8,}|AIza[\w-]{30,}|ya29\.[\w.-]+)"),
        MASK,
    ),
    _Shape(
        ("pass", "pwd", "secret", "key", "credential"),
        re.compile(
            rf"(?i)((?<![\w.-])[\w.-]*?(?:{_NAMES})[\w-]{{0,40}}\\?[\"']?\s*[=:]\s*){_NO_VALUE}{_QUOTED_OR_BARE}"
        ),
        rf"\1{MASK}",
    ),
    _Shape(
        ("token",),
        re.compile(rf"(?i)((?<![\w.-])[\w.-]*?token\\?[\"']?=|\btoken[\"']\s*:\s*){_QUOTED_OR_BARE}"),
        rf"\1{MASK}",
    ),
)


def collect_secrets(variables: Mapping[str, str]) -> frozenset[str]:
    """Given an env file's variables, return what of their values must not be seen.

    A plain word, number, host or path is none, unless the variable's name tells otherwise: logs without any
    name or address would help nobody.
    """
    secrets: set[str] = set()
    for name, value in variables.items():
        if with_password := _WITH_PASSWORD.match(value):
            # The rest of it, as host and database, is what errors talk about.
            values = [found["value"] for found in _QUERY_VALUE.finditer(value)]
            secrets |= {with_password["password"], unquote(with_password["password"])}
            secrets |= {found for found in values if not _PLAIN.fullmatch(found)}
        elif _TELLING.search(name) or not _PLAIN.fullmatch(value):
            secrets |= {value, *value.splitlines()}
    return frozenset(secret for secret in secrets if len(secret) >= _SHORTEST and secret.strip("*"))


def mask(text: str, secrets: frozenset[str]) -> str:
    """Given a text and the secrets that it may hold, return it with neither these nor known forms of any."""
    forms = _list_forms(secrets)
    masked = _take_out(text, forms)
    lowered = masked.lower()
    for shape in _SHAPES:
        if any(word in lowered for word in shape.words):
            masked = shape.pattern.sub(shape.replacement, masked)
    return _take_out(masked, forms)


def _take_out(text: str, forms: tuple[str, ...]) -> str:
    """Again until none is left: what stood on both sides of one may be another. Each time it gets shorter."""
    while found := [form for form in forms if form in text]:
        for form in found:
            text = text.replace(form, MASK)
    return text


@lru_cache(maxsize=16)
def _list_forms(secrets: frozenset[str]) -> tuple[str, ...]:
    """Return the secrets in all forms, the longest first: one may be a part of another."""
    forms = {form for secret in secrets for form in _forms_of(secret)}
    long_enough = (form for form in forms if len(form) >= _SHORTEST and form.strip("*"))
    return tuple(sorted(long_enough, key=lambda form: (-len(form), form)))


def _forms_of(secret: str) -> Iterable[str]:
    yield secret
    for encoded in (quote(secret, safe=""), quote(secret, safe="!~*'()"), quote(secret), quote_plus(secret)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    for in_json in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        yield in_json[1:-1]
    for before in range(_WIDTH):
        plain = _core_of_base64(secret.encode("utf-8", "surrogatepass"), before)
        yield from (plain, plain.replace("+", "-").replace("/", "_"))


def _core_of_base64(secret: bytes, before: int) -> str:
    """Return what base64 makes of it when so many bytes are before it, without what the neighbours decide."""
    encoded = base64.b64encode(b"\0" * before + secret)
    first = -(-before * 8 // 6)
    last = (before + len(secret)) * 8 // 6
    return encoded[first:last].decode("ascii")
