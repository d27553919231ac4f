"""No secret is seen: not in Prefect's database, logs, results and artifacts, nor in names or command lines.

The canaries are the sandbox's own secrets, random and long: what the flows really handle. Both services are
backed up and drilled, and then everything fails that has a secret in its hands.
"""

import importlib
import json
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_HOME, PREFECT_SERVER_DATABASE_CONNECTION_URL

from deployments.sandbox.applications import INVOICE, PROPERTYPULSE
from deployments.sandbox.stack import Sandbox
from flows.nightly_backup import emergency_backup, nightly_backup
from flows.restore_drill import restore_drill
from tasks.backup_sets import open_repository
from tasks.environment_file import parse
from tasks.profiles import read_profile
from tests.runbooks.conftest import KINDS, Ledger, Ledgers, completed, failed
from tests.runbooks.rotation_providers import PROVIDERS
from tests.runbooks.rotation_walking import Rotated, make_rotated

SECRET_VARIABLES = re.compile("SECRET|PASSWORD|KEY|URI|URL")
LEAST_SECRET = 12
SETTLED_SECONDS = 2


@dataclass
class Seen:
    """Everything that somebody other than the flows could have seen, by where it was."""

    places: dict[str, bytes] = field(default_factory=dict)

    def find(self, canaries: Mapping[str, str]) -> list[str]:
        """Return which canary is where, in any form that a URL, a shell or JSON would give it."""
        forms = {name: spell(value) for name, value in canaries.items()}
        return [
            f"{name} in {place}"
            for place, content in self.places.items()
            for name, spelled in forms.items()
            if any(form in content for form in spelled)
        ]


def spell(secret: str) -> set[bytes]:
    spelled = {secret, quote(secret, safe=""), quote_plus(secret), quote(secret)}
    spelled |= {json.dumps(secret, ensure_ascii=narrow)[1:-1] for narrow in (True, False)}
    return {form.encode() for form in spelled}


def canaries_of(sandbox: Sandbox) -> dict[str, str]:
    """Return every secret of the sandbox: the operator's files, and what is secret in both ``.env`` files."""
    found = {path.name: path.read_text() for path in sandbox.vault.folder.iterdir()}
    for name in (INVOICE, PROPERTYPULSE):
        text = sandbox.applications.environment_file(name).read_text(encoding="utf-8")
        for variable, value in parse(text).items():
            if value and SECRET_VARIABLES.search(variable) and "://127.0.0.1" not in value:
                found[f"{name} {variable}"] = value
    return {name: value for name, value in found.items() if len(value) >= LEAST_SECRET}


class CommandLines(threading.Thread):
    """Collects the command line of every process of this machine while flows run."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.seen: set[bytes] = set()

    def run(self) -> None:
        since: dict[tuple[str, bytes], float] = {}
        settled: set[str] = set()
        while not self.stopped.wait(0.03):
            living = {path.name for path in Path("/proc").iterdir() if path.name.isdigit()}
            settled &= living
            for name in living - settled:
                with suppress(OSError):
                    line = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ")
                    self.seen.add(line)
                    # Who is about to become another program does so at once.
                    if time.monotonic() - since.setdefault((name, line), time.monotonic()) > SETTLED_SECONDS:
                        settled.add(name)


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture, prefect_server: None) -> Iterator[CommandLines]:
    caplog.set_level(logging.INFO)
    lines = CommandLines()
    lines.start()
    yield lines
    lines.stopped.set()
    lines.join()


def read_database() -> Iterator[tuple[str, bytes]]:
    """Yield every table of Prefect's database as text; values within are searched as they are."""
    path = str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).partition("///")[2]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            rows = database.execute(f'SELECT * FROM "{table}"').fetchall()
            cells = (cell for row in rows for cell in row if cell is not None)
            yield (
                f"table {table}",
                b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells),
            )


def collect(sandbox: Sandbox, lines: CommandLines, log: str, states: Iterable[State[Any]]) -> Seen:
    APILogHandler().flush()
    seen = Seen(dict(read_database()))
    seen.places["logs"] = log.encode()
    seen.places["command lines"] = b"\n".join(lines.seen)
    seen.places["states"] = "\n".join(str(state.model_dump()) for state in states).encode()
    for path in (PREFECT_HOME.value() / "storage").rglob("*"):
        if path.is_file():
            seen.places[f"result {path.name}"] = path.read_bytes()
    with get_client(sync_client=True) as client:
        pages = takewhile(bool, (client.read_artifacts(limit=200, offset=200 * page) for page in count()))
        seen.places["artifacts"] = "\n".join(str(found.data) for page in pages for found in page).encode()
    for service in ("invoice", "propertypulse"):
        store = open_repository(read_profile(sandbox.state / "services" / f"{service}.yaml")).store
        keys = [stored.key for stored in store.list_keys(f"{service}/")]
        seen.places[f"keys of {service}"] = "\n".join(keys).encode()
        for key in keys:
            if key.endswith(".json"):
                seen.places[key] = store.read(key)
    return seen


def run_everything() -> list[State[Any]]:
    """Run every runbook on the real services; they handle all the secrets that there are."""
    states: list[State[Any]] = [
        nightly_backup("invoice", return_state=True),
        nightly_backup("propertypulse", return_state=True),
        emergency_backup("propertypulse", "before the search", return_state=True),
        nightly_backup("propertypulse", dry_run=True, return_state=True),
        restore_drill("propertypulse", return_state=True),
    ]
    for state in states:
        completed(state)
    return states


def fail_with_everything(ledger: Ledger, sandbox: Sandbox) -> list[State[Any]]:
    """Fail wherever a secret is at hand: each mistake is one that an operator makes."""
    secrets, url, states = sandbox.vault.folder, ledger.database.url, []
    password = re.findall(r"://[^:]+:([^@]+)@", url)[0]
    nasty = sandbox.vault.read("postgresql-app-password")
    admin_file = ledger.folder / "admin-url"

    def mistake_url(wrong: str) -> None:
        ledger.write_env(wrong)
        states.append(ledger.back_up())
        ledger.write_env(url)

    def mistake_admin_url(wrong: str) -> None:
        admin_file.write_text(wrong)
        admin_file.chmod(0o600)
        right = ledger.settings
        ledger.change(database={"admin_url": f"file:{admin_file}"})
        states.append(ledger.drill())
        ledger.settings = right
        ledger.change()

    def mistake_destination(**wrong: str) -> None:
        right = ledger.settings
        s3 = {
            "url": f"s3://{sandbox.endpoints.s3_bucket}/mistakes",
            "endpoint_url": sandbox.endpoints.s3_endpoint,
            "access_key_id": f"file:{secrets / 's3-access-key-id'}",
            "secret_access_key": f"file:{secrets / 's3-secret-access-key'}",
        }
        ledger.change(backup={"destination": {**s3, **wrong}})
        states.append(ledger.back_up())
        ledger.settings = right
        ledger.change()

    completed(ledger.back_up())
    completed(ledger.drill())
    for mistake in (mistake_url, mistake_admin_url):
        # Of another user, who has no such password.
        mistake(url.replace(f":{password}@", f":{password}x@"))
        # Not escaped: the driver cannot parse it, and would quote what it cannot parse.
        mistake(url.replace(password, nasty))
        mistake(re.sub(r":\d+/", ":9/", url))
        mistake(re.sub(r":\d+/", ":port/", url))
        # Only the password, where the URL belongs.
        mistake(password)
    # The wrong secret, and the secret itself where its reference belongs.
    mistake_destination(secret_access_key=f"file:{secrets / 'mongodb-admin-password'}")
    mistake_destination(access_key_id=f"file:{secrets / 's3-secret-access-key'}")
    mistake_destination(secret_access_key=sandbox.vault.read("s3-secret-access-key"))
    mistake_destination(secret_access_key=f"env:{sandbox.vault.read('s3-secret-access-key')}")
    mistake_destination(endpoint_url=sandbox.endpoints.s3_endpoint.replace("http://", "https://"))
    for state in states:
        failed(state)
    return states


def test_no_secret_is_seen_in_good_nights_and_bad_ones(
    sandbox: Sandbox,
    watched: CommandLines,
    caplog: pytest.LogCaptureFixture,
    ledgers: Ledgers,
    quick_retries: None,
) -> None:
    canaries = canaries_of(sandbox)
    assert {"postgresql-app-password", "mongodb-app-password", "s3-secret-access-key"} <= set(canaries)
    assert {f"{INVOICE} JWT_SECRET", f"{PROPERTYPULSE} STRIPE_SECRET_KEY"} <= set(canaries)

    states = run_everything()
    for kind in KINDS:
        states += fail_with_everything(ledgers.make(kind), sandbox)

    seen = collect(sandbox, watched, caplog.text, states)
    # The search looked where it should: what is no secret was found there.
    assert b"invoice" in seen.places["table artifact"]
    assert b"refuses the" in seen.places["table flow_run_state"]
    assert b"Finished in state" in seen.places["table log"]
    assert b"Finished in state" in seen.places["logs"]
    assert b"pg_dump" in seen.places["command lines"]
    assert b"restored in" in seen.places["states"]
    assert sum(place.endswith("manifest.json") for place in seen.places) >= 3
    found = seen.find(canaries)
    assert not found, "; ".join(found)


def rotate_everything(rotated: Rotated, sandbox: Sandbox) -> tuple[list[State[Any]], dict[str, str]]:
    """Rotate each credential, some with an application that does not come back; return every value seen."""
    states: list[State[Any]] = []
    values: dict[str, str] = {}
    server = rotated.ledger.application / "server.js"
    whole = server.read_text()
    for name, make in PROVIDERS.items():
        with ExitStack() as held:
            provider = make(rotated, sandbox, held)
            provider.begin()
            rotated.ledger.settings["credentials"] = provider.terms()
            rotated.ledger.change()
            sandbox.pm2.run("restart", rotated.ledger.profile.application.process_name)
            flow = getattr(importlib.import_module(f"flows.{provider.flow}"), provider.flow)
            breaks = name in {"jwt-secret", "s3"}
            for broken in (True, False) if breaks else (False,):
                server.write_text(f"process.exit(3);\n{whole}" if broken else whole)
                before = rotated.variables
                states.append(flow(rotated.ledger.name, **provider.parameters, return_state=True))
                (failed if broken else completed)(states[-1])
                values |= {f"{variable} before {name}": value for variable, value in before.items()}
                values |= {f"{variable} after {name}": value for variable, value in rotated.variables.items()}
    return states, {name: value for name, value in values.items() if len(value) >= LEAST_SECRET}


def test_no_secret_is_seen_in_rotations_good_and_bad(
    sandbox: Sandbox,
    watched: CommandLines,
    caplog: pytest.LogCaptureFixture,
    ledgers: Ledgers,
    quick_retries: None,
) -> None:
    rotated = make_rotated(ledgers, sandbox)
    states, values = rotate_everything(rotated, sandbox)
    passwords = {
        f"{name}: password": url.split("@")[0].split(":")[2] for name, url in values.items() if "://" in url
    }
    seen = collect(sandbox, watched, caplog.text, states)
    for path in rotated.ledger.folder.rglob("*"):
        if path.is_file() and path.name != ".env":
            seen.places[f"file {path.name}"] = path.read_bytes()
    assert b"retired" in seen.places["file history.jsonl"]
    # What names a key at its provider is no secret.
    secret = {name: value for name, value in values.items() if not name.startswith("AWS_ACCESS_KEY_ID")}
    found = seen.find({name: value for name, value in secret.items() if "://" not in value} | passwords)
    assert not found, "; ".join(found)


def test_the_search_finds_a_secret_that_a_flow_lets_out(
    ledgers: Ledgers,
    sandbox: Sandbox,
    watched: CommandLines,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The positive control: a secret as a set's reason, with characters that each place spells its way."""
    secret = 'Canary"@:/%#?&+= ü'
    ledger = ledgers.make("postgresql")
    states = [emergency_backup("ledger", secret, return_state=True)]
    seen = collect(sandbox, watched, caplog.text, states)
    for key in ledger.keys("sets") + ledger.keys("pins"):
        if key.endswith(".json"):
            seen.places[key] = ledger.store.read(key)
    found = seen.find({"canary": secret})
    assert {"canary in table flow_run", "canary in logs"} <= set(found)
    assert any(place.endswith("manifest.json") for place in found)
