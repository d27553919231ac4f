"""The user and the password in a database's URL: read, and replaced with every other character kept. Pure."""

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

_URL: Final = re.compile(r"(?P<scheme>[\w+.-]+://)(?:(?P<login>[^/?#]*)@)?(?P<place>[^@]*)", re.DOTALL)
# What a variable is called that is the database's password, such as PGPASSWORD or APP_DB_PASS.
_BARE: Final = {
    kind: re.compile(rf"(?:\w+_)?(?:DB|DATABASE|{names})_?(?:PASSWORD|PASS|PWD)", re.IGNORECASE)
    for kind, names in {"postgresql": "PG|POSTGRES|POSTGRESQL", "mongodb": "MONGO|MONGODB"}.items()
}
# 256 bits in 43 characters that need no escape in a URL and no quotes in an env file.
_PASSWORD_BYTES: Final = 32


@dataclass(frozen=True)
class DatabaseLogin:
    """Who a URL logs in as."""

    user: str
    password: str = field(repr=False)


def read_login(url: str) -> DatabaseLogin | None:
    """Given a database's URL, return its user and password, None if it does not hold both."""
    found = _URL.fullmatch(url)
    user, sign, password = ((found["login"] if found else None) or "").partition(":")
    return DatabaseLogin(unquote(user), unquote(password)) if user and sign and password else None


def replace_login(url: str, login: DatabaseLogin) -> str:
    """Given a database's URL, return it with another user and password, percent-escaped; all else is kept."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError
    written = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}"
    return f"{found['scheme']}{written}@{found['place']}"


def make_password() -> str:
    """Return a new random password."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def read_place(url: str) -> str:
    """Given a database's URL, return its hosts and ports as they are written."""
    found = _URL.fullmatch(url)
    return re.split("[/?#]", found["place"])[0] if found else ""


def find_urls(variables: Mapping[str, str], url: str) -> Iterator[str]:
    """Given an env file's variables, yield the names of URLs of this one's kind of database with its login.

    Prisma has a second one for migrations, past the pooler.
    """
    login, kind = read_login(url), _find_kind(url)
    for name, value in variables.items():
        if login is not None and read_login(value) == login and _find_kind(value) == kind:
            yield name


def find_bare(variables: Mapping[str, str], url: str) -> Iterator[str]:
    """Given an env file's variables, yield the names of those that are this URL's password itself.

    Their name has to say so: another system may have the same one, and a word that is a password is a word.
    """
    login, form = read_login(url), _BARE.get(_find_kind(url))
    for name, value in variables.items():
        if login is not None and form is not None and value == login.password and form.fullmatch(name):
            yield name


def find_others(variables: Mapping[str, str], url: str) -> Iterator[str]:
    """Given an env file's variables, yield the names of those with this URL's password that are not its."""
    login, own = read_login(url), {*find_urls(variables, url), *find_bare(variables, url)}
    for name, value in variables.items():
        if login is not None and name not in own and (value == login.password or read_login(value) == login):
            yield name


def _find_kind(url: str) -> str:
    kind = url.partition("://")[0].partition("+")[0].lower()
    return "postgresql" if kind == "postgres" else kind
