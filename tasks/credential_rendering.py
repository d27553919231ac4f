"""The credential report as the Markdown that the Prefect UI shows: what is overdue first."""

from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from uuid import UUID

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.credential_age import CredentialAge, JudgedAge
from tasks.records.figures import say_period
from tasks.records.observation import Unknown

# What matters most comes first: the UI does not wrap cells, and cuts off what is wide.
_HEADERS = ("", "Credential", "Age", "Policy", "Rotated here", "Last used", "Ends", "Owner", "In")


def publish_credentials(  # noqa: PLR0913, PLR0917  whose page, the answer, the lines, when and where
    runbook: str, service: str, said: str, judged: Sequence[JudgedAge], now: datetime, zone: tzinfo
) -> UUID:
    """Show every credential of this host's services, the worst first."""
    return publish_markdown(render_credentials(said, judged, now, zone), runbook, "credentials", service)


def render_credentials(said: str, judged: Sequence[JudgedAge], now: datetime, zone: tzinfo) -> str:
    """Return the page: the answer, what to do, then one line a credential."""
    pieces = ["# Credentials", f"**{escape(said, LONGEST_SENTENCE)}**"]
    if to_do := [f"{one.age.service}: {one.to_do}" for one in judged if one.to_do]:
        pieces += ["## To do", render_list(to_do)]
    pieces.append(render_table(_HEADERS, (tuple(_list_cells(one, now, zone)) for one in judged)))
    pieces.append("An age with ≥ is counted from the first report that saw the present value.")
    return "\n\n".join(pieces)


def _list_cells(judged: JudgedAge, now: datetime, zone: tzinfo) -> Iterator[str]:
    age = judged.age
    yield judged.verdict
    yield f"{age.service}: {age.name}"
    yield _say_age(age, now)
    yield say_period(age.rotate_every)
    yield _say_day(age.rotated, zone) if age.rotated else "never"
    yield _say_use(age, zone)
    yield _say_end(age, zone)
    yield age.owner or "nobody"
    yield age.held_in


def _say_age(age: CredentialAge, now: datetime) -> str:
    if age.since is None:
        return "not known"
    return f"{'≥ ' if age.source == 'first seen' else ''}{say_period(now - age.since)}"


def _say_use(age: CredentialAge, zone: tzinfo) -> str:
    if isinstance(age.used, Unknown):
        return f"not known: {age.used.why}"
    return _say_day(age.used, zone) if age.used else "not told"


def _say_end(age: CredentialAge, zone: tzinfo) -> str:
    if age.retires is not None:
        return f"the old one on {_say_day(age.retires, zone)}"
    return f"{age.expires}" if age.expires else "never"


def _say_day(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"
