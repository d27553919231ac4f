"""Small services of a test's own, on the sandbox's real servers, and what is done to them.

Each has a database, an application folder, a profile and a repository that no other test knows, so a test may
break all of it. Flows run in this process; one that is to be killed runs in a child (``killed_run.py``).
"""

import functools
import gc
import hashlib
import json
import os
import runpy
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from socket import create_server
from typing import Any, Literal, Protocol, cast

import psycopg
import pytest
import yaml
from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import ArtifactSort
from prefect.settings import PREFECT_API_URL
from prefect.tasks import Task
from psycopg import sql
from pymongo import MongoClient

from deployments.sandbox.node import PACKAGES
from deployments.sandbox.stack import Sandbox
from flows.corruption_recovery import corruption_recovery
from flows.nightly_backup import emergency_backup, nightly_backup
from flows.restore_database import restore_database
from flows.restore_drill import restore_drill
from tasks.backup_repository import BackupRepository
from tasks.backup_sets import open_repository
from tasks.object_store import ObjectStore
from tasks.pm2_listing import HOME_VARIABLE
from tasks.profiles import SERVICES_VARIABLE, read_profile
from tasks.records.backup import Manifest, StoredObject, Verification
from tasks.records.service import ServiceProfile
from tests.forking import CONTEXT
from tests.proxy import Proxy

Kind = Literal["mongodb", "postgresql"]
KINDS: tuple[Kind, ...] = ("mongodb", "postgresql")
SCHEMA = """
CREATE TYPE standing AS ENUM ('good', 'bad');
CREATE TABLE accounts (id serial PRIMARY KEY, owner text UNIQUE, standing standing DEFAULT 'good', note text);
CREATE TABLE entries (
    id integer PRIMARY KEY, account integer REFERENCES accounts, amount numeric CHECK (amount >= 0), body text
);
CREATE INDEX entries_by_account ON entries (account, amount DESC);
CREATE VIEW poor AS SELECT * FROM accounts WHERE standing = 'bad';
INSERT INTO accounts (owner, note) SELECT 'owner ' || n, CASE WHEN n % 3 > 0 THEN E'tab\\there\\nñ' END
    FROM generate_series(1, 150) n;
INSERT INTO entries SELECT n, 1 + n % 150, n / 7.0, repeat(md5(n::text), 3) FROM generate_series(1, 300) n;
"""


class Database(Protocol):
    """A small database of a test's own, as an administrator sees it."""

    name: str
    url: str

    def hash_content(self) -> dict[str, str]:
        """Return a hash of each collection's documents or table's rows."""
        ...

    def empty(self) -> None:
        """Delete every document or row and leave collections or tables."""
        ...

    def drop_everything(self) -> None:
        """Leave no collection or table."""
        ...

    def spoil(self) -> None:
        """Change, delete and add, as an accident does; each time otherwise."""
        ...

    def drop(self) -> None:
        """Drop the database itself."""
        ...

    def grow(self, entries: int, entry_bytes: int = 40) -> None:
        """Add so many documents or rows of so many incompressible bytes."""
        ...

    def names_on_server(self) -> set[str]:
        """Return the names of all databases of the server."""
        ...

    def remove(self) -> None:
        """Drop the database."""
        ...


class MongodbDatabase:
    """Accounts, entries, an oddly named collection, a capped one and a view."""

    def __init__(self, admin_url: str, name: str) -> None:
        self.name = name
        self.url = admin_url.replace("/admin?", f"/{name}?")
        self.client: MongoClient[dict[str, Any]] = MongoClient(admin_url)
        self.database = self.client[name]
        accounts = [
            {"_id": n, "owner": f"owner {n}", "note": None if n % 3 else "ñ\n"} for n in range(1, 151)
        ]
        self.database["accounts"].insert_many(accounts)
        self.database["accounts"].create_index("owner", unique=True, name="by_owner")
        entries = [
            {"_id": n, "account": n % 150, "t": Timestamp(0, n), "body": f"{n:032x}"} for n in range(300)
        ]
        self.database["entries"].insert_many(entries)
        self.database["entries"].create_index([("account", 1), ("body", -1)])
        self.database["odd name/%"].insert_one({"_id": "only"})
        self.database.create_collection("events", capped=True, size=4096).insert_one({"_id": 1})
        self.database.create_collection("poor", viewOn="accounts", pipeline=[{"$match": {"note": None}}])

    def hash_content(self) -> dict[str, str]:
        raw: MongoClient[RawBSONDocument]
        with MongoClient(self.url, document_class=RawBSONDocument, authSource="admin") as raw:
            database = raw[self.name]
            return {
                name: hashlib.sha256(
                    b"".join(sorted(bytes(d.raw) for d in database[name].find({})))
                ).hexdigest()
                for name in database.list_collection_names()
            }

    def empty(self) -> None:
        for name in ("accounts", "entries", "odd name/%"):
            self.database[name].delete_many({})
        self.database.drop_collection("events")

    def drop_everything(self) -> None:
        self.client.drop_database(self.name)

    def spoil(self) -> None:
        self.database["entries"].delete_many({"account": {"$lt": 20}})
        self.database["accounts"].update_many({"_id": {"$lt": 5}}, {"$set": {"note": time.monotonic_ns()}})
        self.database["stray"].insert_one({"at": time.monotonic_ns()})

    def drop(self) -> None:
        self.client.drop_database(self.name)

    def grow(self, entries: int, entry_bytes: int = 40) -> None:
        self.database["grown"].insert_many(
            [{"_id": n, "body": os.urandom(entry_bytes)} for n in range(entries)]
        )

    def names_on_server(self) -> set[str]:
        return set(self.client.list_database_names())

    def remove(self) -> None:
        self.client.drop_database(self.name)
        self.client.close()


class PostgresqlDatabase:
    """Accounts and their entries, with a sequence, an enum, a foreign key, a check, an index and a view."""

    def __init__(self, admin_url: str, name: str) -> None:
        self.name = name
        self.url = f"{admin_url.rpartition('/')[0]}/{name}"
        self._admin = psycopg.connect(admin_url, autocommit=True)
        # Copied as files: by its log, which is the default, it takes more than twice as long.
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY FILE_COPY")
        self._admin.execute(create.format(sql.Identifier(name)))
        self.execute(SCHEMA)

    def execute(self, text: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(text.encode())

    def hash_content(self) -> dict[str, str]:
        found = {}
        with psycopg.connect(self.url) as connection:
            names = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            )
            for (table,) in names.fetchall():
                copy = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))
                with connection.cursor().copy(copy) as rows:
                    found[table] = hashlib.sha256(b"".join(sorted(bytes(row) for row in rows))).hexdigest()
        return found

    def empty(self) -> None:
        self.execute("TRUNCATE accounts, entries")

    def drop_everything(self) -> None:
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def spoil(self) -> None:
        self.execute(
            "DELETE FROM entries WHERE account < 20;"
            "UPDATE accounts SET note = clock_timestamp() WHERE id < 5;"
            "CREATE TABLE IF NOT EXISTS stray (at timestamptz); INSERT INTO stray VALUES (clock_timestamp())"
        )

    def drop(self) -> None:
        self._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))

    @contextmanager
    def limited_role(self) -> Iterator[tuple[str, str]]:
        """Make a role that may read what there is now; yield its name and its URL of the database."""
        role = f"reader_{self.name}"
        grant = f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; "
        grant += f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}"
        self.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reads'; {grant}")
        at = self.url.rpartition("@")[2]
        try:
            yield role, f"postgresql://{role}:reads@{at}"
        finally:
            self.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

    def grow(self, entries: int, entry_bytes: int = 40) -> None:
        body = f"SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, {entry_bytes // 32 + 1}) k"
        self.execute(f"CREATE TABLE grown AS SELECT n AS id, ({body}) FROM generate_series(1, {entries}) n")

    def names_on_server(self) -> set[str]:
        # By a connection of its own: the administrator's may have died with the server.
        with psycopg.connect(self.url) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}

    def remove(self) -> None:
        self._admin.close()
        with psycopg.connect(self.url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(self.name)))


@dataclass
class Ledger:
    """A small service: its database, its application's folder, its profile and its repository."""

    name: str
    kind: Kind
    folder: Path
    database: Database
    settings: dict[str, Any] = field(repr=False)
    _opened: BackupRepository | None = field(default=None, repr=False)
    remove_application: Callable[[], object] = field(default=lambda: None, repr=False)

    @property
    def services(self) -> Path:
        return self.folder / "services"

    @property
    def application(self) -> Path:
        return self.folder / "application"

    @property
    def root(self) -> Path:
        """The folder of its repository, unless that is on S3."""
        return self.folder / "repository"

    @property
    def profile(self) -> ServiceProfile:
        return read_profile(self.services / f"{self.name}.yaml")

    @property
    def repository(self) -> BackupRepository:
        """The repository of the profile as it is now, opened once."""
        if self._opened is None:
            self._opened = open_repository(self.profile)
        return self._opened

    @property
    def store(self) -> ObjectStore:
        return self.repository.store

    def lay_out(self) -> None:
        self.services.mkdir(parents=True)
        self.root.mkdir()
        (self.application / "src").mkdir(parents=True)
        (self.application / "node_modules").mkdir()
        (self.application / "node_modules" / "excluded.js").write_text("not saved")
        (self.application / "src" / "größe.js").write_text("x" * 700)
        (self.application / "link").symlink_to("src/größe.js")
        self.write_env(self.database.url)
        self.change()

    def write_env(self, url: str) -> None:
        """Make the application's ``.env`` name this database."""
        file = self.application / ".env"
        file.write_text(f'DATABASE_URL="{url}"\n' if url else "")
        file.chmod(0o600)

    def operate(self, sandbox: Sandbox) -> None:
        """Let the sandbox's PM2 run an application that answers from the ledger's database."""
        with create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        shutil.copy(Path(__file__).with_name("ledger_server.js"), self.application / "server.js")
        process = f"ledger-{self.database.name}"
        described = {
            "name": process,
            "script": "server.js",
            "cwd": str(self.application),
            "wait_ready": True,
            "listen_timeout": 10_000,
            "max_restarts": 3,
            "env": {"PORT": str(port), "NODE_PATH": str(PACKAGES)},
        }
        ecosystem = self.folder / "ledger.config.json"
        ecosystem.write_text(json.dumps({"apps": [described]}))
        sandbox.pm2.run("start", str(ecosystem))
        self.remove_application = functools.partial(sandbox.pm2.run, "delete", process)
        password = self.folder / "probe-password"
        password.write_text("open sesame")
        password.chmod(0o600)
        at = f"http://127.0.0.1:{port}"
        login = {"url": f"{at}/login", "user": "owner 7", "password": f"file:{password}"}
        self.change(
            application={
                "process_name": process,
                "process_manager_program": str(sandbox.pm2.program),
                "health_url": f"{at}/health",
                "start_within": "PT10S",
                "login": login,
            }
        )

    def change(self, **sections: Mapping[str, Any]) -> None:
        """Change the profile, section by section."""
        self.settings = _merge(self.settings, sections)
        self._opened = None
        (self.services / f"{self.name}.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))

    def back_up(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", nightly_backup(self.name, **parameters, return_state=True))

    def back_up_before(self, reason: str) -> State[Any]:
        return cast("State[Any]", emergency_backup(self.name, reason, return_state=True))

    def restore(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", restore_database(self.name, **parameters, return_state=True))

    def recover(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", corruption_recovery(self.name, **parameters, return_state=True))

    def drill(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", restore_drill(self.name, **parameters, return_state=True))

    def must_back_up(self, **parameters: Any) -> str:
        """Back up and return the new set's id; anything but Completed is a failure of the test."""
        before = set(self.sets())
        completed(self.back_up(**parameters))
        (set_id,) = set(self.sets()) - before
        return set_id

    def sets(self) -> tuple[str, ...]:
        return self.repository.set_ids()

    def listing(self) -> dict[str, int]:
        """Return every key of the service and its size."""
        return {stored.key: stored.bytes for stored in self.store.list_keys(f"{self.name}/")}

    def keys(self, kind: str) -> list[str]:
        return [key for key in self.listing() if key.startswith(f"{self.name}/{kind}/")]

    def verdicts(self, set_id: str) -> list[Verification]:
        keys = self.keys(f"verifications/{set_id}")
        return [Verification.model_validate_json(self.store.read(key)) for key in keys]

    def find_damage(self, set_id: str) -> list[str]:
        """Return the objects of a set that are not what its manifest says; read without the flows' code."""
        manifest = self.repository.read_manifest(set_id)
        return [
            stored.key
            for stored in manifest.objects
            if hashlib.sha256(self.read(set_id, stored)).hexdigest() != stored.sha256
        ]

    def read(self, set_id: str, stored: StoredObject) -> bytes:
        return self.store.read(self.repository.object_key(set_id, stored.key))

    def publish_old_set(
        self, like: str, age: timedelta, *, now: datetime, drilled: bool = False, pinned: str | None = None
    ) -> str:
        """Publish a copy of a set as one that was made so long ago, and verified then; return its id."""
        repository, manifest = self.repository, self.repository.read_manifest(like)
        made = now - age
        set_id = repository.new_set_id("nightly", made)
        for stored in manifest.objects:
            self.store.write(repository.object_key(set_id, stored.key), self.read(like, stored))
        took = manifest.finished_at - manifest.started_at
        old = manifest.model_copy(
            update={"set_id": set_id, "started_at": made, "finished_at": made + took, "kind": "nightly"}
        )
        repository.publish(old, pinned=pinned)
        kinds: list[Literal["reread", "drill"]] = ["reread", "drill"] if drilled else ["reread"]
        for kind in kinds:
            repository.record_verification(
                Verification(
                    set_id=set_id,
                    kind=kind,
                    verified_at=made + took,
                    passed=True,
                    findings=(),
                    seconds=1,
                )
            )
        return set_id

    def manifest(self, set_id: str) -> Manifest:
        return self.repository.read_manifest(set_id)


class Ledgers:
    """Makes small services and removes them again."""

    def __init__(self, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sandbox, self._folder, self._monkeypatch = sandbox, folder, monkeypatch
        self._made: list[Ledger] = []

    def make(
        self,
        kind: Kind,
        store: Literal["folder", "s3"] = "folder",
        *,
        name: str = "ledger",
        database: str | None = None,
    ) -> Ledger:
        """Make a small service and let ``RUNBOOK_SERVICES`` name its profile."""
        at = self._sandbox.endpoints
        folder = self._folder / f"{kind}-{len(self._made)}"
        database_name = database or f"books_{os.getpid()}_{time.monotonic_ns() % 10**12}"
        made: Database = (
            MongodbDatabase(at.mongodb_admin_url, database_name)
            if kind == "mongodb"
            else PostgresqlDatabase(at.postgresql_admin_url, database_name)
        )
        secrets = self._sandbox.vault.folder
        destination: dict[str, Any] = {"url": (folder / "repository").as_uri()}
        if store == "s3":
            destination = {
                "url": f"s3://{at.s3_bucket}/{database_name}",
                "endpoint_url": at.s3_endpoint,
                "access_key_id": f"file:{secrets / 's3-access-key-id'}",
                "secret_access_key": f"file:{secrets / 's3-secret-access-key'}",
            }
        settings = {
            "name": name,
            "title": "A small service",
            "time_zone": "Europe/Berlin",
            "application": {
                "directory": str(folder / "application"),
                "health_url": "http://127.0.0.1:9/health",
                "process_manager": "pm2",
                "process_name": name,
            },
            "database": {
                "kind": kind,
                "url_variable": "DATABASE_URL",
                "admin_url": f"file:{secrets / f'{kind}-admin-url'}",
                **({"client_directory": str(at.pg_bin)} if kind == "postgresql" else {}),
            },
            "backup": {"destination": destination, "retention": {"keep_days": 7}},
            "state_directory": str(folder / "state"),
        }
        ledger = Ledger(name, kind, folder, made, settings)
        ledger.lay_out()
        self._made.append(ledger)
        self._monkeypatch.setenv(SERVICES_VARIABLE, str(ledger.services))
        return ledger

    def remove(self) -> None:
        while self._made:
            ledger = self._made.pop()
            ledger.remove_application()
            ledger.database.remove()
            shutil.rmtree(ledger.folder, ignore_errors=True)


@pytest.fixture
def ledgers(
    sandbox: Sandbox, prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ledgers]:
    """A maker of small services."""
    maker = Ledgers(sandbox, tmp_path, monkeypatch)
    yield maker
    maker.remove()


@pytest.fixture(scope="module", params=KINDS)
def established(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    prefect_server: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ledger]:
    """A small service with one set, shared by tests that put everything back."""
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("established"), environment)
        ledger = maker.make(request.param)
        ledger.must_back_up()
        yield ledger
        maker.remove()


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, ledgers: Ledgers) -> Ledger:
    """A small service on each of the two databases, its repository on a folder."""
    return ledgers.make(request.param)


def completed(state: State[Any]) -> str:
    """Assert that a run ended Completed and return its message, which is one line."""
    assert state.is_completed(), f"{state.name}: {state.message}"
    message = state.message or ""
    assert message
    assert "\n" not in message
    return message


def failed(state: State[Any]) -> str:
    """Assert that a run ended Failed in words for an operator and return them: no traceback, one line."""
    assert state.is_failed(), f"{state.name}: {state.message}"
    message = state.message or ""
    assert "\n" not in message, message
    assert "Traceback" not in message, message
    # Prefect's own words for an exception that nobody made a sentence of.
    assert "exception" not in message, message
    assert message.endswith("."), message
    return message


def artifacts_of(state: State[Any]) -> dict[str, str]:
    """Return the artifacts that a flow run published, by key; of two with one key the newer."""
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    return {str(artifact.key): str(artifact.data) for artifact in reversed(found)}


def decisions_in(artifact: str) -> dict[str, str]:
    """Return what an artifact's table says of each set."""
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in artifact.splitlines() if line[:1] == "|"
    ]
    return {row[0]: row[3] for row in cells if len(row) == 5 and row[3] in {"keep", "delete", "would go"}}


def flip(path: Path) -> None:
    """Damage one bit in the middle of a file, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Lose the end of a file, as an upload that broke off does."""
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    """Leave a file of no bytes, as a dump that failed behind a redirection does."""
    path.write_bytes(b"")


def _merge(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, change in changes.items():
        merged[key] = _merge(merged.get(key, {}), change) if isinstance(change, Mapping) else change
    return merged


class Children:
    """Runs flows in processes of their own, which may be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def start(self, ledger: Ledger, flow: str = "nightly_backup", **order: Any) -> "Child":
        """Start a flow on a service; what the order may say is in ``killed_run.py``."""
        answer = self._folder / f"answer-{len(self._children)}"
        whole = {
            "services": str(ledger.services),
            "pm2_home": os.environ[HOME_VARIABLE],
            "api": PREFECT_API_URL.value(),
            "flow": flow,
            "parameters": {"service": ledger.name},
            "answer": str(answer),
            "go": str(answer.with_suffix(".go")),
            **order,
        }
        script = str(Path(__file__).with_name("killed_run.py"))
        process = CONTEXT.Process(target=runpy.run_path, args=(script, {"ORDER": json.dumps(whole)}))
        process.start()
        child = Child(process, answer)
        self._children.append(child)
        return child

    def end(self) -> None:
        for child in self._children:
            child.kill()


@dataclass
class Child:
    """A flow run in a process of its own."""

    process: BaseProcess
    answer: Path

    @property
    def is_paused(self) -> bool:
        """Whether it has come to where it was ordered to pause."""
        return self.answer.with_suffix(".paused").exists()

    def go_on(self) -> None:
        """Let it go on where it was ordered to pause."""
        self.answer.with_suffix(".go").touch()

    def kill(self) -> None:
        """Send SIGKILL and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def wait(self, seconds: float = 60) -> dict[str, str] | None:
        """Wait for its end; return type, message and log of the run, or None when it was killed."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the child does not end"
        if not self.answer.exists():
            assert self.process.exitcode == -9, f"the child ended with {self.process.exitcode}"
            return None
        answer: dict[str, str] = json.loads(self.answer.read_text())
        return answer


@pytest.fixture
def children(prefect_server: None, tmp_path: Path) -> Iterator[Children]:
    """A starter of flows in processes of their own; none outlives the test."""
    started = Children(tmp_path)
    yield started
    started.end()


@pytest.fixture
def proxies() -> Iterator[Callable[[int, Callable[[bytes, bool], bool]], Proxy]]:
    """A maker of proxies in front of a port of this host."""
    made: list[Proxy] = []

    def make(port: int, on_data: Callable[[bytes, bool], bool]) -> Proxy:
        made.append(Proxy(("127.0.0.1", port), on_data))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tasks try again at once and MongoDB's driver give up soon: no waiting is specified here."""
    monkeypatch.setattr("tasks.mongodb._SELECTION_MILLISECONDS", 500)
    monkeypatch.setattr("tasks.object_store_s3._RESUME_SECONDS", 0.1)
    for found in _list_retried_tasks():
        monkeypatch.setattr(found, "retry_delay_seconds", 0.1)


@functools.cache
def _list_retried_tasks() -> list[Task[..., Any]]:
    """Return every task that is tried again, looked for once: all flows were imported with the tests."""
    return [found for found in gc.get_objects() if type(found) is Task and found.retries]


def wait_until(what: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until the condition holds; fail the test when it does not come about."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come about"
        time.sleep(0.02)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def make_late_run(runbook: Flow[..., State[Any]], name: str) -> FlowRun:
    """Return a run that Prefect's own scheduler made, of a deployment of this name, for hours ago."""
    due = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            client.create_flow(runbook),
            name=name,
            parameters={"service": "ledger"},
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="0 * * * *"), active=True)],
        )
        span = {"start_time": due.isoformat(), "end_time": (due + timedelta(minutes=1)).isoformat()}
        client._client.post(
            f"/deployments/{deployment}/schedule", json={**span, "min_runs": 1, "max_runs": 1}
        ).raise_for_status()
        of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        runs = client.read_flow_runs(deployment_filter=of_deployment)
    (late,) = [run for run in runs if run.expected_start_time == due]
    return late
