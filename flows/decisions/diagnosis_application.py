"""Causes in what a person or a deployment left behind: the env file, the program's files."""

from flows.decisions.diagnosis_reading import (
    FAILS_TO_START,
    Finding,
    Rule,
    find_oldest,
    known,
    say_changed,
    say_complaints,
    say_names,
    say_signatures,
)
from tasks.records.evidence import ApplicationFacts, Evidence
from tasks.records.observation import Complaint
from tasks.records.service import ServiceProfile


def read_env_file(evidence: Evidence, _profile: ServiceProfile) -> Finding | None:
    """Can the env file not be read at all?"""
    environment = known(evidence.environment)
    if environment is None or environment.problem is None:
        return None
    return Finding(f"The env file {environment.path} cannot be read.", (environment.problem,))


def find_repeated(evidence: Evidence) -> str | None:
    """Return the sentence that variables are set to more than one value, if they are."""
    environment = known(evidence.environment)
    if environment is None or not environment.repeated:
        return None
    names = say_names(environment.repeated)
    return f"{environment.path} sets {names} more than once, to different values: the last one counts."


def read_missing(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Which variables does the env file not have, beside those that have a rule of their own?"""
    environment, own = known(evidence.environment), profile.application.jwt_secret_variable
    if environment is None or not (missing := [name for name in environment.missing if name != own]):
        return None
    plural = "are" if missing[1:] else "is"
    return Finding(
        f"{say_names(missing)} {plural} missing in {environment.path}.",
        (
            "The application does not start without it.",
            *say_changed(evidence, *missing),
            *say_signatures(evidence, profile, "environment errors"),
        ),
        since=environment.modified_at,
    )


def read_malformed(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Which variables have a value of the wrong form, beside the database's URL?"""
    environment, own = known(evidence.environment), profile.database.url_variable
    if environment is None:
        return None
    wrong = [complaint for complaint in environment.malformed if complaint.name != own]
    if not wrong:
        return None
    return Finding(
        f"{say_names(found.name for found in wrong)} in {environment.path} has not the form it must have.",
        (
            say_complaints(wrong),
            *say_changed(evidence, *(found.name for found in wrong)),
            *say_signatures(evidence, profile, "environment errors"),
        ),
        since=environment.modified_at,
    )


def read_jwt_missing(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Has the secret that tokens are signed with no value, or one that is too short?"""
    authentication, environment = known(evidence.authentication), known(evidence.environment)
    name = profile.application.jwt_secret_variable
    missing = environment is not None and name in environment.missing
    malformed = environment is not None and any(found.name == name for found in environment.malformed)
    state = authentication.secret if authentication is not None else "unknown"
    required = name in profile.application.required_variables
    if missing or (state == "not set" and required):
        works = authentication is not None and authentication.login == "works"
        return Finding(
            f"{name} is missing: nobody can log in{' after the next restart' if works else ''}.",
            ("The env file has no value for it.", *say_changed(evidence, name)),
            since=environment.modified_at if environment is not None else None,
            hurts=True,
        )
    if state == "too short" and not malformed:
        return Finding(f"{name} is too short to be a secret.", say_changed(evidence, name) or (_SHORT,))
    return None


def read_syntax(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is a file of the program none that Node.js can read?"""
    found = known(evidence.application)
    if found is None or not found.syntax_errors:
        return None
    files = say_names(complaint.name for complaint in found.syntax_errors)
    return _deployed(f"{files} has a syntax error.", found.syntax_errors, found, evidence, profile)


def read_dependencies(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is a package or a file not there that the program needs, or another version of it?"""
    found = known(evidence.application)
    if found is None or not found.missing_dependencies:
        return None
    names = say_names(complaint.name for complaint in found.missing_dependencies)
    title = f"The program needs {names}, which is not there or not as it must be."
    return _deployed(title, found.missing_dependencies, found, evidence, profile, "module missing")


def read_permissions(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """May the application's user not read or write what it has to?"""
    found, environment = known(evidence.application), known(evidence.environment)
    own = environment.path if environment is not None and environment.problem else None
    unreadable = [complaint for complaint in found.unreadable if complaint.name != own] if found else []
    if found is None or not unreadable:
        return None
    names = say_names(complaint.name for complaint in unreadable)
    title = f"The application's user may not use {names}."
    return _deployed(title, tuple(unreadable), found, evidence, profile, "no permission")


def read_change(evidence: Evidence, _profile: ServiceProfile) -> Finding | None:
    """Did the program or its variables change since the service was healthy last?"""
    found, environment = known(evidence.application), known(evidence.environment)
    files = found.changed_files if found is not None else ()
    variables = environment.changed if environment is not None else ()
    if not files and not variables:
        return None
    what = say_names((*files, *variables))
    when = (
        found.changed_at if files and found is not None else None,
        environment.modified_at if variables and environment is not None else None,
    )
    return Finding(
        f"{what} changed since the service was healthy last.",
        ("Nothing else was found, and what changed last is where to look first.",),
        certainty="possible",
        since=find_oldest(when),
    )


def _deployed(  # noqa: PLR0913, PLR0917 a rule's parts, in their order
    title: str,
    complaints: tuple[Complaint, ...],
    found: ApplicationFacts,
    evidence: Evidence,
    profile: ServiceProfile,
    signature: str = "syntax error",
) -> Finding:
    changed = say_names(found.changed_files)
    said = (f"{changed} changed since the service was healthy last.",) if changed else ()
    return Finding(
        title,
        (say_complaints(complaints), *said, *say_signatures(evidence, profile, signature)),
        since=found.changed_at,
    )


_SHORT = "The env file's value is shorter than a secret must be."

RULES: tuple[Rule, ...] = (
    Rule(
        "env file unreadable",
        "I14",
        "files",
        read_env_file,
        proof="the env file is not there, or may not be read",
        advice="Put the env file back, from the newest backup set if need be, or correct who may read it.",
        explains=(*FAILS_TO_START, "jwt secret missing", "missing variable", "database url malformed"),
    ),
    Rule(
        "syntax error",
        "I14",
        "files",
        read_syntax,
        proof="`node --check` refuses a file of the program",
        advice="Undo the last deployment, or bring the files back with restore-application.",
        explains=FAILS_TO_START,
    ),
    Rule(
        "missing dependency",
        "I14",
        "files",
        read_dependencies,
        proof="a package that package.json asks for, or a file that the program requires, is not there",
        advice="Install the dependencies in the application's directory, then restart it.",
        explains=FAILS_TO_START,
    ),
    Rule(
        "bad file permissions",
        "I14",
        "files",
        read_permissions,
        proof="the application's user may not read or write a file that it has to",
        advice="Give the application's user its files back, then restart it.",
        explains=(*FAILS_TO_START, "env file unreadable"),
    ),
    Rule(
        "missing variable",
        "I14",
        "configuration",
        read_missing,
        proof="a required variable is not in the env file",
        advice="Put the variable back into the env file, then restart the application.",
        explains=(*FAILS_TO_START, "database url malformed"),
    ),
    Rule(
        "malformed variable",
        "I14",
        "configuration",
        read_malformed,
        proof="a variable's value has not the form that the profile wants",
        advice="Correct the variable in the env file, then restart the application.",
        explains=(*FAILS_TO_START, "wrong port"),
    ),
    Rule(
        "jwt secret missing",
        "I16",
        "configuration",
        read_jwt_missing,
        proof="the variable of the JWT secret has no value, or one that is too short",
        advice="Put the secret back into the env file, the old one if it is known, and restart: "
        "a new one logs everybody out.",
        explains=(*FAILS_TO_START, "jwt secret changed"),
    ),
    Rule(
        "recent change",
        "I33",
        "files",
        read_change,
        proof="nothing does: files or variables changed since the service was healthy last",
        advice="Look at that change first; restore-application brings earlier files back.",
        kind="guess",
    ),
)
