"""How many posts a server takes: sent over connections that stay, by a process of its own on another core."""

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import yaml

from benchmarks.backup import end_in_order
from deployments.alerts.configuration import CONFIGURATION_VARIABLE
from deployments.alerts.trial import make_alert
from deployments.sandbox.ports import Ports

TOKEN: Final = "bench-token"
ALERT: Final = "bench"
_PATIENCE_SECONDS: Final = 180
_POLL_SECONDS: Final = 0.05
_SYNC_SECONDS: Final = 0.01
_MILLISECONDS: Final = 1000
_CORES: Final = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Target:
    """A server, and what it is sent."""

    port: int
    process: int
    path: str
    headers: Mapping[str, str]
    status: int
    make_body: Callable[[], bytes]


@dataclass(frozen=True)
class Intake:
    """What a server took: posts a second, its processor time for one, and the slowest hundredth, in ms.

    Beside it the slowest hundredth of a bare write and sync to the same disk in the same seconds.
    """

    per_second: float
    processor: float
    worst: float
    disk: float


@contextlib.contextmanager
def receiver(environment: Mapping[str, str], route: Mapping[str, Any]) -> Generator[Target]:
    """Run a receiver on one core while the block runs."""
    end_in_order()
    port = Ports.free().receiver
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        document = {
            "listen": {"port": port},
            "state_directory": str(folder / "state"),
            "limits": {"posts_per_second": 1_000_000, "burst": 1_000_000},
            "sources": [{"name": "bench", "path": "alertmanager", "bearer": "env:BENCH_TOKEN"}],
            "routes": [{"match": {"alertname": ALERT}, **route}],
        }
        path = folder / "alerts.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        # It inherits the core, and so do all of its threads.
        os.sched_setaffinity(0, {_CORES[0]})
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.alerts", "serve"],
            env={**os.environ, **environment, CONFIGURATION_VARIABLE: str(path), "BENCH_TOKEN": TOKEN},
            stderr=subprocess.DEVNULL,
        )
        os.sched_setaffinity(0, _CORES)
        try:
            wait_until(lambda: _is_healthy(port), "the receiver")
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
            yield Target(port, process.pid, "/alertmanager", headers, http.HTTPStatus.ACCEPTED, make_post)
        finally:
            process.terminate()
            process.wait()


def make_post() -> bytes:
    """Return an alert that was never sent before."""
    return make_alert(uuid.uuid4().hex, datetime.now(UTC), {"alertname": ALERT}, "firing", "A measured alert")


def make_event() -> bytes:
    """Return an event of Prefect, for which no automation waits."""
    return json.dumps([event("bench.nobody")]).encode()


def event(name: str) -> dict[str, Any]:
    """Return an event of Prefect that was never sent before."""
    return {
        "id": str(uuid.uuid4()),
        "event": name,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"bench.{uuid.uuid4().hex}"},
    }


def measure(target: Target, posts: int, senders: int) -> Intake:
    """Send posts, and return what the server made of them."""
    process = psutil.Process(target.process)
    with ProcessPoolExecutor(1) as other:
        other.submit(_send, target, posts // 10, senders).result()
        used, began = _processor_seconds(process), time.monotonic()
        with _syncing() as syncs:
            waits = other.submit(_send, target, posts, senders).result()
        took, used = time.monotonic() - began, _processor_seconds(process) - used
    return Intake(
        per_second=len(waits) / took,
        processor=used / len(waits) * _MILLISECONDS,
        worst=_worst(waits),
        disk=_worst(syncs),
    )


@contextlib.contextmanager
def _syncing() -> Generator[list[float]]:
    """Write and sync a page now and then while the block runs; give how long each took."""
    waits: list[float] = []
    over = threading.Event()

    def sync(file: int) -> None:
        while not over.wait(_SYNC_SECONDS):
            began = time.monotonic()
            os.pwrite(file, bytes(4096), 0)
            os.fdatasync(file)
            waits.append(time.monotonic() - began)

    with tempfile.TemporaryFile(prefix="bench") as file:
        syncing = threading.Thread(target=sync, args=(file.fileno(),))
        syncing.start()
        try:
            yield waits
        finally:
            over.set()
            syncing.join()


def _worst(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[98] * _MILLISECONDS


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _send(target: Target, posts: int, senders: int) -> list[float]:
    os.sched_setaffinity(0, {_CORES[-1]})
    with ThreadPoolExecutor(senders) as pool:
        waits = pool.map(lambda _: _send_share(target, posts // senders), range(senders))
        return [wait for of_one in waits for wait in of_one]


def _send_share(target: Target, posts: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
    waits = []
    for _ in range(posts):
        body = target.make_body()
        began = time.monotonic()
        connection.request("POST", target.path, body, dict(target.headers))
        answer = connection.getresponse()
        answer.read()
        waits.append(time.monotonic() - began)
        if answer.status != target.status:
            raise SystemExit(f"{target.path} answered {answer.status}.")
    connection.close()
    return waits


def _is_healthy(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).is_success
    return False


def wait_until(what: Callable[[], bool], called: str) -> None:
    """Wait until it came about."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"Nothing came of {called} within {_PATIENCE_SECONDS} s.")
        time.sleep(_POLL_SECONDS)
