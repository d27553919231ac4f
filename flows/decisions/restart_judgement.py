"""Did a restart put new processes in the place of the old ones, and what did the application say last?"""

from collections.abc import Sequence
from datetime import datetime

from tasks.records.figures import shorten
from tasks.records.process import ProcessStatus

_LAST_WORDS = 3
_LONGEST = 160
# The lines of a stack, and what Node.js says of itself after it.
_NO_WORDS = ("at ", "Node.js v", "^")


def find_unfinished(before: ProcessStatus, after: ProcessStatus, *, log_says_started: bool) -> str | None:
    """Given both looks at the processes, return why the restart is not complete, or None if it is.

    A process that is still the same is no fault where the log says that it started anew: a unit that reloads
    keeps its first process.
    """
    if not after.running:
        return f"not all of it runs: {after.detail}"
    old = _identities(before) & _identities(after)
    if old and not log_says_started:
        pid, since = min(old)
        return f"process {pid}, which runs since {since:%Y-%m-%d %H:%M:%S} UTC, is still the old one"
    return None


def _identities(status: ProcessStatus) -> set[tuple[int, datetime]]:
    """Return what tells one process from another: an id alone may come again."""
    return {
        (instance.pid, instance.since)
        for instance in status.instances
        if instance.pid is not None and instance.since is not None
    }


def say_last_words(lines: Sequence[str]) -> str:
    """Given the end of a log, return a sentence with its last lines that say something, or an empty text."""
    stripped = (line.strip() for line in lines)
    words = [line for line in stripped if line and not line.startswith(_NO_WORDS)][-_LAST_WORDS:]
    said = " / ".join(shorten(line, _LONGEST) for line in words).rstrip(".,;")
    return f"Its last words: {said}." if words else ""
