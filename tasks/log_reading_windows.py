"""The Windows event log, Application, by wevtutil."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from tasks.errors import ConfigurationError
from tasks.host_program import find_program, run_program
from tasks.log_entries import Entry, Reading
from tasks.records.logs import Level
from tasks.records.observation import Complaint

_MOST_EVENTS = 2000
_NAMESPACE = "{http://schemas.microsoft.com/win/2004/08/events/event}"
_LEVELS: dict[str, Level] = {"1": "error", "2": "error", "3": "warning"}
_EVENT = re.compile(r"<Event\b.*?</Event>", re.DOTALL)
_FURTHER_DIGITS = re.compile(r"(?<=\.\d{6})\d+")


def read_event_log(provider: str, since: datetime, seconds: float) -> Reading:
    """Given a source of events, return what it says since a moment."""
    source = f"event log of {provider}"
    try:
        program = find_program("wevtutil", None, "leave system_logs.windows_source out where there is none")
    except ConfigurationError as error:
        return _complain(source, str(error))
    moment = f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    wanted = f"Provider[@Name='{provider}'] and TimeCreated[@SystemTime>='{moment}']"
    options = [f"/q:*[System[{wanted}]]", "/f:xml", f"/c:{_MOST_EVENTS}", "/rd:true"]
    finished = run_program([program, "qe", "Application", *options], seconds=seconds)
    if finished.returncode is None:
        return _complain(source, f"wevtutil did not finish within {seconds:.0f} s")
    if finished.returncode != 0:
        return _complain(source, f"wevtutil ended with {finished.returncode}")
    # It lists the newest first, so that these are there when there are too many.
    return Reading(source, tuple(reversed(list(_parse(finished.output)))))


def _complain(source: str, why: str) -> Reading:
    problem = f"could not be read: {why.removesuffix('.')}"
    return Reading(source, (), (Complaint(name=source, problem=problem),))


def _parse(output: str) -> Iterator[Entry]:
    for found in _EVENT.finditer(output):
        try:
            event = ET.fromstring(found[0])  # noqa: S314  Windows wrote it
        except ET.ParseError:
            continue
        created = event.find(f"{_NAMESPACE}System/{_NAMESPACE}TimeCreated")
        stamp = created.get("SystemTime", "") if created is not None else ""
        level = event.findtext(f"{_NAMESPACE}System/{_NAMESPACE}Level", "")
        said = (data.text or "" for data in event.iterfind(f"{_NAMESPACE}EventData/{_NAMESPACE}Data"))
        yield Entry(_read_time(stamp), _LEVELS.get(level.strip()), "\n".join(said).strip())


def _read_time(stamp: str) -> datetime | None:
    try:
        # Windows counts in tenths of a microsecond.
        return datetime.fromisoformat(_FURTHER_DIGITS.sub("", stamp)).astimezone(UTC)
    except ValueError:
        return None
