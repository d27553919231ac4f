"""What a check looked at, line by line."""

from typing import Literal

from tasks.records.observation import Record

# "-": there is nothing to judge.
LineVerdict = Literal["ok", "watch", "WRONG", "not known", "-"]


class CheckedLine(Record):
    """One thing that was looked at; ``seen`` is a sentence, also where nothing is wrong."""

    name: str
    row: str
    verdict: LineVerdict
    seen: str


class Checked(Record):
    """A whole check: the answer first, then the lines in their order, then what to do."""

    service: str
    good: bool
    headline: str
    lines: tuple[CheckedLine, ...]
    to_do: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
