"""Runbook row P4: the secret that the application signs its tokens with.

There is no provider: the env file alone says what it is. A token that is signed with it by us, with the
claims of the probe user's own, shows which secrets the application accepts.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
import jwt

from tasks.connected_clients import measure_clients
from tasks.environment_file import read_variables
from tasks.errors import RunbookError, UnreachableError
from tasks.http_exchange import exchange
from tasks.known_good import fingerprint
from tasks.login_probing import attempt_login
from tasks.process_manager import observe_application
from tasks.records.credential_care import JwtSecret
from tasks.records.metrics import Clients
from tasks.records.rotation import CredentialFacts, Kept, Stage
from tasks.records.service import ServiceProfile

_SECONDS: Final = 10.0
# 256 bits, as RFC 7518 wants for HS256; written in 43 characters that need no quotes anywhere.
_BYTES: Final = 32
_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
# Connections go round among the processes of a cluster: so often each of them answers.
_ROUNDS: Final = 3
_AT_ONCE: Final = "end every session that the old secret signed"
_LATER: Final = "stop accepting the previous secret"


class JwtRotator:
    """The secret in the env file, with or without a previous one beside it."""

    def __init__(self, profile: ServiceProfile, terms: JwtSecret) -> None:
        """Take the service and what its profile says of the secret."""
        self._profile, self._terms = profile, terms
        self._variable, self._beside = profile.application.jwt_secret_variable, terms.previous_variable

    def observe(self) -> CredentialFacts:
        """Return how the secret is now; refuse where nothing could prove which one is in use."""
        present = read_variables(self._profile)
        names = tuple(name for name in (self._variable, self._beside) if name is not None)
        return CredentialFacts(
            credential="jwt-secret",
            identity=self._profile.application.process_name,
            variables={
                name: fingerprint(self._profile, name, present[name])[:12] if name in present else None
                for name in names
            },
            making="Make a secret of 256 random bits",
            testing="Check that it has the form that the profile wants",
            proving=self._say_proof(),
            undoing="it was never in use",
            stages=(self._stage(),),
            warnings=self._warn(),
            refusal=self._refuse(present),
        )

    def make(self, rotation: str, before: Mapping[str, str]) -> Kept:
        """Return a new secret, and the present one as the previous one where the application reads it."""
        del before
        values: dict[str, str | None] = {self._variable: secrets.token_urlsafe(_BYTES)}
        if self._beside is not None:
            values[self._beside] = read_variables(self._profile)[self._variable]
        return Kept(rotation, values)

    def discard(
        self, rotation: str, before: Mapping[str, str], pending: Kept | None, making: datetime | None = None
    ) -> None:
        """Nobody but the env file knows the secret."""

    def put_in_force(self, pending: Kept, previous: Kept) -> None:
        """Promoting it is all."""

    def put_back(self, pending: Kept, previous: Kept) -> None:
        """Nothing was ended."""

    def accepts(self, values: Kept) -> bool:
        """The application takes whatever is set: an old one may be short."""
        return bool(values.value(self._variable))

    def exercise(self, pending: Kept, previous: Kept) -> None:
        """Raise ``RunbookError`` if the new secret has not the form that the profile wants."""
        del previous
        form = self._profile.application.variable_forms.get(self._variable)
        if form is not None and re.fullmatch(form, pending.value(self._variable)) is None:
            raise RunbookError(
                f"{self._profile.name}: the profile wants {self._variable} to look like {form}, which 43 "
                "letters and digits do not: correct application.variable_forms."
            )

    def prove_application(self, pending: Kept, previous: Kept) -> str | None:
        """Return which tokens every process accepts; raise ``UnreachableError`` if those are others."""
        token = self._log_in()
        if token is None or self._terms.protected_url is None:
            return None
        if _signed_by(token, pending.value(self._variable)) is None:
            raise UnreachableError(
                f"{self._profile.name}: the token of a new login is not signed with the new {self._variable}."
            )
        self._want(token, accepted=True, whose="its new token")
        self._want(_sign_anew(token, secrets.token_urlsafe(_BYTES)), accepted=False, whose="a forged token")
        if self._beside is None:
            return "A new login's token is accepted, one signed with another secret is refused."
        self._want(
            _sign_anew(token, previous.value(self._variable)), accepted=True, whose="a token of before"
        )
        return "Tokens of before and of now are accepted, one signed with another secret is refused."

    def find_use(self, stage: str, previous: Kept) -> str | None:
        """Return None: by the end of the grace every token that it signed has expired."""
        del stage, previous
        return None

    def retire(self, stage: str, pending: Kept, previous: Kept) -> None:
        """What ends it is that the env file has it no longer."""

    def prove_refused(self, stage: str, previous: Kept) -> str:
        """Return how a token of the old secret was refused; raise ``RunbookError`` if it is accepted."""
        del stage
        token = self._log_in()
        if token is None or self._terms.protected_url is None:
            return f"No process has the old {self._variable} any more."
        self._want(
            _sign_anew(token, previous.value(self._variable)), accepted=False, whose="a token of before"
        )
        return "A token signed with the old secret is refused."

    def _stage(self) -> Stage:
        if self._beside is None:
            return Stage(name=_AT_ONCE, after=timedelta(0))
        return Stage(name=_LATER, after=self._terms.token_life, unset=(self._beside,))

    def _say_proof(self) -> str:
        if self._terms.protected_url is None:
            return "Compare the fingerprint of the secret that every process runs with"
        return (
            f"Log in, and ask {self._terms.protected_url} with tokens of the old, the new and a wrong secret"
        )

    def _warn(self) -> tuple[str, ...]:
        if self._beside is not None:
            return ()
        clients = measure_clients.fn(self._profile)
        how_many = (
            f"{clients.connections} connections from {clients.addresses} addresses are open at this moment"
            if isinstance(clients, Clients)
            else clients.why
        )
        return (f"Everybody who is logged in is logged out by this ({how_many}).",)

    def _refuse(self, present: Mapping[str, str]) -> str | None:
        application = self._profile.application
        if not present.get(self._variable):
            return (
                f"{self._variable} is not set in {self._profile.env_path}: the application needs it, set it."
            )
        if application.fingerprints_url is None and None in {self._terms.protected_url, application.login}:
            return (
                "nothing could prove which secret the application uses: give the profile "
                "application.fingerprints_url, or application.login and credentials.jwt_secret.protected_url."
            )
        return None

    def _log_in(self) -> str | None:
        login = self._profile.application.login
        if login is None:
            return None
        attempt = attempt_login(login, _SECONDS)
        if attempt.token is None:
            raise UnreachableError(f"{self._profile.name}: {attempt.problem}")
        return attempt.token

    def _want(self, token: str | None, *, accepted: bool, whose: str) -> None:
        """Ask until every process must have answered; raise unless each says what is wanted."""
        url = self._terms.protected_url
        if token is None or url is None:
            return
        instances = max(1, len(observe_application.fn(self._profile).instances))
        for _ in range(_ROUNDS * instances):
            found = exchange(url, _SECONDS, headers={"Authorization": f"Bearer {token}"})
            if (said := found.silence) is not None:
                raise UnreachableError(
                    f"{self._profile.name}: {url} does not say whether {whose} holds: {said}."
                )
            if (found.status_code != httpx.codes.UNAUTHORIZED) is not accepted:
                wrong = "refused" if accepted else "accepted"
                raise UnreachableError(f"{self._profile.name}: {whose} is {wrong} at {url}.")


def _signed_by(token: str, secret: str) -> Mapping[str, Any] | None:
    # Only the signature counts: applications put numbers where the standard wants text.
    claims = dict.fromkeys(("verify_aud", "verify_sub", "verify_jti", "verify_iat", "verify_iss"), False)
    try:
        return jwt.decode(token, secret, algorithms=list(_ALGORITHMS), options=claims)  # type: ignore[arg-type]
    except jwt.PyJWTError:
        return None


def _sign_anew(token: str, secret: str) -> str | None:
    """Return a token with the same claims and another signature; None if it is none that a secret signs."""
    try:
        algorithm = str(jwt.get_unverified_header(token)["alg"])
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    return jwt.encode(claims, secret, algorithm=algorithm) if algorithm in _ALGORITHMS else None
