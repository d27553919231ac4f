"""The user and the password in a database's URL: read, and replaced with every other character kept. Pure."""

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

_URL: Final = re.compile(r"(?P<scheme>[\w+.-]+://)(?:(?P<login>[^/?#]*)@)?(?P<place>[^@]*)", re.DOTALL)
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


def find_urls(variables: Mapping[str, str], login: DatabaseLogin) -> Iterator[str]:
    """Given an env file's variables, yield the names of those that are URLs with this login.

    Prisma has a second one for migrations, past the pooler.
    """
    for name, value in variables.items():
        if "://" in value and read_login(value) == login:
            yield name


def find_bare(variables: Mapping[str, str], login: DatabaseLogin) -> Iterator[str]:
    """Given an env file's variables, yield the names of those that are the password itself."""
    for name, value in variables.items():
        if value == login.password:
            yield name
