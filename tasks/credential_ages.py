"""How old every credential of a service is, from what this host and the providers know of it.

Where nobody knows, ``<state_directory>/<service>/rotations/first-seen.json`` remembers since when its present
value is known, by a fingerprint that means something on this host only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.credentials import resolve
from tasks.environment_file import read_variable, read_variables
from tasks.errors import RunbookError
from tasks.iam_keys import IamKeys, UserKey
from tasks.known_good import fingerprint
from tasks.night_observing import load_neighbours
from tasks.postgresql_application import connect_as_application
from tasks.postgresql_limits import Limits
from tasks.records.credential_age import CredentialAge
from tasks.records.credential_care import OtherCredential, S3Credentials, Terms
from tasks.records.observation import Unknown
from tasks.records.rotation import RotationEvent
from tasks.records.service import ServiceProfile
from tasks.rotation_files import (
    find_variable,
    read_first_seen,
    read_history,
    read_open,
    read_secret,
    write_first_seen,
)

_LIMITS: Final = Limits(statement=3.0, lock=1.0, silence=4.0)


class _FirstSeen(BaseModel):
    """The fingerprint of each present value, and since when it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprints: dict[str, str] = Field(default_factory=dict)
    since: dict[str, datetime] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Named:
    """A credential that the profile names, with its present value."""

    name: str
    terms: Terms
    held_in: str
    value: str
    problem: str | None = None


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_credential_ages(profile: ServiceProfile, now: datetime) -> tuple[CredentialAge, ...]:
    """Given a service, return every credential that its profile names; raise if the env file is unreadable.

    What a provider does not tell is said in its place and hides nothing else.
    """
    named = list(_list_named(profile, read_variables(profile)))
    history, first = read_history(profile), _remember(profile, named, now)
    return tuple(_describe(profile, one, history, first) for one in named)


def _list_named(profile: ServiceProfile, variables: Mapping[str, str]) -> Iterator[_Named]:
    care = profile.credentials
    for name, terms in care.rotatable():
        yield _Named(name, terms, find_variable(profile, name), read_secret(profile, name, variables))
    for other in care.others:
        yield _read_other(other, variables)


def _read_other(other: OtherCredential, variables: Mapping[str, str]) -> _Named:
    if other.variable is not None:
        return _Named(other.name, other, other.variable, variables.get(other.variable, ""))
    reference = other.reference or ""
    try:
        return _Named(other.name, other, reference, resolve(reference))
    except RunbookError as error:
        return _Named(other.name, other, reference, "", str(error))


def _remember(profile: ServiceProfile, named: list[_Named], now: datetime) -> _FirstSeen:
    """Return since when each present value is known; one that was not known is known from now."""
    try:
        before = _FirstSeen.model_validate_json(read_first_seen(profile) or b"{}")
    except ValidationError:
        before = _FirstSeen()
    prints = {one.name: fingerprint(profile, one.name, one.value) for one in named if one.value}
    since = {
        name: before.since.get(name, now) if before.fingerprints.get(name) == found else now
        for name, found in prints.items()
    }
    write_first_seen(profile, _FirstSeen(fingerprints=prints, since=since).model_dump_json().encode())
    return _FirstSeen(fingerprints=prints, since=since)


def _describe(
    profile: ServiceProfile, one: _Named, history: tuple[RotationEvent, ...], first: _FirstSeen
) -> CredentialAge:
    last = next(
        (found for found in reversed(history) if (found.credential, found.event) == (one.name, "rotated")),
        None,
    )
    age = CredentialAge(
        service=profile.name,
        name=one.name,
        owner=one.terms.owner,
        held_in=one.held_in,
        is_set=bool(one.value),
        since=first.since.get(one.name),
        source="first seen",
        rotated=last.at if last else None,
        expires=one.terms.expires if isinstance(one.terms, OtherCredential) else None,
        rotate_every=one.terms.rotate_every,
        problem=one.problem,
    )
    # Another value than the rotation's was put there by hand.
    if last is not None and last.fingerprint == first.fingerprints.get(one.name):
        age = age.model_copy(update={"since": last.at, "source": "rotated here"})
    return age.model_copy(update=_find_retirement(profile, one) | _ask_provider(profile, one))


def _find_retirement(profile: ServiceProfile, one: _Named) -> dict[str, object]:
    found = next(
        (read_open(profile, name) for name, _ in profile.credentials.rotatable() if name == one.name), None
    )
    return {"retires": found.due} if found is not None else {}


def _ask_provider(profile: ServiceProfile, one: _Named) -> dict[str, object]:
    """Return what the provider knows: since when, the last use, and until when."""
    try:
        if isinstance(one.terms, S3Credentials):
            return _ask_iam(profile, one.terms)
        if one.name == "database-password" and profile.database.kind == "postgresql":
            return {"expires": _ask_postgresql(profile)}
    except RunbookError as error:
        return {"used": Unknown(why=str(error))}
    return {}


def _ask_iam(profile: ServiceProfile, terms: S3Credentials) -> dict[str, object]:
    key_id, iam = read_variables(profile).get(terms.key_id_variable, ""), IamKeys(terms)
    key: UserKey | None = iam.list_keys().get(key_id)
    if key is None:
        return {"problem": f"IAM does not know the key of {terms.key_id_variable} as one of {terms.user}"}
    made: dict[str, object] = {"since": key.made_at, "source": "its provider"} if key.made_at else {}
    return {**made, "used": iam.find_last_use(key_id)}


def _ask_postgresql(profile: ServiceProfile) -> date | None:
    url = read_variable(profile, profile.database.url_variable)
    with connect_as_application(url, _LIMITS) as connection:
        found = connection.execute(
            # Of whom it logged in as, whatever role its settings make it; Python knows no infinite date.
            "SELECT rolvaliduntil FROM pg_roles WHERE rolname = session_user AND isfinite(rolvaliduntil)"
        ).fetchone()
    until = found[0] if found else None
    return until.date() if isinstance(until, datetime) else None


def observe_ages_beside(profile: ServiceProfile, now: datetime) -> tuple[CredentialAge, ...]:
    """Given a service, return the credentials of the other services of this host that can be seen."""
    neighbours, _ = load_neighbours(profile)
    found: list[CredentialAge] = []
    for neighbour in neighbours:
        try:
            found.extend(observe_credential_ages(neighbour, now))
        except RunbookError as error:
            # Its own report fails for that.
            get_run_logger().warning("The credentials of %s are not shown: %s", neighbour.name, error)
    return tuple(found)
