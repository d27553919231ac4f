"""One mutation at a time: a real process holds the service, waits for it, and is killed with it."""

import errno
import json
import logging
import re
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks.backup_pause import holding_off_backups
from tasks.errors import (
    AccessDeniedError,
    LeaseHeldError,
    SourceError,
    StoreFullError,
    UnreadableLeaseError,
    UnsuitableStoreError,
)
from tasks.host_errors import naming_file
from tasks.host_folder import host_folder
from tasks.records.service import Destination, ServiceProfile
from tasks.service_lock import hold_service
from tests.adapters.conftest import S3Server, StartChild

AT_ONCE = timedelta(0)


@pytest.fixture(autouse=True)
def run_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Outside a run there is no run's log: its sentences go to an ordinary one."""
    for module in ("service_lock", "backup_pause", "backup_sets"):
        monkeypatch.setattr(f"tasks.{module}.get_run_logger", lambda: logging.getLogger("a run"))
    with caplog.at_level(logging.INFO):
        yield


def with_store(service: ServiceProfile, destination: Destination) -> ServiceProfile:
    backup = service.backup.model_copy(update={"destination": destination})
    return service.model_copy(update={"backup": backup})


def on_server(server: S3Server, tmp_path: Path, **changed: str) -> Destination:
    found = {"access_key_id": server.access_key_id, "secret_access_key": server.secret_access_key, **changed}
    for name in ("access_key_id", "secret_access_key"):
        (tmp_path / name).write_text(found[name])
        (tmp_path / name).chmod(0o600)
    return Destination(
        url=f"s3://{changed.get('bucket', server.bucket)}/{tmp_path.name}",
        endpoint_url=server.endpoint_url,
        access_key_id=f"file:{tmp_path / 'access_key_id'}",
        secret_access_key=f"file:{tmp_path / 'secret_access_key'}",
    )


def test_a_second_run_is_told_who_holds_the_service_for_what_and_since_when(
    service: ServiceProfile, start_child: StartChild
) -> None:
    _, hear = start_child("hold", service)
    process = hear.recv()
    with (
        pytest.raises(LeaseHeldError) as caught,
        hold_service(service, purpose="restore-application", holder="second", wait=AT_ONCE),
    ):
        raise AssertionError
    assert re.fullmatch(
        rf"invoice is held by clever-otter for: restore-database \(process {process} of this host\), "
        r"since 2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\.",
        str(caught.value),
    )


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_kill_9_of_the_holder_frees_the_service_at_once(
    service: ServiceProfile,
    start_child: StartChild,
    request: pytest.FixtureRequest,
    kind: str,
    tmp_path: Path,
) -> None:
    if kind == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        service = with_store(service, on_server(server, tmp_path))
    process, hear = start_child("hold", service)
    hear.recv()
    process.kill()
    process.join()
    with hold_service(service, purpose="restore-database", holder="second", wait=AT_ONCE):
        said = json.loads((host_folder(service) / "lock").read_text())
    assert said["holder"] == "second"


def test_a_waiting_run_says_so_once_and_goes_on_when_the_holder_is_gone(
    service: ServiceProfile, start_child: StartChild, caplog: pytest.LogCaptureFixture
) -> None:
    process, hear = start_child("hold", service)
    hear.recv()
    held = threading.Event()

    def wait_for_it() -> None:
        with hold_service(service, purpose="restore-database", holder="second"):
            held.set()

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    while "is held by clever-otter" not in caplog.text:
        assert waiting.is_alive()
        waiting.join(0.01)
    assert not held.is_set()

    process.kill()

    assert held.wait(10)
    waiting.join()
    assert caplog.text.count("is held by clever-otter") == 1


def test_the_service_is_free_again_after_a_run_that_failed(service: ServiceProfile) -> None:
    with pytest.raises(ZeroDivisionError), hold_service(service, purpose="a", holder="first"):
        raise ZeroDivisionError
    with hold_service(service, purpose="b", holder="second", wait=AT_ONCE):
        pass
    assert stat.S_IMODE((host_folder(service) / "lock").stat().st_mode) == 0o600


def test_another_host_is_kept_out_by_the_store(service: ServiceProfile, tmp_path: Path) -> None:
    """Another host has a folder of its own and the same store."""
    other_host = service.model_copy(update={"state_directory": tmp_path / "other-host"})
    with (
        hold_service(service, purpose="restore-database", holder="first"),
        pytest.raises(LeaseHeldError, match=r"held by first for: restore-database"),
        hold_service(other_host, purpose="restore-database", holder="second", wait=AT_ONCE),
    ):
        raise AssertionError
    with hold_service(other_host, purpose="restore-database", holder="second", wait=AT_ONCE):
        pass


def test_without_its_store_the_service_is_still_held_on_this_host(
    service: ServiceProfile,
    start_child: StartChild,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_KEY", "irrelevant")
    away = Destination(
        url="s3://backups/runbooks",
        endpoint_url="http://127.0.0.1:9",
        access_key_id="env:NO_KEY",
        secret_access_key="env:NO_KEY",
    )
    _, hear = start_child("hold", service)
    hear.recv()
    service = with_store(service, away)
    with (
        pytest.raises(LeaseHeldError, match="clever-otter"),
        hold_service(service, purpose="b", holder="second", wait=AT_ONCE),
    ):
        raise AssertionError

    alone = service.model_copy(update={"name": "alone"})
    with hold_service(alone, purpose="b", holder="second", wait=AT_ONCE):
        assert "Other hosts are not kept out, the store takes no lease" in caplog.text


def test_a_backup_disk_that_is_not_mounted_keeps_nobody_from_the_service(
    service: ServiceProfile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").rmdir()
    with hold_service(service, purpose="restart-service", holder="first", wait=AT_ONCE):
        assert "Other hosts are not kept out" in caplog.text
        assert "mount its disk" in caplog.text
    assert not (tmp_path / "store").exists()


# What is wrong with a store, and what the log says of it.
NO_STORES = {
    "a revoked key": ({"access_key_id": "AKIAREVOKED"}, "the access key is not accepted"),
    "no bucket": ({"bucket": "nobody-made-this-one"}, "there is no such bucket"),
    "no secret": ({"secret_access_key": ""}, "is empty"),
}


@pytest.mark.parametrize("fault", NO_STORES)
def test_a_store_that_refuses_or_is_not_there_keeps_nobody_from_the_service(
    service: ServiceProfile,
    s3_server: S3Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    changed, said = NO_STORES[fault]
    service = with_store(service, on_server(s3_server, tmp_path, **changed))
    with (
        holding_off_backups(service, "rotate-s3-credentials", "first"),
        hold_service(service, purpose="rotate-s3-credentials", holder="first", wait=AT_ONCE),
    ):
        assert "Backups are not held off, the store takes no lease" in caplog.text
        assert "Other hosts are not kept out, the store takes no lease" in caplog.text
        assert said in caplog.text


class Unconditional(BaseHTTPRequestHandler):
    """An empty store that knows no conditional writes."""

    def do_GET(self) -> None:
        self._answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["If-None-Match"]:
            self._answer(501, b"<Error><Code>NotImplemented</Code><Message>If-None-Match</Message></Error>")
        else:
            self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_store_that_cannot_keep_two_hosts_apart_is_not_passed_over(
    service: ServiceProfile, s3_server: S3Server, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Unconditional) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = on_server(s3_server, tmp_path)
        endpoint = f"http://127.0.0.1:{server.server_port}"
        service = with_store(service, there.model_copy(update={"endpoint_url": endpoint}))
        try:
            with (
                pytest.raises(UnsuitableStoreError, match="use a store that knows them"),
                hold_service(service, purpose="restart-service", holder="first", wait=AT_ONCE),
            ):
                raise AssertionError
        finally:
            server.shutdown()


def test_a_full_store_keeps_nobody_from_the_service(
    service: ServiceProfile, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise StoreFullError("there is no room left on the disk")

    monkeypatch.setattr("tasks.object_store_directory.DirectoryStore.write_if_absent", fill)
    with (
        holding_off_backups(service, "restart-service", "first"),
        hold_service(service, purpose="restart-service", holder="first", wait=AT_ONCE),
    ):
        assert caplog.text.count("there is no room left on the disk") == 2


def test_a_lease_that_says_not_whose_it_is_keeps_everybody_out(
    service: ServiceProfile, tmp_path: Path
) -> None:
    for name in ("mutation", "repository"):
        lease = tmp_path / "store" / "invoice" / "leases" / name / "0000000007.json"
        lease.parent.mkdir(parents=True)
        lease.write_text('{"a newer": "version"}')
    with (
        pytest.raises(UnreadableLeaseError, match="delete it"),
        hold_service(service, purpose="a", holder="b"),
    ):
        raise AssertionError
    with pytest.raises(UnreadableLeaseError), holding_off_backups(service, "a", "b"):
        raise AssertionError


def test_a_host_that_takes_no_lock_is_named_and_is_no_defect_of_ours(service: ServiceProfile) -> None:
    lock = host_folder(service) / "lock"
    lock.mkdir()
    with (
        pytest.raises(SourceError, match=f"{lock}: Is a directory."),
        hold_service(service, purpose="outage-triage", holder="first", wait=AT_ONCE),
    ):
        pytest.fail("nobody is kept out")


def test_a_disk_that_can_only_be_read_is_told_from_a_right_that_is_missing(tmp_path: Path) -> None:
    with (
        pytest.raises(AccessDeniedError, match="its disk can only be read: see dmesg"),
        naming_file(tmp_path),
    ):
        raise OSError(errno.EROFS, "Read-only file system")
