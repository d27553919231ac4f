"""What the tests that kill a restore step by step ask afterwards."""

import json
import re

import httpx

from tasks.journal import list_open_journals
from tests.runbooks.conftest import Ledger


def is_healthy(ledger: Ledger) -> bool:
    try:
        return httpx.get(ledger.profile.application.health_url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def leftovers(ledger: Ledger) -> set[str]:
    """What a restore of the service may leave nowhere: databases, journals."""
    databases = {
        name for name in ledger.database.names_on_server() if re.match("(restore|aside)_ledger_", name)
    }
    return databases | set(list_open_journals(ledger.profile))


def events(ledger: Ledger) -> list[str]:
    lines = (ledger.folder / "state" / ledger.name / "trail.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def steps_of_the_newest_run(ledger: Ledger) -> list[str]:
    """Return every kind of line that the journal of the newest run has, in order."""
    closed = max((ledger.folder / "state" / ledger.name / "journals" / "closed").glob("*.jsonl"))
    return list(dict.fromkeys(json.loads(line)["step"] for line in closed.read_text().splitlines()))
