"""See what is wrong with the application's env file. Names leave this module, and no value."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import list_assignments, read_text
from tasks.errors import ConfigurationError, RunbookError
from tasks.known_good import list_changed
from tasks.mongodb import database_of
from tasks.postgresql import parse_url
from tasks.records.evidence import EnvironmentFacts
from tasks.records.observation import Complaint
from tasks.records.service import Database, ServiceProfile

_SCHEMES = {"mongodb": r"mongodb(\+srv)?://", "postgresql": r"postgres(ql)?://"}
_TITLES = {
    "mongodb": "MongoDB (mongodb://user:password@host:port/database)",
    "postgresql": "PostgreSQL (postgresql://user:password@host:port/database)",
}
# The driver would ask a name server where such a URL points to.
_SRV = re.compile(r"mongodb\+srv://", re.IGNORECASE)
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_HIGHEST_PORT = 65535


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_environment(profile: ServiceProfile) -> EnvironmentFacts:
    """Given a service, return which variables of its env file are missing, malformed, repeated or changed.

    A file that is missing or cannot be read is an answer. Raise ``AccessDeniedError`` if what is remembered
    of healthier times is another user's.
    """
    path = str(profile.env_path)
    try:
        assignments = list_assignments(read_text(profile))
    except RunbookError as error:
        return EnvironmentFacts(path=path, problem=str(error))
    variables = dict(assignments)
    missing = tuple(name for name in _list_required(profile) if not variables.get(name, "").strip())
    return EnvironmentFacts(
        path=path,
        problem=None,
        missing=missing,
        malformed=tuple(_list_malformed(profile, variables, missing)),
        repeated=_list_repeated(assignments),
        changed=list_changed(profile, variables),
        modified_at=_say_modified(profile),
    )


def _list_required(profile: ServiceProfile) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*profile.application.required_variables, profile.database.url_variable]))


def _list_malformed(
    profile: ServiceProfile, variables: Mapping[str, str], missing: Sequence[str]
) -> Iterable[Complaint]:
    """Yield one complaint a variable, the one that says most."""
    forms = profile.application.variable_forms
    port, url = profile.application.port_variable, profile.database.url_variable
    for name in dict.fromkeys([*_list_required(profile), port, *forms]):
        value = variables.get(name)
        if name in missing or not value:
            continue
        problem = (
            _judge_quotes(value)
            or (_judge_port(value) if name == port else None)
            or (_judge_url(profile.database, value) if name == url else None)
            or (_judge_form(forms[name], value) if name in forms else None)
        )
        if problem is not None:
            yield Complaint(name=name, problem=problem)


def _judge_quotes(value: str) -> str | None:
    quote = value[0]
    if quote in "'\"`" and (len(value) == 1 or not value.endswith(quote)):
        return f"begins with a quotation mark ({quote}) that is not closed"
    return None


def _judge_port(value: str) -> str | None:
    if _PORT.fullmatch(value) and 0 < int(value) <= _HIGHEST_PORT:
        return None
    return f"is no port: a number from 1 to {_HIGHEST_PORT} is expected"


def _judge_url(database: Database, value: str) -> str | None:
    if not re.match(_SCHEMES[database.kind], value):
        return f"is no URL of {_TITLES[database.kind]}"
    try:
        if database.kind == "mongodb":
            database_of(_SRV.sub("mongodb://", value))
        else:
            parse_url(value)
    except ConfigurationError as error:
        # Of ours, and without a piece of the URL.
        return f"is no usable URL ({str(error).removesuffix('.')})"
    return None


def _judge_form(form: str, value: str) -> str | None:
    return None if re.fullmatch(form, value) else f"does not have the form that the profile wants: {form}"


def _list_repeated(assignments: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    values: dict[str, set[str]] = {}
    for name, value in assignments:
        values.setdefault(name, set()).add(value)
    return tuple(sorted(name for name, found in values.items() if len(found) > 1))


def _say_modified(profile: ServiceProfile) -> datetime | None:
    with suppress(OSError):
        return datetime.fromtimestamp(profile.env_path.stat().st_mtime, UTC)
    return None
