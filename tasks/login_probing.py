"""Log the probe user in, as the application's users do."""

from dataclasses import dataclass, field
from typing import Literal

import httpx

from tasks.credentials import resolve
from tasks.http_exchange import exchange
from tasks.records.application import Login

_TOKEN_FIELDS = ("token", "accessToken", "access_token")


@dataclass(frozen=True)
class LoginAttempt:
    """How a login ended; ``problem`` is a sentence unless it worked. The token stays in the task."""

    outcome: Literal["works", "refused", "no answer", "no token"]
    problem: str | None = None
    status_code: int | None = None
    token: str | None = field(default=None, repr=False)


def attempt_login(login: Login, seconds: float) -> LoginAttempt:
    """Given a profile's login, try it; raise an error if the reference to its password leads nowhere."""
    body = {login.user_field: login.user, login.password_field: resolve(login.password)}
    found = exchange(login.url, seconds, "POST", json=body)
    answered = f"The login of {login.user} at {login.url} answered {found.status_code}"
    if found.failure is not None:
        problem = f"The login at {login.url} does not work: {found.problem}."
        return LoginAttempt("no answer", problem)
    if httpx.codes.is_server_error(found.status_code):
        return LoginAttempt("no answer", f"{answered}, not 200.", found.status_code)
    if found.status_code != httpx.codes.OK:
        return LoginAttempt("refused", f"{answered}, not 200.", found.status_code)
    said = found.read_json()
    if said is None:
        return LoginAttempt("no token", f"{answered}, but no JSON.", found.status_code)
    fields = said if isinstance(said, dict) else {}
    token = next((str(fields[name]) for name in _TOKEN_FIELDS if fields.get(name)), None)
    if token is None:
        return LoginAttempt("no token", f"{answered}, but no token.", found.status_code)
    return LoginAttempt("works", None, found.status_code, token)
