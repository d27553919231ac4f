"""What the receiver thinks, without its service: what an alert is, who sent it, what it starts."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from deployments.alerts.authentication import TokenBuckets, authenticate, demand_credentials, sign
from deployments.alerts.configuration import (
    Configured,
    GenericMapping,
    Receiver,
    Route,
    configuration_path,
    read_configuration,
    read_receiver,
)
from deployments.alerts.folding import forget, keep
from deployments.alerts.incoming import Alert, Decision, Delivery, Kept
from deployments.alerts.mapping import decide
from deployments.alerts.overview import render_overview
from deployments.alerts.payloads import read_alertmanager, read_generic
from deployments.alerts.pending import find_pending, find_untold, note_refused, note_started, note_told
from deployments.alerts.prefect_runs import _is_final
from deployments.alerts.refusals import Refusal
from deployments.alerts.store import _SCHEMA
from tasks.errors import ConfigurationError
from tasks.yaml_sections import read_section

SHIPPED = Path(__file__).parents[2] / "deployments" / "alerts"
NOW = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
CANARY = "canary-19c4"


def make_alert(fingerprint: str = "1a30ba71", began: datetime = NOW, **changes: Any) -> Alert:
    labels = {"alertname": "ServiceDown", "service": "invoice"}
    alert = Alert(fingerprint, began, is_firing=True, labels=labels, summary="It is down")
    return replace(alert, **changes)


def posted(**changes: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": "ServiceDown", "service": "invoice"},
        "annotations": {"summary": "invoice does not answer", "runbook_url": "https://example.com"},
        "startsAt": "2026-03-01T02:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "1a30ba71cca2921f",
        **changes,
    }


def a_post(*alerts: dict[str, Any]) -> bytes:
    """Alertmanager's and Grafana's outer form, with what we do not read."""
    return json.dumps({"version": "4", "truncatedAlerts": 0, "orgId": 1, "alerts": list(alerts)}).encode()


def test_a_post_of_alertmanager_is_read() -> None:
    first, second = read_alertmanager(a_post(posted(), posted(status="resolved", fingerprint="b")))
    assert first.is_firing
    assert first.fingerprint == "1a30ba71cca2921f"
    assert first.starts_at == datetime(2026, 3, 1, 2, 0, 0, 123456, tzinfo=UTC)
    assert first.labels == {"alertname": "ServiceDown", "service": "invoice"}
    assert first.summary == "invoice does not answer"
    assert not second.is_firing


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "the body"),
        (b"[]", "the body"),
        (b"\xff\xfe", "the body"),
        (b'{"alerts": ' + b"[" * 5000, "the body"),
        (a_post(), "alerts"),
        (a_post(posted(status="burning")), "alerts.0.status"),
        (a_post(posted(), posted(fingerprint="")), "alerts.1.fingerprint"),
        (a_post(posted(fingerprint="x" * 201)), "alerts.0.fingerprint"),
        (a_post(posted(startsAt="yesterday")), "alerts.0.startsAt"),
        (a_post(posted(startsAt=None)), "alerts.0.startsAt"),
        (a_post(posted(startsAt="0001-01-01T00:00:00+14:00")), "startsAt"),
        (a_post(posted(labels={"alertname": 7})), "alerts.0.labels.alertname"),
        (a_post(posted(labels={"alertname": "\ud800"})), "the body"),
    ],
)
def test_what_is_no_post_of_alertmanager_is_refused_saying_where(body: bytes, where: str) -> None:
    with pytest.raises(Refusal, match=f"at {where}") as refused:
        read_alertmanager(body)
    assert (refused.value.status, refused.value.outcome) == (422, "malformed")


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  st's
OFFSETS = st.integers(-720, 720).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(MOMENTS, OFFSETS)
def test_a_key_is_the_alerts_own_whatever_else_comes_with_it(began: datetime, zone: timezone) -> None:
    def key(**changes: Any) -> str:
        return read_alertmanager(a_post(posted(**{"startsAt": began.isoformat(), **changes})))[0].key

    assert key(labels={}, annotations={}, status="resolved") == key()
    assert key(startsAt=began.astimezone(zone).isoformat()) == key()
    assert key(startsAt=(began + timedelta(microseconds=1)).isoformat()) != key()
    assert key(fingerprint="other") != key()


def shipped(name: str) -> GenericMapping:
    return read_section(SHIPPED / "mappings" / f"{name}.yaml", GenericMapping, "mapping")


def read_as(name: str, document: Any) -> Sequence[Alert]:
    return read_generic(json.dumps(document).encode(), name, shipped(name), NOW)


KUMA = {
    "heartbeat": {"monitorID": 7, "status": 0, "time": "2026-03-01 01:59:30.250", "msg": "timeout"},
    "monitor": {"id": 7, "name": "invoice", "url": "https://invoice.example.com/health"},
    "msg": "[invoice] [Down] timeout",
}


def test_uptime_kuma_is_read_by_its_mapping_file() -> None:
    (down,) = read_as("uptime-kuma", KUMA)
    assert down.is_firing
    assert down.fingerprint == "uptime-kuma:7"
    assert down.starts_at == datetime(2026, 3, 1, 1, 59, 30, 250000, tzinfo=UTC)
    assert down.summary == "timeout"
    assert down.labels["service"] == "invoice"
    (up,) = read_as("uptime-kuma", {**KUMA, "heartbeat": {"status": 1, "time": "2026-03-01 02:10:00"}})
    assert (up.is_firing, up.fingerprint) == (False, "uptime-kuma:7")
    assert read_as("uptime-kuma", {**KUMA, "heartbeat": {"status": 3}}) == ()
    assert read_as("uptime-kuma", {**KUMA, "heartbeat": {"status": False}}) == ()


def test_sentrys_two_forms_are_read_as_one_alert() -> None:
    event = {
        "issue_id": "1117540176",
        "title": "ReferenceError: heck is not defined",
        "level": "error",
        "environment": "production",
        "project": 1,
        "datetime": "2026-03-01T01:00:00.000000Z",
    }
    triggered = {"action": "triggered", "data": {"event": event, "triggered_rule": "too many errors"}}
    (firing,) = read_as("sentry", triggered)
    issue = {"id": "1117540176", "title": "ReferenceError"}
    (over,) = read_as("sentry", {"action": "resolved", "data": {"issue": issue}})
    assert (firing.is_firing, over.is_firing) == (True, False)
    assert firing.fingerprint == over.fingerprint == "sentry:1117540176"
    assert firing.labels["project"] == "1"
    assert firing.labels["environment"] == "production"
    assert read_as("sentry", {"action": "assigned", "data": {"issue": issue}}) == ()


def test_our_own_plain_form_takes_several_alerts_and_any_label() -> None:
    alerts = [
        {"id": "a", "status": "firing", "started_at": 1772330400, "labels": {"alertname": "X", "n": 3}},
        {"id": "b", "status": "resolved", "started_at": 1772330400000, "labels": {"deep": {}}},
    ]
    first, second = read_as("plain", {"alerts": alerts})
    assert first.labels == {"alertname": "X", "n": "3"}
    assert first.starts_at == second.starts_at == NOW
    assert second.labels == {}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({}, r"\$\.alerts"),
        ({"alerts": "no"}, r"\$\.alerts"),
        ({"alerts": [{"id": "a"}]}, r"\$\.status"),
        ({"alerts": [{"status": "firing"}]}, r"\$\.id"),
        ({"alerts": [{"id": "a", "status": "firing", "started_at": "noon"}]}, r"\$\.started_at"),
        ({"alerts": [{"id": "a", "status": "firing", "started_at": 1e300}]}, r"\$\.started_at"),
    ],
)
def test_what_a_mapping_cannot_read_is_refused_saying_where(document: Any, where: str) -> None:
    with pytest.raises(Refusal, match=where):
        read_as("plain", document)


ROUTES = (
    Route(match={"alertname": "Specific", "team": "a"}, service="invoice", runbook="restart-service"),
    Route(
        match={"alertname": ("ServiceDown", "Specific")},
        service="{service}",
        runbook="outage-triage",
        parameters={
            "dry_run": True,
            "reason": "{alertname} of {service}",
            "deep": {"list": ["{service}", 7]},
        },
    ),
)


def test_the_first_route_that_matches_gives_service_runbook_and_parameters() -> None:
    decided = decide(make_alert(), ROUTES)
    assert (decided.state, decided.service, decided.runbook) == ("received", "invoice", "outage-triage")
    assert decided.parameters == {
        "dry_run": True,
        "reason": "ServiceDown of invoice",
        "deep": {"list": ["invoice", 7]},
    }
    first = decide(make_alert(labels={"alertname": "Specific", "team": "a"}), ROUTES)
    assert first.runbook == "restart-service"


def test_a_label_is_put_in_as_it_is_and_never_read_again() -> None:
    labels = {"alertname": "{service}", "service": "invoice"}
    route = Route(
        match={"service": "invoice"}, service="{service}", runbook="x", parameters={"a": "{alertname}"}
    )
    assert decide(make_alert(labels=labels), [route]).parameters == {"a": "{service}"}


@pytest.mark.parametrize(
    ("labels", "state", "reason"),
    [
        ({"alertname": "Unheard"}, "unmapped", "no route"),
        ({}, "unmapped", "no route"),
        ({"alertname": "ServiceDown"}, "refused", "needs the label 'service'"),
        ({"alertname": "ServiceDown", "service": "a/../b"}, "refused", "no service's name"),
        ({"alertname": "ServiceDown", "service": ""}, "refused", "no service's name"),
    ],
)
def test_what_starts_nothing_says_why(labels: dict[str, str], state: str, reason: str) -> None:
    decided = decide(make_alert(labels=labels), ROUTES)
    assert decided.state == state
    assert reason in decided.reason


RECEIVER = """
state_directory: {folder}
sources:
  - {{name: prometheus, path: alertmanager, bearer: "env:A1_BEARER"}}
  - {{name: grafana, path: grafana, signature: {{key: "env:A1_KEY"}}}}
  - name: sentry
    path: generic/sentry
    signature: {{key: "env:A1_SENTRY", header: Sentry-Hook-Signature, timestamp_header: null}}
routes:
  - match: {{alertname: ServiceDown}}
    service: "{{service}}"
    runbook: outage-triage
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in a folder of its own, with the shipped mapping files."""
    for name in ("A1_BEARER", "A1_KEY", "A1_SENTRY"):
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    (tmp_path / "mappings").symlink_to(SHIPPED / "mappings")
    path = tmp_path / "alerts.yaml"
    path.write_text(RECEIVER.format(folder=tmp_path), encoding="utf-8")
    return path


@pytest.fixture
def configured(written: Path) -> Configured:
    return read_configuration(written)


def signed(key: str, now: float, body: bytes = b"{}") -> Headers:
    stamp = str(int(now))
    return Headers({"X-Alert-Timestamp": stamp, "X-Alert-Signature": sign(key, stamp, body)})


KEY = f"{CANARY}-A1_KEY"


def test_a_bearer_token_is_its_source(configured: Configured) -> None:
    headers = Headers({"Authorization": f"bEARER {CANARY}-A1_BEARER"})
    sender = authenticate(configured, "alertmanager", headers, b"{}", 0)
    assert (sender.source.name, sender.signature) == ("prometheus", None)


def test_a_signature_is_remembered_for_as_long_as_it_would_be_taken(configured: Configured) -> None:
    sender = authenticate(configured, "grafana", signed(KEY, 1000), b"{}", 1290)
    assert sender.source.name == "grafana"
    assert sender.expires == 1300
    body_alone = Headers({"Sentry-Hook-Signature": sign(f"{CANARY}-A1_SENTRY", None, b"{}")})
    sender = authenticate(configured, "generic/sentry", body_alone, b"{}", 1000)
    assert sender.expires == 1000 + 30 * 86400


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("alertmanager", {"Authorization": "Bearer wrong"}, 401),
        ("alertmanager", {"Authorization": f"Basic {CANARY}-A1_BEARER"}, 401),
        ("alertmanager", {"Authorization": f"Bearer {KEY}"}, 401),
        ("alertmanager", {"Authorization": "Bearer \xe9"}, 401),
        ("grafana", {"Authorization": f"Bearer {CANARY}-A1_BEARER"}, 403),
        ("generic/sentry", dict(signed(KEY, 1000)), 403),
        ("grafana", dict(signed("another", 1000)), 401),
        ("grafana", dict(signed(KEY, 1000, b"{ }")), 401),
        ("grafana", {**signed(KEY, 1000), "x-alert-timestamp": "1001"}, 401),
        ("grafana", {"X-Alert-Signature": sign(KEY, None, b"{}")}, 401),
        ("grafana", dict(signed(KEY, 699)), 403),
        ("grafana", dict(signed(KEY, 1301)), 403),
        ("grafana", {"X-Alert-Timestamp": "now", "X-Alert-Signature": sign(KEY, "now", b"{}")}, 403),
    ],
)
def test_what_was_forged_or_is_stale_is_refused_without_a_secret(
    configured: Configured, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(Refusal) as refused:
        authenticate(configured, path, Headers(headers), b"{}", 1000)
    assert refused.value.status == status
    assert CANARY not in str(refused.value)


def test_a_post_without_any_credentials_is_not_even_read(configured: Configured) -> None:
    with pytest.raises(Refusal) as refused:
        demand_credentials(configured, Headers({"Content-Type": "application/json"}))
    assert refused.value.status == 401
    demand_credentials(configured, Headers({"sentry-hook-signature": "x"}))


def test_a_source_may_burst_and_is_then_held_to_its_rate(configured: Configured) -> None:
    buckets = TokenBuckets(configured.receiver.sources, per_second=2, burst=3)
    for _ in range(3):
        buckets.take("grafana", 100)
    with pytest.raises(Refusal, match="posts too often"):
        buckets.take("grafana", 100.4)
    buckets.take("prometheus", 100.4)
    buckets.take("grafana", 100.6)
    with pytest.raises(Refusal) as refused:
        buckets.take("grafana", 100.7)
    assert refused.value.status == 429


@pytest.fixture
def rows() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        connection.executescript(_SCHEMA)
        yield connection


def deliver(
    rows: sqlite3.Connection, *alerts: Alert, now: float = 0, decision: Decision | None = None
) -> tuple[Kept, ...]:
    decided = [(alert, decision or decide(alert, ROUTES)) for alert in alerts]
    return keep(rows, Delivery("prometheus", tuple(decided)), now)


def table(rows: sqlite3.Connection, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows.execute(f"SELECT {', '.join(columns)} FROM alerts ORDER BY starts_at")]


RESOLVED = make_alert(is_firing=False)
GENERIC = make_alert(over_after=timedelta(hours=1))


def test_a_repeat_folds_into_the_alert_and_its_end_is_noted_once(rows: sqlite3.Connection) -> None:
    (first,) = deliver(rows, make_alert(), now=1)
    (second,) = deliver(rows, make_alert(), now=2)
    deliver(rows, RESOLVED, now=3)
    deliver(rows, RESOLVED, now=4)
    assert (first.is_repeat, second.is_repeat) == (False, True)
    columns = ("state", "deliveries", "received_at", "last_seen_at", "resolved_at")
    assert table(rows, *columns) == [("received", 4, 1, 4, 3)]


def test_the_same_alert_at_another_time_is_another_one(rows: sqlite3.Connection) -> None:
    deliver(rows, make_alert(), make_alert(began=NOW + timedelta(hours=1)))
    assert len(find_pending(rows)) == 2


def test_an_end_that_comes_before_its_beginning_lets_nothing_start(rows: sqlite3.Connection) -> None:
    deliver(rows, RESOLVED)
    (late,) = deliver(rows, make_alert())
    assert late.state == "over"
    assert find_pending(rows) == []


def test_an_end_with_another_beginning_ends_the_one_that_is_open(rows: sqlite3.Connection) -> None:
    deliver(rows, make_alert(), now=1)
    deliver(rows, make_alert(began=NOW + timedelta(minutes=5), is_firing=False), now=2)
    assert table(rows, "resolved_at") == [(2,)]
    # An end from before it is none of its business.
    deliver(rows, make_alert("other", began=NOW), now=3)
    deliver(rows, make_alert("other", began=NOW - timedelta(days=1), is_firing=False), now=4)
    assert ("other", None) in table(rows, "fingerprint", "resolved_at")


def test_a_sender_without_a_beginning_that_lasts_has_one_alert_until_it_ends(
    rows: sqlite3.Connection,
) -> None:
    deliver(rows, GENERIC, now=1)
    deliver(rows, replace(GENERIC, starts_at=NOW + timedelta(seconds=60)), now=60)
    deliver(rows, replace(GENERIC, starts_at=NOW + timedelta(seconds=90), is_firing=False), now=90)
    assert table(rows, "deliveries", "resolved_at") == [(3, 90)]
    deliver(rows, replace(GENERIC, starts_at=NOW + timedelta(seconds=120)), now=120)
    assert table(rows, "deliveries", "resolved_at") == [(3, 90), (1, None)]


def test_a_sender_that_never_says_it_is_over_is_heard_again_after_a_while(rows: sqlite3.Connection) -> None:
    deliver(rows, GENERIC, now=0)
    deliver(rows, replace(GENERIC, starts_at=NOW + timedelta(hours=1)), now=3600)
    assert len(table(rows, "key")) == 1
    deliver(rows, replace(GENERIC, starts_at=NOW + timedelta(hours=2.1)), now=3600 * 2.1)
    assert len(table(rows, "key")) == 2


def test_the_end_of_something_unheard_of_is_kept_only_where_it_could_begin_again(
    rows: sqlite3.Connection,
) -> None:
    (said,) = deliver(rows, replace(GENERIC, is_firing=False))
    assert said.state == "over"
    assert table(rows, "key") == []


def test_an_unmapped_or_refused_alert_is_decided_anew_when_it_comes_again(rows: sqlite3.Connection) -> None:
    unmapped = Decision("unmapped", reason="no route matches its labels")
    (said,) = deliver(rows, make_alert(), decision=unmapped)
    assert (said.state, said.reason) == ("unmapped", "no route matches its labels")
    (said,) = deliver(rows, make_alert())
    assert said.state == "received"
    note_refused(rows, said.key, "no deployment")
    assert find_pending(rows) == []
    deliver(rows, make_alert())
    (waiting,) = find_pending(rows)
    assert (waiting.runbook, waiting.service) == ("outage-triage", "invoice")


def test_a_started_alert_is_never_started_again(rows: sqlite3.Connection) -> None:
    (said,) = deliver(rows, make_alert())
    note_started(rows, said.key, "id", "name", 1)
    deliver(rows, make_alert())
    deliver(rows, RESOLVED)
    deliver(rows, make_alert())
    assert find_pending(rows) == []
    (untold,) = find_untold(rows)
    assert untold.run_id == "id"
    note_told(rows, said.key, 2)
    assert find_untold(rows) == []


def test_a_replay_keeps_nothing_until_it_could_not_be_taken_anyway(rows: sqlite3.Connection) -> None:
    decided = ((make_alert(), decide(make_alert(), ROUTES)),)
    delivery = Delivery("grafana", decided, "grafana:abc", 300)
    keep(rows, delivery, 100)
    with pytest.raises(Refusal) as refused:
        keep(rows, delivery, 200)
    assert refused.value.status == 409
    assert table(rows, "deliveries") == [(1,)]
    keep(rows, delivery, 301)


def test_what_is_old_is_forgotten_but_never_what_waits_or_was_not_told(rows: sqlite3.Connection) -> None:
    for name, state in (("a", "received"), ("b", "started"), ("c", "unmapped"), ("d", "started")):
        (said,) = deliver(rows, make_alert(name))
        rows.execute("UPDATE alerts SET state = ? WHERE key = ?", (state, said.key))
    deliver(rows, make_alert("d", is_firing=False))
    deliver(rows, make_alert("e"), now=50)
    assert forget(rows, older_than=10, now=60) == 2
    assert {name for (name,) in table(rows, "fingerprint")} == {"a", "d", "e"}


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), max_size=30)


@given(EVENTS)
def test_whatever_comes_in_whatever_order_an_alert_waits_for_one_run_at_most(
    events: list[tuple[str, int, bool]],
) -> None:
    with closing(sqlite3.connect(":memory:")) as rows:
        rows.row_factory = sqlite3.Row
        rows.executescript(_SCHEMA)
        for moment, (fingerprint, hours, is_firing) in enumerate(events):
            alert = make_alert(fingerprint, NOW + timedelta(hours=hours), is_firing=is_firing)
            deliver(rows, alert, now=moment)
        waiting = [alert.key for alert in find_pending(rows)]
        assert len(waiting) == len(set(waiting))
        fired = {
            make_alert(fingerprint, NOW + timedelta(hours=hours)).key
            for fingerprint, hours, is_firing in events
            if is_firing
        }
        over = {key for key, state in table(rows, "key", "state") if state == "over"}
        assert set(waiting) == fired - over
        assert sum(count for (count,) in table(rows, "deliveries")) == len(events)


def test_what_is_shipped_is_a_configuration_with_all_its_mapping_files() -> None:
    receiver = read_receiver(configuration_path({}))
    assert isinstance(receiver, Receiver)
    for path in (SHIPPED / "mappings").iterdir():
        shipped(path.stem)
    assert configuration_path({"RUNBOOK_ALERTS": "/elsewhere.yaml"}) == Path("/elsewhere.yaml")


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("routes:", "rutes:", r"line \d+, rutes: there is no such field; known here: listen"),
        (
            "runbook:",
            "runbok:",
            r"line \d+, routes\.0\.runbo.*known here: match, service, runbook, parameters",
        ),
        ("outage-triage", "Outage", r"line \d+, routes\.0\.runbook: .*pattern"),
        ("env:A1_BEARER", "block:token", r"line 4, sources\.0\.bearer: .*env\|file"),
        ("env:A1_BEARER", CANARY, r"line 4, sources\.0\.bearer: .*env\|file"),
        ("name: grafana", "name: prometheus", "source 'prometheus' is there twice"),
        (', bearer: "env:A1_BEARER"', "", r"line 4, sources\.0: .*either bearer or signature"),
        ("generic/sentry", "generic/unheard", "mapping .*unheard.yaml cannot be read"),
        ("env:A1_KEY", "env:A1_UNSET", "variable A1_UNSET is not set"),
        ("env:A1_KEY", "env:A1_BEARER", "secret of source 'prometheus' is another one's too"),
        ("routes:", "routes: []\nroutes:", "given twice"),
        ("sources:", "sources: [", "is no YAML"),
        ("match: {alertname: ServiceDown}", "match: {}", r"routes\.0\.match: .*at least 1"),
    ],
)
def test_a_wrong_configuration_is_refused_with_line_and_field(
    written: Path, before: str, after: str, problem: str
) -> None:
    text = written.read_text(encoding="utf-8")
    assert before in text
    written.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_configuration(written)
    assert CANARY not in str(refused.value)


def test_the_overview_shows_what_needs_a_person_and_steers_no_terminal(rows: sqlite3.Connection) -> None:
    labels = {"alertname": "Disk\x1b[2JFull", "secret": CANARY}
    deliver(rows, make_alert("x", labels=labels))
    deliver(rows, make_alert("y"))
    page = render_overview(rows, "Prefect's server does not answer")
    assert "Unmapped" in page
    assert "Disk?[2JFull; from prometheus, 1 deliveries; no route matches its labels" in page
    assert "Waiting for a run" in page
    assert "Runs cannot be started now: Prefect's server does not answer." in page
    assert "\x1b" not in page
    assert CANARY not in page
    assert CANARY in render_overview(rows, labels=True)


@pytest.mark.parametrize(
    ("status", "detail", "is_final"),
    [
        (404, "Deployment not found", True),
        (404, "Not Found", False),
        (409, "Error creating flow run: 'x' is not of type 'boolean'", True),
        (401, "", False),
        (429, "", False),
        (503, "", False),
    ],
)
def test_only_what_prefect_itself_refuses_is_not_tried_again(
    status: int, detail: str, is_final: bool
) -> None:
    assert _is_final(status, detail) == is_final
