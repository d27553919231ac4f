"""Watching the application after a rotation: it stays healthy, and its log says whom it refuses (row P4)."""

from typing import Final

from flows.decisions.log_signatures import recognize
from tasks.availability import await_healthy_for
from tasks.errors import RunbookError
from tasks.log_reading import read_logs
from tasks.records.figures import say_count
from tasks.records.service import ServiceProfile
from tasks.run_context import read_clock

# As docs/reference/causes.md and the log report call them.
_REFUSALS: Final = frozenset({"authentication failed", "token refused", "database password refused"})


def watch_after(profile: ServiceProfile) -> str:
    """Given an application that was proven, watch it for ``outage.healthy_for``; say what its log refuses.

    Raise ``UnreachableError`` if it does not stay healthy. A log that cannot be read is said.
    """
    since = read_clock()
    await_healthy_for(profile)
    try:
        facts = recognize(read_logs(profile, since), profile)
    except RunbookError as error:
        return f"Its log could not be watched: {error}"
    count = sum(found.count for found in facts.signatures if found.name in _REFUSALS)
    if not count:
        return ""
    return f"Since then {say_count(count, 'line')} of its log refused a login or a token: see log-report."
