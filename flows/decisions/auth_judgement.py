"""Runbook row I16: why users, or one of them, cannot log in."""

from typing import Final

from flows.decisions.diagnosis import find_causes
from flows.decisions.diagnosis_reading import find_signature, say_moment
from flows.decisions.diagnosis_rules import RULES
from flows.decisions.health_lines import FAULTS, LINES, judge_line, place, sort_by_line
from tasks.records.checks import Checked, CheckedLine, LineVerdict
from tasks.records.diagnosis import Cause, Diagnosis
from tasks.records.evidence import Evidence
from tasks.records.figures import say_count
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.records.user import UserFacts

# What a login rests on, by the health check's lines.
_LINES: Final = ("logins and tokens", "Firebase's credentials", "database", "clocks")
# What log lines of logins and tokens are called, and whether one is more than a user's own mistake.
_SIGNATURES: Final = {
    "token secret missing": True,
    "token refused": True,
    "authentication failed": False,
    "token expired": False,
}
_ROW: Final = "I16"


def judge_authentication(
    evidence: Evidence,
    diagnosis: Diagnosis,
    user: UserFacts | Unknown | None,
    profile: ServiceProfile,
) -> Checked:
    """Given what was seen, return why nobody, or why the user that was asked about, can log in."""
    causes = _list_causes(evidence, diagnosis, profile)
    wrong, latent = sort_by_line(causes), sort_by_line(find_causes(evidence, profile, FAULTS))
    lines = [judge_line(line, wrong, latent, evidence) for line in LINES if line.name in _LINES]
    if user is not None:
        lines.insert(0, _judge_user(user))
    down = diagnosis.verdict in {"broken", "unknown"}
    mistaken = [line for line in lines[:1] if user is not None and line.verdict == "WRONG"]
    good = not (down or causes or mistaken)
    return Checked(
        service=profile.name,
        good=good,
        headline=_say_headline(diagnosis, causes, mistaken, user, down=down),
        lines=(*lines, *_list_logged(evidence, profile)),
        to_do=tuple(dict.fromkeys((*_advise(diagnosis.causes if down else causes), *_advise_user(user)))),
        notes=diagnosis.notes,
    )


def _list_causes(evidence: Evidence, diagnosis: Diagnosis, profile: ServiceProfile) -> tuple[Cause, ...]:
    """Return those of the diagnosis, and what is wrong with tokens also while the service runs on."""
    own = [rule.name for rule in RULES if rule.row == _ROW]
    found = (*diagnosis.causes, *diagnosis.consequences, *find_causes(evidence, profile, own))
    named = {cause.name: cause for cause in reversed(found) if place(cause.name) in _LINES}
    return tuple(reversed(named.values()))


def _say_headline(
    diagnosis: Diagnosis,
    causes: tuple[Cause, ...],
    mistaken: list[CheckedLine],
    user: UserFacts | Unknown | None,
    *,
    down: bool,
) -> str:
    if down:
        return f"Nobody can log in while the service is down. {diagnosis.headline}"
    titles = [cause.title for cause in causes if cause.explained_by is None]
    if mistaken:
        titles.append("The user that was asked about cannot log in: see the page.")
    if titles:
        return f"{diagnosis.service}: {' Also: '.join(titles)}"
    said = f"{diagnosis.service}: logins and tokens work, as far as can be seen from here."
    if isinstance(user, UserFacts):
        return f"{said} The user that was asked about is known{' and active' if user.active else ''}."
    return said


def _judge_user(user: UserFacts | Unknown) -> CheckedLine:
    verdict: LineVerdict = "WRONG"
    if isinstance(user, Unknown):
        verdict, seen = "not known", f"{user.why.removesuffix('.')}."
    elif user.found == "not found":
        seen = f"{user.asked} is not in {user.where}."
    elif user.found == "several":
        seen = f"{user.asked} is there more than once in {user.where}: which one logs in is chance."
    elif user.found == "spelled otherwise":
        seen = f"{user.asked} is in {user.where} only with other capitals."
    elif user.active is False:
        seen = f"{user.asked} is there, but not active by its field {user.told_by}."
    else:
        verdict, told = "ok", f" and active by its field {user.told_by}" if user.active else ""
        seen = f"{user.asked} is in {user.where}{told}."
    return CheckedLine(name="the user", row=_ROW, verdict=verdict, seen=seen)


def _list_logged(evidence: Evidence, profile: ServiceProfile) -> list[CheckedLine]:
    if isinstance(evidence.logs, Unknown):
        why = f"{evidence.logs.why.removesuffix('.')}."
        return [CheckedLine(name="log", row=_ROW, verdict="not known", seen=why)]
    lines = []
    for name, is_serious in _SIGNATURES.items():
        if (found := find_signature(evidence, name)) is None:
            continue
        last = f", last at {say_moment(found.last, evidence, profile)}" if found.last else ""
        verdict: LineVerdict = "watch" if is_serious else "ok"
        seen = f"{say_count(found.count, 'line')} in the last hour{last}."
        lines.append(CheckedLine(name=f"log: {name}", row=_ROW, verdict=verdict, seen=seen))
    return lines


def _advise(causes: tuple[Cause, ...]) -> tuple[str, ...]:
    return tuple(cause.advice for cause in causes)


def _advise_user(user: UserFacts | Unknown | None) -> tuple[str, ...]:
    if not isinstance(user, UserFacts):
        return ()
    advice = {
        "not found": "Ask the user for the exact address; if it is right, the account was never made or is "
        "deleted: see the audit log.",
        "several": "Keep one of the accounts; ensure-indexes says whether the unique index is there.",
        "spelled otherwise": "Ask the user to write the address as the account has it.",
        "found": "Ask who deactivated the account and why, before anybody activates it.",
    }
    return (advice[user.found],) if user.found != "found" or user.active is False else ()
