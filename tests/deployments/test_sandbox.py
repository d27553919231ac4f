"""The sandbox against itself: real processes, on ports and in a state folder of their own."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import certifi
import httpx
import jwt
import psutil
import psycopg
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from deployments.sandbox import (
    mongodb,
    parts,
    programs,
    seed_invoice,
    seed_propertypulse,
    unprivileged,
    vendor_google,
)
from deployments.sandbox.__main__ import main
from deployments.sandbox.alerting import send_alert
from deployments.sandbox.applications import INVOICE, PROPERTYPULSE
from deployments.sandbox.breakage import APPLICATIONS, Breakage
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.fault_journal import UNDONE_BY_DOWN, UNDONE_BY_UP, FaultJournal
from deployments.sandbox.faults import break_fault
from deployments.sandbox.mending import accept_password, mend
from deployments.sandbox.port_record import choose_ports
from deployments.sandbox.ports import Ports, variable_of
from deployments.sandbox.profiles import write_profiles
from deployments.sandbox.stack import Sandbox
from deployments.sandbox.supervisor import MARKER
from tasks.contact_links import make_contact_link
from tasks.profiles import read_profile
from tests.thoroughness import WHOLE

COMMAND = [sys.executable, "-m", "deployments.sandbox"]
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox"), Ports.free()) as running:
        yield running


def log_in(url: str, email: str, password: str) -> httpx.Response:
    return httpx.post(url, json={"email": email, "password": password}, timeout=10)


def marked(state: Path) -> list[str]:
    """Look for the marker without the sandbox's own code."""
    wanted = f"{MARKER}={state}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "comm").read_text())
    return found


def environment_of(ports: Ports) -> dict[str, str]:
    return {**os.environ, **{variable_of(name): str(port) for name, port in ports.items()}}


def command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(lines)


def content_of(url: str, database: str) -> dict[str, str]:
    """Hash every collection's documents in the order of their ids, as raw bytes."""
    client: MongoClient[RawBSONDocument]
    with MongoClient(url, document_class=RawBSONDocument) as client:
        names = client[database].list_collection_names()
        return {
            name: hashlib.sha256(
                b"".join(sorted(bytes(document.raw) for document in client[database][name].find({})))
            ).hexdigest()
            for name in names
        }


def rows_of(url: str) -> dict[str, str]:
    """Hash every table as COPY writes it, in the order of its text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        found = {}
        for (table,) in tables:
            with connection.cursor().copy(f"COPY {table} TO STDOUT") as copy:
                found[table] = hashlib.sha256(b"\n".join(sorted(bytes(row) for row in copy))).hexdigest()
        return found


def test_both_applications_answer_their_health_in_the_runbooks_form(sandbox: Sandbox) -> None:
    for url in (sandbox.endpoints.invoice_health, sandbox.endpoints.propertypulse_health):
        body = httpx.get(url).json()
        assert body["status"] == "OK"
        assert set(body) == {"status", "timestamp"}


def test_login_works_with_the_probe_user_and_is_refused_with_a_wrong_password(sandbox: Sandbox) -> None:
    at = sandbox.endpoints
    invoice = f"http://127.0.0.1:{sandbox.ports.invoice}"
    propertypulse = f"http://127.0.0.1:{sandbox.ports.propertypulse}"
    for url, password, protected in (
        (f"{invoice}/auth/login", at.invoice_probe_password, f"{invoice}/audit"),
        (f"{propertypulse}/auth/login", at.propertypulse_probe_password, f"{propertypulse}/api/payments"),
        (f"{propertypulse}/api/auth/login", at.propertypulse_probe_password, f"{propertypulse}/api/payments"),
    ):
        token = log_in(url, at.probe_email, password).raise_for_status().json()["token"]
        assert httpx.get(protected, headers={"Authorization": f"Bearer {token}"}).is_success
        assert httpx.get(protected, headers={"Authorization": f"Bearer {token}x"}).status_code == 401
        assert log_in(url, at.probe_email, "wrong").status_code == 401
        assert log_in(url, "nobody@example.com", password).status_code == 401


def test_secrets_are_private_and_on_no_command_line(sandbox: Sandbox) -> None:
    folder = sandbox.vault.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    secrets = {path.name: path.read_text() for path in folder.iterdir()}
    assert {"mongodb-admin-url", "postgresql-admin-url", "s3-access-key-id", "s3-secret-access-key"} <= set(
        secrets
    )
    private = [
        *folder.iterdir(),
        *(sandbox.applications.environment_file(n) for n in (INVOICE, PROPERTYPULSE)),
    ]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    seen = command_lines()
    assert [name for name, value in secrets.items() if value in seen] == []
    assert repr(sandbox.endpoints).count("://") == 10  # the addresses without a password in them


def test_the_doubles_of_the_vendors_check_what_they_are_given(sandbox: Sandbox) -> None:
    at, key = sandbox.endpoints.vendors, sandbox.applications.setting(PROPERTYPULSE, "STRIPE_SECRET_KEY")

    def ask(path: str, bearer: str) -> int:
        return httpx.get(f"{at}{path}", headers={"Authorization": f"Bearer {bearer}"}).status_code

    def exchange(**claims: object) -> httpx.Response:
        now = int(time.time())
        whole = {
            "iss": vendor_google.ACCOUNT,
            "aud": f"{at}/google/token",
            "iat": now,
            "exp": now + 600,
            "scope": "x",
        }
        private = sandbox.applications.setting(INVOICE, "FIREBASE_PRIVATE_KEY")
        assertion = jwt.encode(whole | claims, private, algorithm="RS256")
        form = {"grant_type": vendor_google.GRANT, "assertion": assertion}
        return httpx.post(f"{at}/google/token", data=form)

    assert [ask("/stripe/v1/balance", bearer) for bearer in (key, f"{key}x")] == [200, 401]
    assert exchange().json()["token_type"] == "Bearer"
    assert exchange(iat=time.time() + 4000, exp=time.time() + 4600).json()["error"] == "invalid_grant"
    sandbox.vendors.conduct("stripe", revoked=[key])
    assert ask("/stripe/v1/account", key) == 401
    sandbox.vendors.conduct("stripe", revoked=[], mode="down")
    sandbox.vendors.kill()
    sandbox.vendors.start()
    assert ask("/stripe/v1/balance", key) == 503
    sandbox.vendors.conduct("stripe", mode="up")


def test_both_applications_answer_over_https_to_whoever_trusts_the_sandboxs_authority(
    sandbox: Sandbox,
) -> None:
    trusted = ssl.create_default_context(cafile=sandbox.endpoints.trusted_certificates)
    for url in (sandbox.endpoints.invoice_public, sandbox.endpoints.propertypulse_public):
        assert httpx.get(url, verify=trusted).json()["status"] == "OK"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(url, verify=ssl.create_default_context(cafile=certifi.where()))


def test_the_receiver_takes_alerts_without_the_engine_and_the_links_that_people_are_sent(
    sandbox: Sandbox,
) -> None:
    folder = write_profiles(sandbox.state, sandbox.endpoints)
    link = make_contact_link(
        read_profile(folder / "invoice.yaml"), "e-1", "first", "Anna", datetime.now(UTC) + timedelta(hours=1)
    )
    assert link is not None
    try:
        sandbox.receiver.start()
        sandbox.receiver.kill()
        sandbox.receiver.start()
        said = list(itertools.islice(send_alert(sandbox, "invoice"), 2))
        assert said == [
            "ServiceDown is kept: received.",
            "The same alert is sent again: it is folded into the first.",
        ]
        assert "told to Anna" in httpx.get(link).raise_for_status().text
        assert httpx.get(f"{link}x").status_code == 403
    finally:
        sandbox.receiver.stop()
    with pytest.raises(SandboxError, match="make demo"):
        next(send_alert(sandbox, "invoice"))


def test_what_is_broken_is_mended_from_another_shell(sandbox: Sandbox) -> None:
    command = [*COMMAND, "break", "database-down", "--service", "propertypulse"]
    place = ["--state", str(sandbox.state)]
    broken = subprocess.run(
        [*command, *place], env=environment_of(sandbox.ports), cwd=PROJECT, capture_output=True, check=True
    )
    assert b"The database server is gone." in broken.stdout
    assert not sandbox.status()[PROPERTYPULSE]
    assert break_fault(sandbox, "database-down", "propertypulse") == "propertypulse"
    assert mend(sandbox) == ["database-down of propertypulse"]
    assert sandbox.status()[PROPERTYPULSE]
    assert mend(sandbox) == []


@pytest.mark.parametrize("service", ["invoice", "propertypulse"])
def test_a_password_that_was_rotated_while_it_was_broken_is_the_one_that_is_mended(
    sandbox: Sandbox, service: str
) -> None:
    application = APPLICATIONS[service]
    environment = sandbox.applications.environment_file(application)
    before = environment.read_text()
    url = r"^((?:DATABASE_URL|MONGODB_URI)=.*//\w+):.*@"
    for text in (re.sub(url, r"\1:rotated@", before, flags=re.MULTILINE), before):
        break_fault(sandbox, "database-password", service)
        environment.write_text(text)
        accept_password(Breakage(sandbox, service, FaultJournal(sandbox.state)))
        sandbox.pm2.run("restart", application)
        assert mend(sandbox) == [f"database-password of {service}"]
        while {*sandbox.pm2.statuses()[application]} != {"online"}:
            time.sleep(0.05)
        assert sandbox.status()[application]


def test_a_fault_that_was_refused_is_refused_again_and_there_is_nothing_to_mend(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mount").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for _ in range(2):
        with pytest.raises(SandboxError, match="Only a user who may mount"):
            break_fault(sandbox, "disk-full")
    assert mend(sandbox) == []


def test_a_start_ends_what_is_wrong_with_processes_and_the_fault_can_be_had_again(sandbox: Sandbox) -> None:
    break_fault(sandbox, "database-locked")
    break_fault(sandbox, "stripe-down")
    sandbox.up(with_engine=False)
    assert FaultJournal(sandbox.state).names() == ["stripe-down of propertypulse"]
    break_fault(sandbox, "database-locked")
    assert not sandbox.status()[PROPERTYPULSE]
    assert mend(sandbox) == ["stripe-down of propertypulse", "database-locked of propertypulse"]


def test_what_a_database_takes_to_be_undone_is_undone_though_it_was_taken_away_before(
    sandbox: Sandbox,
) -> None:
    break_fault(sandbox, "database-down", "propertypulse")
    with pytest.raises(SandboxError, match="failed in its database"):
        break_fault(sandbox, "database-password", "propertypulse")
    with pytest.raises(SandboxError, match="stopped while it was starting"):
        break_fault(sandbox, "connection-limit")
    with pytest.raises(SandboxError, match="make mend"):
        break_fault(sandbox, "connection-limit")
    mend(sandbox)
    assert sandbox.status()[PROPERTYPULSE]


def test_a_start_that_finds_an_application_broken_names_the_faults(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "HEALTH_SECONDS", 1)
    break_fault(sandbox, "hanging", "invoice")
    try:
        with pytest.raises(SandboxError, match="`make mend` undoes what is broken: hanging of invoice"):
            sandbox.up(with_engine=False)
    finally:
        monkeypatch.undo()
        assert mend(sandbox) == ["hanging of invoice"]


@pytest.mark.parametrize("command", ["break process-stopped", "mend"])
def test_what_does_not_run_is_neither_broken_nor_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    journal = FaultJournal(tmp_path)
    journal.begin("connection-limit", "propertypulse")
    journal.add(["sql", "SELECT 1"])
    assert main([*command.split(), "--state", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        f"Of the sandbox in {tmp_path}, tls-front, pm2, vendors, mongodb, postgresql, object-store"
        " do not run: `make demo` first.\n"
    )
    assert (said.out, marked(tmp_path)) == ("", [])


def test_what_ended_with_processes_is_forgotten_and_what_ended_in_part_is_not_in_force(
    tmp_path: Path,
) -> None:
    journal = FaultJournal(tmp_path)
    for fault, verbs in (
        ("process-stopped", ["restart"]),
        ("hanging", ["continue"]),
        ("variable-missing", ["restore", "restart"]),
        ("connection-limit", ["sql", "kill"]),
    ):
        journal.begin(fault, "propertypulse")
        for verb in verbs:
            journal.add([verb])
        journal.finish()

    def in_force() -> dict[str, bool]:
        return {entry["fault"]: entry["done"] for entry in journal.read()}

    journal.outlive(UNDONE_BY_UP)
    assert in_force() == {"hanging": True, "variable-missing": True, "connection-limit": False}
    journal.outlive(UNDONE_BY_DOWN)
    assert in_force() == {"variable-missing": True, "connection-limit": False}


def test_the_applications_users_are_not_administrators(sandbox: Sandbox) -> None:
    with psycopg.connect(sandbox.endpoints.postgresql_url) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False, False)
    client: MongoClient[dict[str, object]]
    with MongoClient(sandbox.endpoints.mongodb_url) as client:
        roles = client.admin.command("connectionStatus")["authInfo"]["authenticatedUserRoles"]
    assert roles == [{"role": "readWrite", "db": "invoice"}]


def test_seeds_are_the_same_every_time(sandbox: Sandbox) -> None:
    url = sandbox.mongodb.admin_url
    for name in ("twin_a", "twin_b"):
        seed_invoice.seed(url, name, 0.1)
    assert content_of(url, "twin_a") == content_of(url, "twin_b")
    found = []
    with psycopg.connect(sandbox.postgresql.admin_url, autocommit=True) as connection:
        for name in ("twin_a", "twin_b"):
            connection.execute(f"CREATE DATABASE {name}")
            twin = sandbox.postgresql.admin_url.removesuffix("/postgres") + f"/{name}"
            seed_propertypulse.seed(twin, 0.1)
            found.append(rows_of(twin))
    assert found[0] == found[1]


def test_seeding_again_changes_nothing_and_another_scale_is_refused(sandbox: Sandbox) -> None:
    before = content_of(sandbox.mongodb.admin_url, "invoice")
    sandbox.up(with_engine=False)
    assert content_of(sandbox.mongodb.admin_url, "invoice") == before
    with pytest.raises(SandboxError, match=r"scale 1'?, not "):
        sandbox.up(2, with_engine=False)


def test_a_start_with_a_part_that_fails_waits_for_no_other(sandbox: Sandbox) -> None:
    server = sandbox.supervisor.process(sandbox.mongodb.name)
    assert server is not None
    server.suspend()
    begun = time.monotonic()
    try:
        with pytest.raises(SandboxError, match="remove this one after `down`"):
            sandbox.up(2, with_engine=False)
    finally:
        server.resume()
    assert time.monotonic() - begun < mongodb.START_SECONDS / 2
    sandbox.up(with_engine=False)


def test_health_says_error_while_the_database_is_away_and_recovers(sandbox: Sandbox) -> None:
    for part, url in (
        (sandbox.mongodb, sandbox.endpoints.invoice_health),
        (sandbox.postgresql, sandbox.endpoints.propertypulse_health),
    ):
        part.kill()
        answer = httpx.get(url, timeout=10)
        assert answer.status_code == 503
        assert answer.json()["status"] == "ERROR"
        part.start()
        deadline = time.monotonic() + 10
        while httpx.get(url, timeout=10).status_code != 200:
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("name", "line", "replacement", "complaint"),
    [
        (INVOICE, "ENCRYPTION_KEY=", "ENCRYPTION_KEY=short", "ENCRYPTION_KEY is not 32 characters long"),
        (PROPERTYPULSE, "JWT_SECRET=", "", "JWT_SECRET is missing"),
    ],
)
def test_an_application_dies_when_its_env_is_wrong(
    sandbox: Sandbox, name: str, line: str, replacement: str, complaint: str
) -> None:
    file = sandbox.applications.environment_file(name)
    right = file.read_text()
    lines = [replacement if text.startswith(line) else text for text in right.splitlines()]
    file.write_text("\n".join(lines))
    try:
        sandbox.pm2.restart(name)
        deadline = time.monotonic() + 20
        while set(sandbox.pm2.statuses()[name]) != {"errored"}:
            assert time.monotonic() < deadline, sandbox.pm2.statuses()
        assert complaint in (sandbox.pm2.home / "logs" / f"{name}-error.log").read_text()
    finally:
        file.write_text(right)
        sandbox.pm2.restart(name)
    sandbox.up(with_engine=False)
    assert sandbox.status()[name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to drop")
def test_root_runs_postgresql_unprivileged_also_where_namespaces_are_blocked(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    data = tmp_path / "data"
    initdb = [str(programs.postgresql_bin() / "initdb"), "-D", str(data), "-N"]
    subprocess.run(
        [sys.executable, "-I", "-S", unprivileged.__file__, str(data), *initdb],
        env={unprivileged.FORCE_FALLBACK: "1", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd="/",
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert data.stat().st_uid == unprivileged.NOBODY


def test_of_all_that_ask_for_free_ports_no_two_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    block = 1 + len(Ports().items())
    # Where no other sandbox of the tests is.
    room = range(32000, 32000 + 2 * block)
    monkeypatch.setattr("deployments.sandbox.ports.FREE_RANGE", room)
    ours = Ports.free()
    asking = (
        "from deployments.sandbox import ports; "
        f"ports.FREE_RANGE = {room!r}; print([port for _, port in ports.Ports.free().items()])"
    )
    while_we_live = subprocess.run(
        [sys.executable, "-c", asking], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    theirs = json.loads(while_we_live)
    assert len(theirs) == len(set(theirs)) == block - 1
    assert not set(theirs) & {port for _, port in ours.items()}
    # They are gone, and with them what was theirs.
    assert [port for _, port in Ports.free().items()] == theirs
    with pytest.raises(SandboxError, match=rf"no {block - 1} free ports in a row left between 32000 and"):
        Ports.free()


def test_a_taken_port_is_a_clear_sentence(tmp_path: Path) -> None:
    ports = Ports.free()
    with socket.create_server(("127.0.0.1", ports.postgresql)):
        command = subprocess.run(
            [*COMMAND, "up", "--without-engine", "--state", str(tmp_path / "s")],
            env=environment_of(ports),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert command.returncode == 1
    assert command.stderr.count("\n") == 1
    assert command.stderr.startswith(
        f"Port {ports.postgresql} for the PostgreSQL server of propertypulse-api is taken"
    )
    assert "SANDBOX_PORT_POSTGRESQL" in command.stderr
    assert marked(tmp_path / "s") == []


@pytest.mark.parametrize("command", ["alert", "told"])
def test_what_needs_a_sandbox_says_so_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, "--state", str(tmp_path / "s")]) == 1
    assert "`make demo` starts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SANDBOX_PORT_S3": "eighty"}, "SANDBOX_PORT_S3 is 'eighty': expected a port number"),
        ({"SANDBOX_PORT_S3": "65536"}, "expected a port number from 1 to 65535"),
        ({"SANDBOX_PORT_S4": "80"}, "SANDBOX_PORT_S4 names no port of the sandbox"),
        ({"SANDBOX_PORT_S3": "4200"}, "Port 4200 is given to two parts"),
    ],
)
def test_a_wrong_port_variable_is_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        Ports.from_environment(environ)


def test_a_command_finds_the_ports_that_the_sandbox_runs_on(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["status", "--state", str(sandbox.state)])
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[-2:]] == [[INVOICE, "up"], [PROPERTYPULSE, "up"]]
    same = {variable_of("prefect"): str(sandbox.ports.prefect)}
    assert choose_ports(sandbox.state, same) == sandbox.ports


def test_a_sandbox_that_runs_is_not_looked_for_on_other_ports(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Ports.free()
    url = sandbox.vault.read("mongodb-admin-url")
    with pytest.raises(SandboxError, match="make down"):
        Sandbox(sandbox.state, elsewhere).up(with_engine=False)
    monkeypatch.setenv(variable_of("mongodb"), str(elsewhere.mongodb))
    for command in ("up", "status", "break healthy", "mend", "alert", "told"):
        assert main([*command.split(), "--state", str(sandbox.state)]) == 1
        assert capsys.readouterr().err == (
            f"The sandbox in {sandbox.state} runs on other ports"
            f" (SANDBOX_PORT_MONGODB is {sandbox.ports.mongodb}): `make down` first.\n"
        )
    assert sandbox.vault.read("mongodb-admin-url") == url


def test_after_kill_9_of_everything_it_comes_up_again_even_on_other_ports(tmp_path: Path) -> None:
    state = tmp_path / "s"
    with Sandbox(state, Ports.free()) as killed:
        before = content_of(killed.mongodb.admin_url, "invoice")
        file = killed.applications.environment_file(INVOICE)
        file.write_text(file.read_text().replace("JWT_SECRET=", "JWT_SECRET=rotated"))
        for process in killed.supervisor.marked():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with Sandbox(state, Ports.free()) as again:
            assert content_of(again.mongodb.admin_url, "invoice") == before
            assert all(again.status()[name] for name in (INVOICE, PROPERTYPULSE))
            assert "JWT_SECRET=rotated" in file.read_text()
            assert choose_ports(state, {}) == again.ports
    assert choose_ports(state, {}) == Ports()
    assert marked(state) == []


def test_a_first_start_of_the_mongodb_server_that_was_interrupted_begins_again(tmp_path: Path) -> None:
    """A server that is killed while it makes its own tables cannot read them afterwards."""
    sandbox = Sandbox(tmp_path / "s", Ports.free())
    (tmp_path / "s" / "mongodb").mkdir(parents=True)
    (tmp_path / "s" / "mongodb" / "WiredTiger.turtle").write_text("half of a")
    try:
        for _ in range(2):
            sandbox.mongodb.start()
            with MongoClient[dict[str, Any]](sandbox.mongodb.admin_url) as client:
                assert client["invoice"]["kept"].insert_one({}).acknowledged
            sandbox.mongodb.kill()
        sandbox.mongodb.start()
        with MongoClient[dict[str, Any]](sandbox.mongodb.admin_url) as client:
            assert client["invoice"]["kept"].count_documents({}) == 2
    finally:
        sandbox.mongodb.kill()


@pytest.mark.parametrize("seconds", [1.6, 2.8] if WHOLE else [2.8])
def test_kill_9_of_up_leaves_nothing_that_down_does_not_find(tmp_path: Path, seconds: float) -> None:
    state, ports = tmp_path / "s", Ports.free()
    command = [*COMMAND, "up", "--without-engine", "--state", str(state)]
    with subprocess.Popen(command, env=environment_of(ports), cwd=PROJECT, stdout=subprocess.DEVNULL) as up:
        time.sleep(seconds)
        up.send_signal(signal.SIGKILL)
    sandbox = Sandbox(state, ports)
    for file in (state / "run").glob("*.pid"):
        file.unlink()  # as if it had been killed before it wrote them
    sandbox.down()
    assert marked(state) == []
    with sandbox:
        assert all(sandbox.status()[name] for name in (INVOICE, PROPERTYPULSE))
    assert marked(state) == []


def test_what_runs_is_ended_though_its_folder_was_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "s"
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, env={**os.environ, MARKER: str(state)}) as left:
        try:
            assert main(["down", "--state", str(state)]) == 0
            assert left.wait(10) == -signal.SIGKILL
        finally:
            left.kill()
    assert capsys.readouterr().out.endswith("Down; no process of it remains.\n")


@pytest.mark.skipif(
    int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 2, reason="everybody may"
)
def test_a_port_that_only_root_may_listen_on_is_not_called_taken() -> None:
    whoever = os.geteuid()
    if whoever == 0:
        os.seteuid(unprivileged.NOBODY)
    try:
        with pytest.raises(SandboxError) as refused:
            Ports(invoice=1).check_available(["invoice"])
    finally:
        os.seteuid(whoever)
    assert str(refused.value) == (
        "Port 1 for invoice-backend is only for root: set SANDBOX_PORT_INVOICE to one above 1023."
    )
