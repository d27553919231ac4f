"""Causes in what the application answers."""

from flows.decisions.diagnosis_reading import DATABASE_LINES, Finding, Rule, known, say_health, say_signatures
from tasks.records.evidence import Evidence
from tasks.records.service import ServiceProfile


def read_bad_answer(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does it answer that it is not healthy?"""
    answer = evidence.health.answers[-1]
    if answer.problem is None or answer.status_code is None:
        return None
    name = profile.application.process_name
    return Finding(f"{name} answers that it is not healthy.", (say_health(evidence), *_say_error(evidence)))


def read_lost_database(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does it complain of a database that answers everybody else?"""
    database, answer = known(evidence.database), evidence.health.answers[-1]
    if database is None or database.state != "answers" or answer.problem is None or answer.failure:
        return None
    logged = say_signatures(evidence, profile, *DATABASE_LINES)
    if "database" not in (answer.error or "").lower() and not logged:
        return None
    return Finding(
        f"{profile.application.process_name} has lost its database, which answers everybody else.",
        (
            *_say_error(evidence),
            f"With the application's own URL, {database.where} answered in {database.seconds:.2f} s.",
            *logged,
        ),
        certainty="likely",
    )


def _say_error(evidence: Evidence) -> tuple[str, ...]:
    error = evidence.health.answers[-1].error
    return (f'It says itself: "{error}".',) if error else ()


RULES: tuple[Rule, ...] = (
    Rule(
        "database connection lost",
        "I15",
        "process",
        read_lost_database,
        proof="it complains of its database, and the database answers with the same URL",
        advice="Restart it, so that it connects anew; it may run with an older URL than its env file has.",
        remedy="restart",
        explains=("answers with errors", "login broken"),
    ),
    Rule(
        "answers with errors",
        "I18",
        "process",
        read_bad_answer,
        proof="its health answers, and not with 200 and OK",
        advice="Look at what it follows from.",
        kind="symptom",
    ),
)
