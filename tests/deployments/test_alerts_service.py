"""The receiver as a process of its own over real HTTP, killed and restarted, before a real Prefect server."""

import json
import signal
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE
from typing import Any

import httpx
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL

from deployments.alerts.prefect_runs import RESOLVED_KEY
from tasks.acknowledgement_links import make_token
from tasks.records.escalation import AcknowledgementLink
from tests.deployments.receiving import (
    BEARER,
    JSON,
    LINK_KEY,
    TOKEN,
    Service,
    an_alert,
    exchange,
    free_port,
    head,
    serving,
    signed,
    wait_until,
)

NOWHERE = "http://127.0.0.1:9/api"
POOL = "operations"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A receiver whose Prefect server is away for good, and which is easily offended."""
    folder = tmp_path_factory.mktemp("alone")
    with serving(folder, NOWHERE, post_seconds=0.5, body_bytes=4096) as service:
        yield service


BODY = json.dumps({"alerts": [an_alert("forged")]}).encode()


REFUSED = {
    "no credentials": ("alertmanager", {}, BODY, 401, "unknown", "unauthenticated"),
    "another token": (
        "alertmanager",
        {"Authorization": "Bearer no"},
        BODY,
        401,
        "unknown",
        "unauthenticated",
    ),
    "another's path": ("grafana", BEARER, BODY, 403, "unknown", "forbidden"),
    "no such mapping": ("generic/unheard", BEARER, BODY, 403, "unknown", "forbidden"),
    "forged": ("grafana", signed(BODY, time.time(), "no"), BODY, 401, "unknown", "unauthenticated"),
    "stale": ("grafana", signed(BODY, 1000), BODY, 403, "unknown", "stale"),
    "no JSON": ("alertmanager", BEARER, b"{", 422, "prometheus", "malformed"),
    "text": ("alertmanager", {**BEARER, "Content-Type": "text/plain"}, BODY, 415, "prometheus", "malformed"),
    "oversized": ("alertmanager", BEARER, BODY + b" " * 4096, 413, "unknown", "oversized"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_post_that_is_forged_stale_oversized_or_malformed_starts_nothing_and_is_counted(
    alone: Service, case: str
) -> None:
    path, headers, body, status, source, outcome = REFUSED[case]
    counted = f'posts_total{{source="{source}",outcome="{outcome}"}}'
    before = alone.count(counted)
    answer = httpx.post(f"{alone.url}/{path}", content=body, headers={**JSON, **headers})
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert TOKEN not in answer.text
    assert alone.count(counted) == before + 1
    assert ("fingerprint-forged",) not in alone.rows("fingerprint")


def test_a_replayed_post_starts_nothing_and_is_counted(alone: Service) -> None:
    body = json.dumps({"alerts": [an_alert("signed")]}).encode()
    headers = {**JSON, **signed(body, time.time())}
    answers = [httpx.post(f"{alone.url}/grafana", content=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 409]
    assert alone.count('posts_total{source="grafana",outcome="replayed"}') == 1
    assert ("fingerprint-signed", 1) in alone.rows("fingerprint", "deliveries")


def test_a_post_whose_body_or_head_does_not_come_is_cut_and_counted(alone: Service) -> None:
    counted = 'posts_total{source="unknown",outcome="slow"}'
    before = alone.count(counted)
    answer = exchange(alone.port, head("Content-Type: application/json", "Content-Length: 100"), b"{")
    assert b" 408 " in answer
    assert alone.count(counted) == before + 1
    assert exchange(alone.port, head()[:-4]) == b""
    assert alone.count(counted) == before + 2
    assert exchange(alone.port) == b""
    assert alone.count(counted) == before + 2


def test_a_body_without_a_length_is_cut_at_the_limit(alone: Service) -> None:
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    assert b" 413 " in exchange(alone.port, head("Transfer-Encoding: chunked"), chunk, chunk)


def test_what_cannot_be_kept_because_the_disk_is_full_is_answered_503_until_there_is_room(
    alone: Service,
) -> None:
    assert alone.process is not None
    process = psutil.Process(alone.process.pid)
    # The kernel refuses every byte that would make a file longer than this.
    process.rlimit(RLIMIT_FSIZE, (1, RLIM_INFINITY))
    try:
        refused = alone.post(an_alert("full"))
        health = httpx.get(f"{alone.url}/health")
    finally:
        process.rlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))
    assert (refused.status_code, health.status_code) == (503, 503)
    assert "cannot be kept" in refused.json()["error"]
    assert ("fingerprint-full",) not in alone.rows("fingerprint")
    assert alone.count('posts_total{source="prometheus",outcome="unavailable"}') >= 1
    assert alone.post(an_alert("full")).status_code == 202
    assert httpx.get(f"{alone.url}/health").status_code == 200


def test_a_locked_database_is_answered_503_and_a_signed_post_may_come_again(alone: Service) -> None:
    body = json.dumps({"alerts": [an_alert("locked")]}).encode()
    headers = {**JSON, **signed(body, time.time())}

    def send() -> int:
        return httpx.post(f"{alone.url}/grafana", content=body, headers=headers, timeout=30).status_code

    with closing(sqlite3.connect(alone.folder / "state" / "alerts.sqlite", timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert send() == 503
    assert send() == 202


def test_an_unmapped_alert_is_kept_and_shown(alone: Service) -> None:
    answer = alone.post(an_alert("strange", alertname="NobodyKnows", pod="web-7"))
    assert answer.json()["alerts"][0]["state"] == "unmapped"
    page = httpx.get(alone.url).text
    assert "Unmapped" in page
    assert "NobodyKnows" in page
    assert "web-7" not in page
    listed = alone.run("list")
    assert "pod=web-7" in listed.stdout
    assert alone.count('alerts{state="unmapped"}') == 1


def test_a_source_that_posts_too_often_is_told_so(tmp_path: Path) -> None:
    with serving(tmp_path, NOWHERE, posts_per_second=0.01, burst=2) as service:
        assert [service.post(an_alert()).status_code for _ in range(3)] == [202, 202, 429]
        assert service.count('posts_total{source="prometheus",outcome="rate-limited"}') == 1


def test_a_wrong_configuration_ends_it_with_one_sentence(tmp_path: Path) -> None:
    service = Service(tmp_path, NOWHERE)
    service.log.close()
    path = tmp_path / "alerts.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("runbook:", "runbok:"), encoding="utf-8")
    done = service.run("serve")
    assert done.returncode == 1
    assert "routes.0.runbok: there is no such field" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as connected:
        connected.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
        yield connected


def deploy_empty(client: SyncPrefectClient, flow: str, service: str, *parameters: str) -> None:
    properties = {name: {"type": "string"} for name in parameters}
    client.create_deployment(
        client.create_flow_from_name(flow),
        name=service,
        work_pool_name=POOL,
        entrypoint="flows.health_check.health_check",
        parameter_openapi_schema={"type": "object", "properties": properties},
    )


@pytest.fixture
def runbook(client: SyncPrefectClient) -> str:
    """A flow of the test's own, deployed for the service invoice."""
    name = f"stormed-{uuid.uuid4().hex[:8]}"
    deploy_empty(client, name, "invoice", "reason")
    return name


def runs_of(client: SyncPrefectClient, runbook: str, service: str = "invoice") -> list[FlowRun]:
    deployment = client.read_deployment_by_name(f"{runbook}/{service}")
    only = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
    return client.read_flow_runs(flow_run_filter=only, limit=200)


def test_an_alert_becomes_one_run_that_is_told_when_it_is_over(
    client: SyncPrefectClient, runbook: str, tmp_path: Path
) -> None:
    with serving(tmp_path, PREFECT_API_URL.value(), runbook) as service:
        for _ in range(3):
            assert service.post(an_alert()).status_code == 202
        wait_until(lambda: service.rows("state") == [("started",)])
        assert service.post(an_alert(status="resolved")).json()["alerts"][0]["state"] == "started"
        wait_until(lambda: service.count('runs_total{outcome="told"}') == 1)
        page = httpx.get(service.url).text
        service.stop()
        service.start()
        service.post(an_alert())
        wait_until(lambda: service.count('posts_total{source="prometheus",outcome="accepted"}') == 1)
    (run,) = runs_of(client, runbook)
    assert run.parameters == {"reason": "Down"}
    assert "alert" in run.tags
    said = json.loads(client._client.get(f"/flow_runs/{run.id}/input/{RESOLVED_KEY}").text)
    assert set(said) == {"alert", "resolved_at"}
    assert f"run {run.name}" in page


def test_what_prefect_would_refuse_or_crash_on_is_refused_and_shown(
    client: SyncPrefectClient, runbook: str, tmp_path: Path
) -> None:
    with serving(tmp_path, PREFECT_API_URL.value(), runbook) as service:
        service.post(an_alert("a", service="nobody"), an_alert("b", alertname="Mistaken"))
        wait_until(lambda: service.count('alerts{state="refused"}') == 2)
        page = httpx.get(service.url).text
    assert f"{runbook}/nobody" in page
    assert "has no parameter 'raeson'; it has reason" in page
    assert runs_of(client, runbook) == []


class Relay:
    """Stands before the Prefect server: may be away, or take a request and keep the answer to itself."""

    def __init__(self, to: str) -> None:
        self.port = free_port()
        self.swallows = False
        self._to = httpx.URL(to)
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        return str(self._to.copy_with(host="127.0.0.1", port=self.port))

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            # It wakes the thread that waits for somebody.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((str(self._to.host), self._to.port or 80))
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        created = b"201 Created"
        with suppress(OSError):
            while piece := source.recv(65536):
                if is_answer and self.swallows and created in piece:
                    break
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_alerts_are_taken_while_the_server_is_away_and_started_when_it_is_back_each_once(
    client: SyncPrefectClient, runbook: str, tmp_path: Path
) -> None:
    relay = Relay(PREFECT_API_URL.value())
    try:
        with serving(tmp_path, relay.url, runbook) as service:
            assert service.post(an_alert(1), an_alert(2)).status_code == 202
            wait_until(lambda: service.count("prefect_reached") == 0)
            assert service.rows("state") == [("received",)] * 2
            assert "Waiting for a run" in httpx.get(service.url).text
            # It is back, and dies again each time that it has made a run.
            relay.swallows = True
            relay.open()
            wait_until(lambda: len(runs_of(client, runbook)) == 2)
            # Whoever is killed before the answer asks again after the restart.
            service.stop(signal.SIGKILL)
            relay.swallows = False
            service.start()
            wait_until(lambda: service.rows("state") == [("started",)] * 2)
            assert service.count("prefect_reached") == 1
    finally:
        relay.close()
    assert {str(run.id) for run in runs_of(client, runbook)} == {run for (run,) in service.rows("run_id")}


def test_a_test_alert_is_followed_to_the_state_of_its_run(
    client: SyncPrefectClient, runbook: str, tmp_path: Path
) -> None:
    with serving(tmp_path, PREFECT_API_URL.value(), runbook) as service:
        done = service.run("test", "--source", "grafana", "--label", "service=invoice", "--seconds", "3")
        assert done.returncode == 0, done.stderr
        (run,) = runs_of(client, runbook)
        assert "receiver-test is kept: received." in done.stdout
        assert "The same alert is sent again: it is folded into the first." in done.stdout
        assert f"Run {run.name}: Scheduled." in done.stdout
        assert "is a worker polling its queue?" in done.stdout
        unmapped = service.run("test", "--source", "prometheus", "--label", "alertname=Unheard")
        assert (unmapped.returncode, unmapped.stdout) == (1, "Unheard is kept: unmapped.\n")
        assert "no route matches its labels" in unmapped.stderr
        assert "There is no source 'nobody'" in service.run("test", "--source", "nobody").stderr


def make_link(service: str, **changes: Any) -> str:
    values = {
        "id": uuid.uuid4().hex,
        "escalation": "e-1",
        "service": service,
        "level": "first",
        "contact": "<b>Anna</b>",
        "expires": datetime.now(UTC) + timedelta(hours=1),
        **changes,
    }
    return make_token(AcknowledgementLink.model_validate(values), LINK_KEY)


def test_a_link_acknowledges_once_when_its_button_is_pressed_and_not_when_it_is_opened(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    service_name = f"linked-{uuid.uuid4().hex[:8]}"
    deploy_empty(client, "acknowledge", service_name, "escalation", "who")
    token = make_link(service_name)

    def press(what: str) -> int:
        return httpx.post(f"{receiver.url}/acknowledge", data={"token": what}, timeout=30).status_code

    def open_(what: str) -> httpx.Response:
        return httpx.get(f"{receiver.url}/acknowledge", params={"token": what}, timeout=30)

    with serving(tmp_path, PREFECT_API_URL.value()) as receiver:
        page = open_(token)
        assert (page.status_code, page.headers["Referrer-Policy"]) == (200, "no-referrer")
        assert "&lt;b&gt;Anna&lt;/b&gt;" in page.text
        assert receiver.rows("key") == []
        assert [press(token), press(token), open_(token).status_code] == [202, 409, 409]
        forged = [make_link(service_name) + "x", "", make_link(service_name, expires=datetime.now(UTC))]
        assert [press(what) for what in forged] == [403, 403, 403]
        wait_until(lambda: receiver.rows("state") == [("started",)])
        assert receiver.count('posts_total{source="acknowledgement-link",outcome="forbidden"}') == 3
        assert "Acknowledged by a link" in httpx.get(receiver.url).text
    (run,) = runs_of(client, "acknowledge", service_name)
    assert run.parameters == {"escalation": "e-1", "who": "<b>Anna</b>"}
