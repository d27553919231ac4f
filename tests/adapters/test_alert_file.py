"""The receiver's file as the receiver writes it, read beside it: what started nothing, and for whom."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.alerts.folding import keep
from deployments.alerts.incoming import Alert, Decision, Delivery
from deployments.alerts.pending import note_refused, note_started
from deployments.alerts.store import Store
from tasks.alert_file import observe_alerts
from tasks.errors import UnreachableError
from tasks.records.service import ServiceProfile

NOW = datetime.now(UTC)
SERVICES = ("invoice", "propertypulse")
UNMAPPED = Decision("unmapped", reason="no route matches")


class Kept:
    """A receiver's file with some alerts in it; the receiver has it open."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "alerts.sqlite")
        self.count = 0

    def add(self, name: str, decision: Decision, minutes_ago: float = 10, **labels: str) -> str:
        self.count += 1
        at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        alert = Alert(f"{self.count}", at, True, {"alertname": name, **labels}, "")
        delivery = Delivery("prometheus", ((alert, decision),))
        self.store.submit(lambda rows: keep(rows, delivery, at.timestamp())).result()
        return alert.key

    def see(self, profile: ServiceProfile) -> dict[tuple[str, str], tuple[int, str]]:
        care = profile.escalation.model_copy(update={"receiver_file": self.store.path})
        seen = observe_alerts.fn(
            profile.model_copy(update={"escalation": care}), SERVICES, NOW - timedelta(hours=24)
        )
        return {(alert.name, alert.state): (alert.count, alert.reason) for alert in seen}


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def for_service(name: str) -> Decision:
    return Decision("received", service=name, runbook="outage-triage")


def test_what_started_nothing_is_seen_once_a_name_and_what_was_started_is_not(
    kept: Kept, invoice: ServiceProfile
) -> None:
    for _ in range(3):
        kept.add("DiskOdd", UNMAPPED, service="invoice")
    kept.add("Waits", for_service("invoice"))
    kept.add("JustCame", for_service("invoice"), minutes_ago=0)
    refused, started = (kept.add(name, for_service("invoice")) for name in ("Refused", "Started"))
    why = "outage-triage/invoice has no parameter 'raeson'; token=sk_live_4242424242424242"
    kept.store.submit(lambda rows: note_refused(rows, refused, why)).result()
    kept.store.submit(lambda rows: note_started(rows, started, "id", "name", NOW.timestamp())).result()

    seen = kept.see(invoice)

    assert set(seen) == {("DiskOdd", "unmapped"), ("Waits", "waiting"), ("Refused", "refused")}
    assert seen["DiskOdd", "unmapped"] == (3, "no route matches")
    assert "no parameter 'raeson'" in seen["Refused", "refused"][1]
    assert "sk_live" not in seen["Refused", "refused"][1]


def test_an_alert_is_its_services_and_one_of_nobody_is_everybodys(
    kept: Kept, invoice: ServiceProfile, propertypulse: ServiceProfile
) -> None:
    kept.add("Mine", UNMAPPED, service="invoice")
    kept.add("Misspelt", UNMAPPED, service="invoyce")
    kept.add("Nobodys", UNMAPPED)
    assert set(kept.see(invoice)) == {(name, "unmapped") for name in ("Mine", "Misspelt", "Nobodys")}
    assert set(kept.see(propertypulse)) == {(name, "unmapped") for name in ("Misspelt", "Nobodys")}


def test_what_is_long_over_is_not_seen_but_what_still_waits(kept: Kept, invoice: ServiceProfile) -> None:
    kept.add("Old", UNMAPPED, minutes_ago=25 * 60)
    kept.add("Waits", for_service("invoice"), minutes_ago=25 * 60)
    assert set(kept.see(invoice)) == {("Waits", "waiting")}


def test_a_file_that_cannot_be_read_is_an_error_and_none_named_is_none(
    tmp_path: Path, invoice: ServiceProfile
) -> None:
    nowhere = invoice.escalation.model_copy(update={"receiver_file": tmp_path / "no.sqlite"})
    with pytest.raises(UnreachableError, match=r"correct escalation\.receiver_file"):
        observe_alerts.fn(invoice.model_copy(update={"escalation": nowhere}), SERVICES, NOW)
    assert not (tmp_path / "no.sqlite").exists()
    unnamed = invoice.escalation.model_copy(update={"receiver_file": None})
    assert observe_alerts.fn(invoice.model_copy(update={"escalation": unnamed}), SERVICES, NOW) == ()
