"""All logs of a service from one place: real files in every form, the real PM2, doubles of two programs."""

import csv
import gzip
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox import journalctl, wevtutil
from deployments.sandbox.stack import Sandbox
from tasks.errors import ConfigurationError
from tasks.log_reading import read_logs
from tasks.records.logs import LogExtract
from tasks.records.outage_care import SystemLogs
from tasks.records.service import ServiceProfile

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
SECRET = "hunter2-hunter2"


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def iso(minutes: float) -> str:
    return ago(minutes).isoformat()


def texts(extract: LogExtract) -> list[str]:
    return [line.text for line in extract.lines]


def complaints(extract: LogExtract) -> str:
    return "; ".join(f"{found.name} {found.problem}" for found in extract.unreadable)


@pytest.fixture
def own(service: ServiceProfile, tmp_path: Path) -> Callable[..., ServiceProfile]:
    """A maker of a service whose process manager has no log; its env file holds a secret."""
    directory = tmp_path / "application"
    (directory / "logs").mkdir(parents=True)
    (directory / ".env").write_text(f"JWT_SECRET={SECRET}\nPORT=8080\n")

    def make(*files: str, **system: Any) -> ServiceProfile:
        application = service.application.model_copy(
            update={
                "directory": directory,
                "process_manager": "windows",
                "log_files": tuple(Path(file) for file in files),
            }
        )
        return service.model_copy(
            update={"application": application, "system_logs": SystemLogs.model_validate(system)}
        )

    return make


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the doubles of journalctl and wevtutil read; both are on PATH."""
    folder, programs = tmp_path / "said", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for double in (journalctl, wevtutil):
        program = programs / Path(str(double.__file__)).stem
        words = shlex.join([sys.executable, "-I", str(double.__file__), str(folder)])
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(0o700)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return folder


def test_text_json_and_traces_are_merged_by_time(own: Callable[..., ServiceProfile], tmp_path: Path) -> None:
    profile = own("logs/app.log", "logs/winston.log", "logs/pino.log")
    logs = profile.application.directory / "logs"
    (logs / "app.log").write_text(
        f"{iso(90)} too old\n    and what belongs to it\n"
        f"{iso(50)} Error: boom\n    at run (/srv/x.js:1:2)\n    at main (/srv/x.js:9:9)\n"
        f"{iso(10)} last\nwithout a time\n"
    )
    winston = [
        {"level": "error", "message": "mail", "stack": "Error: mail\n    at send", "timestamp": iso(40)},
        {"level": "warn", "message": "tired", "timestamp": iso(30)},
        {"level": "info", "message": f"secret {SECRET}", "timestamp": iso(20)},
    ]
    (logs / "winston.log").write_text("".join(json.dumps(line) + "\n" for line in winston))
    pino = {
        "level": 50,
        "time": ago(35).timestamp() * 1000,
        "msg": "pino",
        "err": {"message": "why", "stack": "s"},
    }
    (logs / "pino.log").write_text(json.dumps(pino) + "\n{broken\n")

    extract = read_logs.fn(profile, NOW - HOUR)

    assert [(line.text, line.level, line.at) for line in extract.lines] == [
        ("Error: boom\n    at run (/srv/x.js:1:2)\n    at main (/srv/x.js:9:9)", "error", ago(50)),
        ("mail\nError: mail\n    at send", "error", ago(40)),
        ("pino: why\ns", "error", ago(35)),
        ("{broken", "info", ago(35)),
        ("tired", "warning", ago(30)),
        ("secret ***", "info", ago(20)),
        ("last", "info", ago(10)),
        ("without a time", "info", ago(10)),
    ]
    assert extract.sources == ("logs/app.log", "logs/winston.log", "logs/pino.log")
    assert extract.unreadable == ()


def test_seconds_in_json_are_no_milliseconds_of_long_ago(own: Callable[..., ServiceProfile]) -> None:
    profile = own("logs/pino.log")
    log = profile.application.directory / "logs" / "pino.log"
    log.write_text(json.dumps({"level": 50, "time": ago(5).timestamp(), "msg": "by unixTime"}) + "\n")
    (line,) = read_logs.fn(profile, NOW - HOUR).lines
    assert (line.at, line.text) == (ago(5), "by unixTime")


def test_what_two_files_say_at_once_is_told_once(own: Callable[..., ServiceProfile]) -> None:
    profile = own("logs/error.log", "logs/combined.log")
    line = json.dumps({"level": "error", "message": "boom", "timestamp": iso(5)}) + "\n"
    for name in ("error.log", "combined.log"):
        (profile.application.directory / "logs" / name).write_text(line)
    assert texts(read_logs.fn(profile, NOW - HOUR)) == ["boom"]


def test_rotated_and_packed_files_are_read_where_the_time_asks_for_them(
    own: Callable[..., ServiceProfile],
) -> None:
    profile = own("logs/app.log")
    logs = profile.application.directory / "logs"
    (logs / "app.log").write_text(f"{iso(1)} newest\n")
    (logs / "app.log.1").write_text(f"{iso(20)} before\n")
    (logs / "app.log-20260101.gz").write_bytes(gzip.compress(f"{iso(40)} packed\n".encode()))
    (logs / "app__2026-01-01_00-00-00.log").write_text(f"{iso(30)} by PM2\n")
    (logs / "app.log.2").write_text(f"{iso(10)} dated so by mistake, but written long ago\n")
    (logs / "application.log").write_text(f"{iso(1)} another log\n")
    for name, minutes in (
        ("app.log-20260101.gz", 40),
        ("app__2026-01-01_00-00-00.log", 30),
        ("app.log.1", 20),
    ):
        os.utime(logs / name, (ago(minutes).timestamp(),) * 2)
    os.utime(logs / "app.log.2", (ago(300).timestamp(),) * 2)
    assert texts(read_logs.fn(profile, NOW - HOUR)) == ["packed", "by PM2", "before", "newest"]


def test_a_rotated_file_that_cannot_be_read_hides_nothing_of_what_is_said_now(
    own: Callable[..., ServiceProfile],
) -> None:
    profile = own("logs/app.log")
    logs = profile.application.directory / "logs"
    # As logrotate leaves it while it packs; and a link to a file that was removed.
    (logs / "app.log.1.gz").write_bytes(gzip.compress(b"x" * 5000)[:-20])
    os.utime(logs / "app.log.1.gz", (ago(10).timestamp(),) * 2)
    (logs / "app.log.2").symlink_to(logs / "removed")
    (logs / "app.log").write_text(f"{iso(1)} newest\n")

    extract = read_logs.fn(profile, NOW - HOUR)

    assert texts(extract) == ["newest"]
    assert complaints(extract) == (
        f"logs/app.log could not be read: {logs / 'app.log.1.gz'} is no whole gzip file"
    )


def test_of_the_many_files_that_a_failing_application_fills_no_more_is_read_than_of_one(
    own: Callable[..., ServiceProfile],
) -> None:
    profile = own("logs/app.log")
    logs = profile.application.directory / "logs"
    for number, name in enumerate(["app.log", *(f"app.log.{older}" for older in range(1, 13))]):
        line = f"{iso(number + 1)} file {number} {'x' * 100}\n"
        (logs / name).write_text(line * ((1 << 20) // len(line)))
        os.utime(logs / name, (ago(number + 1).timestamp(),) * 2)

    extract = read_logs.fn(profile, NOW - HOUR)

    assert len(extract.lines) + extract.left_out < 2 * (1 << 20) // 100
    assert texts(extract)[-1].startswith("file 0 ")
    assert "has more than is read at once: only what it says since" in complaints(extract)


def test_only_the_end_of_a_large_file_is_read_and_that_is_said(own: Callable[..., ServiceProfile]) -> None:
    profile = own("logs/app.log")
    line = f"{iso(30)} {'x' * 100} größe {{}}\n"
    with (profile.application.directory / "logs" / "app.log").open("w") as file:
        file.writelines(line.format(number) for number in range(40_000))
    started = time.process_time()
    extract = read_logs.fn(profile, NOW - HOUR)
    assert time.process_time() - started < 2
    assert texts(extract)[-1].endswith("größe 39999")
    assert len(extract.lines) == 10_000
    assert extract.left_out > 1000
    assert "has more than is read at once" in complaints(extract)


def test_each_source_that_cannot_be_read_is_named_with_why(
    own: Callable[..., ServiceProfile], tmp_path: Path, programs: Path
) -> None:
    profile = own(
        "logs/missing.log", "logs/folder.log", "logs/packed.log", "logs/pipe.log",
        files=[tmp_path / "nowhere" / "syslog"],
        database_files=[str(tmp_path / "postgresql-*.log")],
        journal_unit="invoice",
    )  # fmt: skip
    logs = profile.application.directory / "logs"
    (logs / "folder.log").mkdir()
    (logs / "packed.log.gz").write_bytes(gzip.compress(b"x" * 5000)[:-20])
    os.mkfifo(logs / "pipe.log")
    (programs / "denied").touch()
    extract = read_logs.fn(profile, NOW - HOUR)
    said = complaints(extract)
    assert f"logs/missing.log could not be read: {logs / 'missing.log'} is not there" in said
    assert f"logs/folder.log could not be read: {logs / 'folder.log'} is not there" in said
    assert f"logs/packed.log could not be read: {logs / 'packed.log.gz'} is no whole gzip file" in said
    assert "logs/pipe.log could not be read" in said
    assert "syslog is not there" in said
    assert "postgresql-*.log could not be read: there is no such file" in said
    assert "journal of invoice could not be read: the worker's user may not read it" in said
    assert len(extract.unreadable) == 7
    assert extract.lines == ()


def test_lines_without_a_time_are_shown_and_that_nobody_can_date_them_is_said(
    own: Callable[..., ServiceProfile],
) -> None:
    profile = own("logs/app.log")
    log = profile.application.directory / "logs" / "app.log"
    log.write_text("".join(f"line {number}\n" for number in range(200)))
    extract = read_logs.fn(profile, NOW - HOUR)
    assert texts(extract) == [f"line {number}" for number in range(150, 200)]
    assert {line.at for line in extract.lines} == {None}
    assert "has lines without a time" in complaints(extract)
    os.utime(log, (ago(120).timestamp(),) * 2)
    assert read_logs.fn(profile, NOW - HOUR).lines == ()


def test_the_end_of_a_heap_is_one_entry_with_its_stack(
    own: Callable[..., ServiceProfile],
) -> None:
    profile = own("logs/app.log")
    (profile.application.directory / "logs" / "app.log").write_text(
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n"
        "----- Native stack trace -----\n\n"
        " 9: 0x1a370e3  [node /srv/invoice/server.js]\n"
        "10: 0x1a4e3ba  [node /srv/invoice/server.js]\n"
    )
    (line,) = read_logs.fn(profile, NOW - HOUR).lines
    assert line.text.startswith("FATAL ERROR")
    assert line.text.endswith("10: 0x1a4e3ba  [node /srv/invoice/server.js]")


def test_without_the_env_file_nothing_is_read_because_nobody_knows_what_to_mask(
    own: Callable[..., ServiceProfile],
) -> None:
    profile = own("logs/app.log")
    profile.env_path.unlink()
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_logs.fn(profile, NOW - HOUR)


def test_the_system_log_is_read_for_the_application_and_for_who_was_killed(
    own: Callable[..., ServiceProfile], tmp_path: Path
) -> None:
    syslog = tmp_path / "syslog"
    here = ago(20).astimezone()
    syslog.write_text(
        f"{here:%b %d %H:%M:%S} host invoice-backend[12]: failed to open\n"
        f"{here:%b %d %H:%M:%S} host kernel: Out of memory: Killed process 12 (node)\n"
        f"{here:%b %d %H:%M:%S} host cron[1]: nothing of ours\n"
    )
    assert texts(read_logs.fn(own(files=[syslog]), NOW - HOUR)) == [
        "invoice-backend[12]: failed to open",
        "kernel: Out of memory: Killed process 12 (node)",
    ]


def test_postgresqls_log_is_read_as_text_csv_and_json_and_no_value_gets_out(
    own: Callable[..., ServiceProfile], tmp_path: Path
) -> None:
    def at(minutes: float) -> str:
        return f"{ago(minutes):%Y-%m-%d %H:%M:%S}.123 UTC"

    (tmp_path / "text.log").write_text(
        f'{at(50)} [7] app@books ERROR:  relation "x" does not exist at character 15\n'
        f"{at(50)} [7] app@books STATEMENT:  SELECT 'a value'\n\t'and another'\n"
        f"{at(49)} [7] app@books LOG:  duration: 1200.5 ms  statement: SELECT 'a value'\n"
        f'{at(48)} [8] FATAL:  password authentication failed for user "app"\n'
        f'{at(48)} [8] DETAIL:  Role "app" has a value.\n'
    )
    row = [""] * 26
    row[0], row[11], row[13], row[14] = at(40), "ERROR", "two\nlines", "Key (email)=(a value)"
    told = io.StringIO()
    csv.writer(told).writerow(row)
    (tmp_path / "table.csv").write_text(told.getvalue())
    document = {"timestamp": at(30), "error_severity": "WARNING", "message": "json", "statement": "a value"}
    (tmp_path / "lines.json").write_text(json.dumps(document) + "\n")

    extract = read_logs.fn(own(database_files=[str(tmp_path / "*.*")]), NOW - HOUR)

    assert [(line.level, line.text) for line in extract.lines] == [
        ("error", 'relation "x" does not exist at character 15'),
        ("info", "duration: 1200.5 ms  statement: SELECT …"),
        ("error", 'password authentication failed for user "app"'),
        ("error", "two\nlines"),
        ("warning", "json"),
    ]
    assert "a value" not in str(extract)


def test_a_long_statement_or_a_damaged_row_in_postgresqls_table_hides_nothing(
    own: Callable[..., ServiceProfile], tmp_path: Path
) -> None:
    def row(minutes: float, message: str, statement: str) -> list[str]:
        fields = [""] * 26
        fields[0] = f"{ago(minutes):%Y-%m-%d %H:%M:%S}.123 UTC"
        fields[11], fields[13], fields[19] = "ERROR", message, statement
        return fields

    told = io.StringIO()
    csv.writer(told).writerow(row(40, "value too long", f"INSERT INTO x VALUES ('{'y' * 200_000}')"))
    told.write(f"{ago(35):%Y-%m-%d %H:%M:%S}.123 UTC,\nnot a field\n")
    csv.writer(told).writerow(row(30, "deadlock detected", "UPDATE x"))
    (tmp_path / "table.csv").write_text(told.getvalue())

    extract = read_logs.fn(own(database_files=[str(tmp_path / "table.csv")]), NOW - HOUR)

    assert texts(extract) == ["value too long", "deadlock detected"]


def test_a_log_of_something_else_that_the_pattern_matches_hides_nothing(
    own: Callable[..., ServiceProfile], tmp_path: Path
) -> None:
    profile = own("logs/app.log", database_files=[str(tmp_path / "*.log")])
    (profile.application.directory / "logs" / "app.log").write_text(f"{iso(1)} hello\n")
    other = {"timestamp": iso(2), "message": {"not": "a text"}}
    error = {"t": {"$date": iso(3)}, "msg": "x", "attr": {"error": ["not", "a text"]}}
    (tmp_path / "other.log").write_text(f"{json.dumps(error)}\n{json.dumps(other)}\n")
    assert texts(read_logs.fn(profile, NOW - HOUR))[-1] == "hello"


def test_mongodbs_log_is_read(own: Callable[..., ServiceProfile], tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"t": {"$date": iso(9)}, "s": "I", "c": "NETWORK", "msg": "Connection ended", "attr": {"x": 1}},
        {
            "t": {"$date": iso(8)},
            "s": "I",
            "c": "ACCESS",
            "msg": "Authentication failed",
            "attr": {"user": "app", "error": "AuthenticationFailed: SCRAM"},
        },
        {
            "t": {"$date": iso(7)},
            "s": "I",
            "c": "COMMAND",
            "msg": "Slow query",
            "attr": {"ns": "invoice.users", "command": {"find": "a value"}, "durationMillis": 812},
        },
        {
            "t": {"$date": iso(6)},
            "s": "F",
            "c": "STORAGE",
            "msg": "down",
            "attr": {"error": {"errmsg": "full"}},
        },
    ]
    (tmp_path / "mongod.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    extract = read_logs.fn(own(database_files=[str(tmp_path / "mongod.log")]), NOW - HOUR)
    assert [(line.level, line.text) for line in extract.lines] == [
        ("info", "NETWORK: Connection ended"),
        ("info", "ACCESS: Authentication failed, error AuthenticationFailed: SCRAM"),
        ("info", "COMMAND: Slow query, ns invoice.users, durationMillis 812"),
        ("error", "STORAGE: down, error full"),
    ]


def test_the_journal_and_the_windows_event_log_are_read_through_their_programs(
    own: Callable[..., ServiceProfile], programs: Path
) -> None:
    def entry(minutes: float, priority: int, message: Any) -> dict[str, Any]:
        stamp = str(int(ago(minutes).timestamp() * 1e6))
        return {"__REALTIME_TIMESTAMP": stamp, "PRIORITY": str(priority), "MESSAGE": message}

    said = [
        entry(90, 3, "old"),
        entry(30, 6, "❌ boom"),
        entry(20, 3, list("größe".encode())),
        entry(10, 4, "w"),
    ]
    (programs / "invoice.json").write_text(json.dumps(said))
    events = [
        {
            "provider": "Invoice",
            "time": f"{ago(25):%Y-%m-%dT%H:%M:%S}.1234567Z",
            "level": 2,
            "data": ["<a>", "b"],
        },
        {"provider": "Invoice", "time": f"{ago(95):%Y-%m-%dT%H:%M:%S}.1234567Z", "level": 2, "data": ["old"]},
        {"provider": "Other", "time": f"{ago(15):%Y-%m-%dT%H:%M:%S}.1234567Z", "level": 2, "data": ["c"]},
    ]
    (programs / "application.json").write_text(json.dumps(events))

    extract = read_logs.fn(own(journal_unit="invoice", windows_source="Invoice"), NOW - HOUR)

    assert [(line.source, line.level, line.text) for line in extract.lines] == [
        ("journal of invoice", "error", "❌ boom"),
        ("event log of Invoice", "error", "<a>\nb"),
        ("journal of invoice", "error", "größe"),
        ("journal of invoice", "warning", "w"),
    ]
    assert extract.unreadable == ()
    (programs / "denied").touch()
    denied = complaints(read_logs.fn(own(windows_source="Invoice"), NOW - HOUR))
    assert denied == "event log of Invoice could not be read: wevtutil ended with 5"


def test_what_an_application_says_to_the_journal_as_json_is_read_as_in_a_file_however_long(
    own: Callable[..., ServiceProfile], programs: Path
) -> None:
    def entry(minutes: float, message: str) -> dict[str, Any]:
        stamp = str(int(ago(minutes).timestamp() * 1e6))
        return {"__REALTIME_TIMESTAMP": stamp, "PRIORITY": "6", "MESSAGE": message}

    long = {"level": 50, "time": 1, "msg": "refused", "err": {"message": "why", "stack": "s" * 5000}}
    said = [
        entry(30, json.dumps({"level": 40, "msg": "tired"})),
        entry(20, json.dumps(long)),
        entry(10, "two\u2028parts"),
    ]
    (programs / "invoice.json").write_text(json.dumps(said))

    extract = read_logs.fn(own(journal_unit="invoice"), NOW - HOUR)

    assert [(line.level, line.at, line.text.partition("\n")[0]) for line in extract.lines] == [
        ("warning", ago(30), "tired"),
        ("error", ago(20), "refused: why"),
        ("info", ago(10), "two\u2028parts"),
    ]


def test_a_program_that_is_not_there_is_said(
    own: Callable[..., ServiceProfile], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = complaints(read_logs.fn(own(journal_unit="x", windows_source="y"), NOW - HOUR))
    assert "journalctl is not on the worker's PATH" in said
    assert "wevtutil is not on the worker's PATH" in said


@pytest.fixture
def crashing(sandbox: Sandbox, invoice: ServiceProfile, tmp_path: Path) -> Iterator[ServiceProfile]:
    """An application under the sandbox's PM2 that says a few words, a secret too, and cannot be parsed."""
    (tmp_path / "server.js").write_text(
        "console.log('Server running on port 1');\n"
        "console.warn('Slow request: GET / took 2000ms');\n"
        f"console.error('❌ Database connection failed: {SECRET}');\n"
        "require('./broken.js');\n"
    )
    (tmp_path / "broken.js").write_text("const x = ;\n")
    (tmp_path / ".env").write_text(f"EMAIL_PASSWORD={SECRET}\n")
    described = {
        "name": "crashing",
        "script": str(tmp_path / "server.js"),
        "cwd": str(tmp_path),
        "max_restarts": 1,
        "min_uptime": 60_000,
        "log_date_format": "YYYY-MM-DD HH:mm:ss.SSS Z",
    }
    (tmp_path / "crashing.config.json").write_text(json.dumps({"apps": [described]}))
    sandbox.pm2.run("start", str(tmp_path / "crashing.config.json"))
    application = invoice.application.model_copy(
        update={"process_name": "crashing", "directory": tmp_path, "log_files": ()}
    )
    yield invoice.model_copy(update={"application": application})
    sandbox.pm2.run("delete", "crashing")


def test_a_crash_under_pm2_is_one_entry_and_the_daemons_words_are_there(
    sandbox: Sandbox, crashing: ServiceProfile
) -> None:
    deadline = time.monotonic() + 60
    while sandbox.pm2.statuses()["crashing"] != ["errored"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    extract = read_logs.fn(crashing, NOW - HOUR)

    assert complaints(extract) == ""
    crashes = [line for line in extract.lines if "SyntaxError" in line.text]
    assert crashes
    assert all(line.text.splitlines()[0].endswith("broken.js:1") for line in crashes)
    assert all("wrapSafe" in line.text or "node:internal" in line.text for line in crashes)
    by_text = {line.text: line for line in extract.lines}
    assert by_text["Server running on port 1"].level == "info"
    assert by_text["Slow request: GET / took 2000ms"].level == "warning"
    assert by_text["❌ Database connection failed: ***"].level == "error"
    daemon = [line.text for line in extract.lines if line.source == "pm2.log"]
    assert any("exited with code [1]" in text for text in daemon)
    assert any("too many unstable restarts" in text for text in daemon)
    assert SECRET not in str(extract)
    times = [line.at for line in extract.lines if line.at is not None]
    assert times == sorted(times)
    assert len(times) == len(extract.lines)


def test_what_an_application_left_behind_is_read_where_pm2_does_not_know_it(
    invoice: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gone-error.log").write_text(f"{iso(3)}: last words\n")
    monkeypatch.setenv("PM2_HOME", str(tmp_path))
    gone = invoice.application.model_copy(update={"process_name": "gone", "log_files": ()})
    extract = read_logs.fn(invoice.model_copy(update={"application": gone}), NOW - HOUR)
    assert [(line.text, line.level) for line in extract.lines] == [("last words", "error")]
    nowhere = gone.model_copy(update={"process_manager_program": tmp_path / "no-pm2"})
    extract = read_logs.fn(invoice.model_copy(update={"application": nowhere}), NOW - HOUR)
    assert "is no program" in complaints(extract)
    assert texts(extract) == ["last words"]
