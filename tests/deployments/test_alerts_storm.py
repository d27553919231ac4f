"""Ten thousand deliveries of a hundred alerts; the receiver and the Prefect server are killed in between."""

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.sandbox.ports import Ports
from deployments.sandbox.stack import Sandbox
from tests.deployments.receiving import (
    BEARER,
    JSON,
    TOKEN,
    Service,
    an_alert,
    exchange,
    head,
    signed,
    wait_until,
)

ALERTS, DELIVERIES, SENDERS = 100, 10_000, 8
MOST_BYTES = 4096


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Sandbox]:
    """A Prefect server on PostgreSQL, to be killed."""
    sandbox = Sandbox(tmp_path / "s", Ports.free())
    try:
        sandbox.engine_postgresql.start()
        sandbox.prefect_server.start()
        yield sandbox
    finally:
        sandbox.down()


@pytest.fixture
def api(engine: Sandbox) -> Iterator[httpx.Client]:
    environment = engine.client_environment()
    user, _, password = environment["PREFECT_API_AUTH_STRING"].partition(":")
    with httpx.Client(base_url=environment["PREFECT_API_URL"], auth=(user, password), timeout=30) as client:
        yield client


@pytest.fixture
def service(engine: Sandbox, api: httpx.Client, tmp_path: Path) -> Iterator[Service]:
    """A receiver before that server, and the deployment of a runbook for it."""
    flow = api.post("/flows/", json={"name": "stormed"}).json()
    schema = {"type": "object", "properties": {"reason": {"type": "string"}}}
    deployment = {"name": "invoice", "flow_id": flow["id"], "parameter_openapi_schema": schema}
    api.post("/deployments/", json=deployment).raise_for_status()
    address = str(api.base_url).rstrip("/")
    service = Service(tmp_path, address, "stormed", post_seconds=0.5, body_bytes=MOST_BYTES)
    service.environment |= engine.client_environment()
    try:
        service.start()
        yield service
    finally:
        service.stop()
        service.log.close()


def a_body(alert: Mapping[str, Any], **more: Any) -> bytes:
    return json.dumps({"alerts": [alert], **more}).encode()


def which_alerts() -> list[int]:
    """Return which alert each delivery is of: new ones come up until the end, and all come again."""
    chance, each = random.Random(6), DELIVERIES // ALERTS
    return [
        chance.randint(0, number // each) if number % each else number // each for number in range(DELIVERIES)
    ]


class Storm:
    """Senders that send again what was not taken, as Alertmanager does."""

    def __init__(self, service: Service, pool: ThreadPoolExecutor) -> None:
        self._service, self._pool = service, pool
        self._lock = threading.Lock()
        self.delivered = 0

    def send(self, numbers: Sequence[int]) -> list["Future[None]"]:
        return [self._pool.submit(self._send_share, numbers[sender::SENDERS]) for sender in range(SENDERS)]

    def wait_for(self, delivered: int) -> None:
        wait_until(lambda: self.delivered >= delivered, 120)

    def _send_share(self, numbers: Sequence[int]) -> None:
        connection = HTTPConnection("127.0.0.1", self._service.port, timeout=30)
        for number in numbers:
            body = a_body(an_alert(number))
            while not _is_taken(connection, body):
                time.sleep(0.05)
            with self._lock:
                self.delivered += 1
        connection.close()


def _is_taken(connection: HTTPConnection, body: bytes) -> bool:
    try:
        connection.request("POST", "/alertmanager", body, {**BEARER, **JSON})
        answer = connection.getresponse()
        answer.read()
    except (OSError, HTTPException):
        connection.close()
        return False
    return answer.status == httpx.codes.ACCEPTED


class Enemy:
    """Posts what must start nothing; none of it is under way when the receiver is killed, so all counts."""

    def __init__(self, service: Service, client: httpx.Client) -> None:
        self._service, self._client = service, client
        self._quiet = threading.Lock()
        self._gone = threading.Event()
        self.sent: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()

    def attack(self) -> None:
        number = 0
        while not self._gone.is_set():
            for kind in (self._forge, self._replay, self._garble, self._stall):
                with self._quiet:
                    kind(number)
            number += 1

    def leave(self) -> None:
        self._gone.set()

    def strike(self) -> None:
        """Kill the receiver, which forgets its counters, and start it again."""
        with self._quiet:
            self.read_counters()
            self._service.stop(signal.SIGKILL)
            self._service.start()

    def read_counters(self) -> None:
        for counter in self.sent:
            self.counted[counter] += int(self._service.count(counter))

    def _forge(self, number: int) -> None:
        body = a_body(an_alert(f"forged-{number}"))
        unknown = _counter("unknown", "unauthenticated")
        self._post("alertmanager", body, {"Authorization": f"Bearer {TOKEN}x"}, 401, unknown)
        self._post("grafana", body, signed(body, time.time(), "no"), 401, unknown)
        self._post("grafana", body, signed(body, 1000), 403, _counter("unknown", "stale"))

    def _replay(self, number: int) -> None:
        body = a_body(an_alert(0), number=number)
        headers = signed(body, time.time())
        self._post("grafana", body, headers, 202, _counter("grafana", "accepted"))
        self._post("grafana", body, headers, 409, _counter("grafana", "replayed"))

    def _garble(self, number: int) -> None:
        body = a_body(an_alert(f"garbled-{number}"))
        self._post("alertmanager", body[:-1], BEARER, 422, _counter("prometheus", "malformed"))
        large = body + b" " * MOST_BYTES
        self._post("alertmanager", large, BEARER, 413, _counter("unknown", "oversized"))

    def _stall(self, number: int) -> None:
        body = a_body(an_alert(f"stalled-{number}"))
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        assert b" 408 " in exchange(self._service.port, head(*lines), body[:-1])
        self.sent[_counter("unknown", "slow")] += 1

    def _post(self, path: str, body: bytes, headers: Mapping[str, str], status: int, counter: str) -> None:
        url = f"{self._service.url}/{path}"
        answer = self._client.post(url, content=body, headers={**JSON, **headers})
        assert answer.status_code == status
        self.sent[counter] += 1


def _counter(source: str, outcome: str) -> str:
    return f'posts_total{{source="{source}",outcome="{outcome}"}}'


def count_waiting(service: Service) -> int:
    return service.rows("state").count(("received",))


@pytest.mark.timeout(280)
def test_a_storm_in_which_everything_is_killed_starts_each_alerts_run_once_and_nothing_else(
    engine: Sandbox, api: httpx.Client, service: Service
) -> None:
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(SENDERS + 1) as pool:
        enemy, storm = Enemy(service, client), Storm(service, pool)
        attacking, sending = pool.submit(enemy.attack), storm.send(which_alerts())
        try:
            storm.wait_for(1_000)
            enemy.strike()
            storm.wait_for(2_000)
            engine.prefect_server.kill()
            # By the time it is dead, a busy machine may have delivered any number.
            storm.wait_for(storm.delivered + 1_500)
            assert count_waiting(service) > 0
            enemy.strike()
            engine.prefect_server.start()
            enemy.strike()
            for sender in sending:
                sender.result()
        finally:
            enemy.leave()
        attacking.result()
    wait_until(lambda: not count_waiting(service))
    enemy.read_counters()
    assert enemy.counted == enemy.sent
    assert len(enemy.sent) == 7
    assert sum(count for (count,) in service.rows("deliveries")) >= DELIVERIES
    assert service.rows("state") == [("started",)] * ALERTS
    runs = api.post("/flow_runs/filter", json={"limit": 200}).raise_for_status().json()
    assert len(runs) == ALERTS
    assert {run["id"] for run in runs} == {run for (run,) in service.rows("run_id")}
