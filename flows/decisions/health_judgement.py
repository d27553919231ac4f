"""Runbook rows I6, I9 to I12: one line for everything that keeps a service healthy.

The verdict is the diagnosis', so that a health check and a triage never disagree: a line is wrong if, and
only if, a cause of the diagnosis belongs to it.
"""

from flows.decisions.diagnosis import find_causes
from flows.decisions.diagnosis_outside import ONLY_SOMETIMES
from flows.decisions.diagnosis_reading import known, say_health
from flows.decisions.diagnosis_time import find_ending
from flows.decisions.health_lines import FAULTS, LINES, blame, judge_line, sort_by_line
from tasks.records.checks import Checked, CheckedLine, LineVerdict
from tasks.records.diagnosis import Diagnosis
from tasks.records.evidence import Evidence
from tasks.records.figures import say_count
from tasks.records.service import ServiceProfile

# What a person may have changed on purpose; anything else is never taken as meant.
_CHANGES = {"jwt secret changed"}


def judge_health(evidence: Evidence, diagnosis: Diagnosis, profile: ServiceProfile) -> Checked:
    """Given what was seen and what it means, return the check's page."""
    wrong = sort_by_line((*diagnosis.causes, *diagnosis.consequences))
    # What would take the service down at its next start, as a variable that is missing meanwhile.
    latent = sort_by_line(find_causes(evidence, profile, FAULTS))
    lines = [judge_line(line, wrong, latent, evidence) for line in LINES]
    known_lines = {line.name for line in LINES}
    lines += [blame(name, "WRONG", causes) for name, causes in wrong.items() if name not in known_lines]
    return Checked(
        service=diagnosis.service,
        good=diagnosis.verdict == "healthy",
        headline=diagnosis.headline,
        lines=(
            _judge_answer(evidence, diagnosis),
            *(_remind(line, evidence, profile) for line in lines),
            *_judge_line_of_firebase(evidence, profile),
        ),
        to_do=tuple(dict.fromkeys(cause.advice for cause in diagnosis.causes)),
        notes=diagnosis.notes,
    )


def say_conclusion(checked: Checked) -> str:
    """Given a check, return its one sentence, with what nobody could see."""
    blind = [line.name for line in checked.lines if line.verdict == "not known"]
    return f"{checked.headline} Not known: {', '.join(blind)}." if blind else checked.headline


def is_only_change(diagnosis: Diagnosis) -> bool:
    """Is all that is wrong that something is not as it was, which a person may have meant?"""
    return bool(diagnosis.causes) and {cause.name for cause in diagnosis.causes} <= _CHANGES


def _remind(line: CheckedLine, evidence: Evidence, profile: ServiceProfile) -> CheckedLine:
    """Say that the certificate ends soon; every other line stays as it is."""
    ending = find_ending(evidence, profile)
    if line.name != "certificate" or line.verdict != "ok" or ending is None:
        return line
    return line.model_copy(update={"verdict": "watch", "seen": ending})


def _judge_answer(evidence: Evidence, diagnosis: Diagnosis) -> CheckedLine:
    """Judge health itself: the diagnosis calls a service well or degraded if, and only if, it answers.

    One that says now and then that it is ill is degraded; one that was late or restarted once is watched.
    """
    answers = evidence.health.answers
    suffering = diagnosis.verdict in {"broken", "unknown"}
    ill = any(cause.name == ONLY_SOMETIMES for cause in diagnosis.causes)
    blinked = not suffering and not evidence.health.is_good
    slowest = max(answer.seconds for answer in answers)
    said = f"{say_count(len(answers), 'answer')}, the slowest after {slowest:.2f} s."
    return CheckedLine(
        name="health",
        row="I9",
        verdict="WRONG" if suffering or ill else "watch" if blinked else "ok",
        seen=say_health(evidence) if suffering else f"Not every time: {said}" if blinked else said,
    )


def _judge_line_of_firebase(evidence: Evidence, profile: ServiceProfile) -> tuple[CheckedLine, ...]:
    logs = known(evidence.logs)
    if profile.firebase is None:
        return ()
    said: tuple[LineVerdict, str] = ("-", "The log of the last hour has no start in it.")
    if logs is not None and logs.firebase_started is not None:
        said = ("ok", f'The log says "{profile.firebase.started_line}".')
        if not logs.firebase_started:
            said = ("watch", "The log has no line that Firebase is up since the last start.")
    return (CheckedLine(name="Firebase's line in the log", row="I10", verdict=said[0], seen=said[1]),)
