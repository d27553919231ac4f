"""A receiver of the test's own: its process, its configuration, and what is posted to it."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.alerts.authentication import sign
from deployments.sandbox.ports import is_free

PROJECT = Path(__file__).parents[2]
TOKEN, KEY, LINK_KEY = "bearer-of-prometheus", "key-of-grafana", "key-of-links"
BEARER, JSON = {"Authorization": f"Bearer {TOKEN}"}, {"Content-Type": "application/json"}


def wait_until(what: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come about"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """The receiver on a port and a folder of its own."""

    def __init__(self, folder: Path, api: str, runbook: str = "unheard", **limits: float) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        document = {
            "listen": {"port": self.port},
            "state_directory": str(folder / "state"),
            "link_key": "env:A1_LINK_KEY",
            "limits": {"posts_per_second": 100_000, "burst": 100_000, **limits},
            "sources": [
                {"name": "prometheus", "path": "alertmanager", "bearer": "env:A1_TOKEN"},
                {"name": "grafana", "path": "grafana", "signature": {"key": "env:A1_KEY"}},
            ],
            "routes": [
                {
                    "match": {"alertname": ["Down", "receiver-test"]},
                    "service": "{service}",
                    "runbook": runbook,
                    "parameters": {"reason": "{alertname}"},
                },
                {
                    "match": {"alertname": "Mistaken"},
                    "service": "{service}",
                    "runbook": runbook,
                    "parameters": {"raeson": "x"},
                },
            ],
        }
        (folder / "alerts.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        self.environment = {
            **os.environ,
            "RUNBOOK_ALERTS": str(folder / "alerts.yaml"),
            "PREFECT_API_URL": api,
            "A1_TOKEN": TOKEN,
            "A1_KEY": KEY,
            "A1_LINK_KEY": LINK_KEY,
        }
        self.log = (folder / "log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "deployments.alerts", *words]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words),
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command("serve"), cwd=PROJECT, env=self.environment, stdout=self.log, stderr=self.log
        )
        wait_until(lambda: not is_free(self.port))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)

    def post(self, *alerts: dict[str, Any], client: httpx.Client | None = None) -> httpx.Response:
        send = client.post if client else httpx.post
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return send(f"{self.url}/alertmanager", json={"alerts": alerts}, headers=headers, timeout=30)

    def count(self, metric: str) -> float:
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        found = [line for line in lines if line.startswith(f"alert_receiver_{metric} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "state" / "alerts.sqlite")) as connection:
            return connection.execute(f"SELECT {', '.join(columns)} FROM alerts").fetchall()


@contextmanager
def serving(folder: Path, api: str, runbook: str = "unheard", **limits: float) -> Iterator[Service]:
    service = Service(folder, api, runbook, **limits)
    try:
        service.start()
        yield service
    finally:
        service.stop()
        service.log.close()


def an_alert(number: int | str = 1, status: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "status": status,
        "fingerprint": f"fingerprint-{number}",
        "startsAt": "2026-03-01T02:00:00Z",
        "labels": {"alertname": "Down", "service": "invoice", **labels},
    }


def signed(body: bytes, now: float, key: str = KEY) -> dict[str, str]:
    stamp = str(int(now))
    return {"X-Alert-Timestamp": stamp, "X-Alert-Signature": sign(key, stamp, body)}


def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces, then wait until the other side has had enough."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return answer


def head(*lines: str) -> bytes:
    return "\r\n".join(
        ("POST /alertmanager HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *lines, "", "")
    ).encode()
