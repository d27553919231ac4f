"""Causes in the application's database, as it looks with the application's own URL."""

from collections.abc import Callable

from flows.decisions.diagnosis_reading import (
    DATABASE_LINES,
    Finding,
    Rule,
    find_first_line,
    known,
    proves,
    say_changed,
    say_moment,
    say_signatures,
)
from tasks.records.diagnosis import Certainty
from tasks.records.evidence import DatabaseFacts, DatabaseState, Evidence
from tasks.records.service import ServiceProfile

Reader = Callable[[Evidence, ServiceProfile], Finding | None]


def read_state(*states: DatabaseState, title: str, certainty: Certainty = "proven") -> Reader:
    """Return the reader of a cause that the database's answer to a login proves by itself."""

    def read(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
        database = known(evidence.database)
        if database is None or database.state not in states:
            return None
        return Finding(
            title.format(where=database.where, variable=profile.database.url_variable),
            say_answer(database, evidence, profile),
            certainty=certainty,
            since=find_first_line(evidence, *DATABASE_LINES),
            hurts=True,
        )

    return read


def read_silence(state: DatabaseState, title: str) -> Reader:
    """Return the reader of a cause that is concluded from there being no answer."""

    def read(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
        database = known(evidence.database)
        if database is None or database.state != state:
            return None
        logged = proves(evidence, *DATABASE_LINES)
        return Finding(
            title.format(where=database.where),
            say_answer(database, evidence, profile),
            certainty="proven" if logged else "likely",
            since=find_first_line(evidence, *DATABASE_LINES),
            # Whoever is slow for a moment is no outage as long as the application is content.
            hurts=logged,
        )

    return read


def read_malformed_url(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is the database's URL none?"""
    database, environment = known(evidence.database), known(evidence.environment)
    variable = profile.database.url_variable
    if environment is not None and variable in environment.missing:
        return None
    malformed = environment is not None and any(found.name == variable for found in environment.malformed)
    refused = database is not None and database.state == "malformed url"
    if not malformed and not refused:
        return None
    said = say_answer(database, evidence, profile) if database is not None and refused else ()
    form = (f"{variable} has not the form that the profile wants.",) if malformed else ()
    return Finding(
        f"{variable} in the env file is no URL of a database.",
        (*form, *said),
        since=environment.modified_at if environment is not None else None,
    )


def read_missing(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is the server there, and the database not?"""
    database = known(evidence.database)
    if database is None or not (database.state == "has no such database" or database.is_empty):
        return None
    if database.state == "has no such database":
        return Finding(
            f"{database.where} is not there: the server has no such database.",
            say_answer(database, evidence, profile),
            hurts=True,
        )
    what = "collection" if database.kind == "mongodb" else "table"
    return Finding(
        f"{database.where} is empty.",
        (f"It has no {what} at all.", *say_changed(evidence, profile.database.url_variable)),
        # A MongoDB server makes no difference between an empty database and none.
        certainty="likely",
        hurts=True,
    )


def say_answer(database: DatabaseFacts, evidence: Evidence, profile: ServiceProfile) -> tuple[str, ...]:
    """Return what the database answered, and what else points to it."""
    asked = f"Asked at {say_moment(evidence.at, evidence, profile)} with the application's own URL"
    said = database.problem or f"{database.where} {database.state}."
    return (
        f"{asked}: {said}",
        *say_changed(evidence, profile.database.url_variable),
        *say_signatures(evidence, profile, *DATABASE_LINES),
    )


FOLLOWS = (
    "process errored",
    "crash loop",
    "process stopped",
    "not listening",
    "starting",
    "hanging",
    "database connection lost",
    "answers with errors",
    "login broken",
)

RULES: tuple[Rule, ...] = (
    Rule(
        "database url malformed",
        "I15",
        "configuration",
        read_malformed_url,
        proof="the database's driver cannot read the URL of the env file",
        advice="Correct the URL in the env file, then restart the application.",
        explains=FOLLOWS,
    ),
    Rule(
        "database host unknown",
        "I15",
        "database",
        read_silence("unknown host", "The host of {where} has a name that nobody knows."),
        proof="the name of the host in the URL is not found, and the application's log says the same",
        advice="Check the host in the URL and the name server of this host.",
        explains=FOLLOWS,
    ),
    Rule(
        "database down",
        "I15",
        "database",
        read_state(
            "refuses connections",
            "is starting or stopping",
            title="{where} is down: nothing takes connections there.",
        ),
        proof="its host refuses the connection, or the server says that it is starting or stopping",
        advice="Start the database server and read its log: why did it end? The administrator is to be told.",
        explains=FOLLOWS,
    ),
    Rule(
        "database without a primary",
        "I15",
        "database",
        read_state("has no primary", title="{where} has no primary: what runs there takes no writes."),
        proof="the server answers that it is no primary, or none of those that the URL names is one",
        advice="Wait a minute for the election. If none is elected, see rs.status(), and whether the "
        "URL names all members and replicaSet: with directConnection it asks one member, primary or not.",
        explains=FOLLOWS,
    ),
    Rule(
        "database unreachable",
        "I15",
        "database",
        read_silence("does not answer", "{where} does not answer."),
        proof="nothing answers within the time limit, and the application's log says the same",
        advice="Check that the database's host runs and that the network and firewall let this host through.",
        explains=FOLLOWS,
    ),
    Rule(
        "database password refused",
        "I15",
        "database",
        read_state(
            "refuses the password",
            title="{where} refuses the password of {variable}.",
        ),
        proof="the server answers, and refuses the user and password of the URL",
        advice="Put the right password into the URL of the env file, then restart the application. If nobody "
        "knows it, rotate-database-password makes a new one.",
        explains=FOLLOWS,
    ),
    Rule(
        "database missing",
        "I15",
        "database",
        read_missing,
        proof="the server answers that there is no such database; in MongoDB it has no collection",
        advice="Check the database's name in the URL. If it is gone, restore it with restore-database.",
        explains=FOLLOWS,
    ),
    Rule(
        "database refuses",
        "I15",
        "database",
        read_state(
            "does not allow it",
            "refuses otherwise",
            title="{where} refuses what the application asks of it.",
            certainty="likely",
        ),
        proof="the server answers a login or a first question with another error",
        advice="Read what the server answered; its administrator knows what the user may do.",
        explains=FOLLOWS,
    ),
)
