"""One mutation at a time: a real process holds the service, waits for it, and is killed with it."""

import json
import logging
import re
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.errors import LeaseHeldError
from tasks.host_folder import host_folder
from tasks.records.service import Destination, ServiceProfile
from tasks.service_lock import hold_service
from tests.adapters.conftest import S3Server, StartChild

AT_ONCE = timedelta(0)


@pytest.fixture(autouse=True)
def run_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Outside a run there is no run's log: its sentences go to an ordinary one."""
    monkeypatch.setattr("tasks.service_lock.get_run_logger", lambda: logging.getLogger("a run"))
    with caplog.at_level(logging.INFO):
        yield


def with_store(service: ServiceProfile, destination: Destination) -> ServiceProfile:
    backup = service.backup.model_copy(update={"destination": destination})
    return service.model_copy(update={"backup": backup})


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
        for name in ("access_key_id", "secret_access_key"):
            (tmp_path / name).write_text(getattr(server, name))
            (tmp_path / name).chmod(0o600)
        destination = Destination(
            url=f"s3://{server.bucket}/{tmp_path.name}",
            endpoint_url=server.endpoint_url,
            access_key_id=f"file:{tmp_path / 'access_key_id'}",
            secret_access_key=f"file:{tmp_path / 'secret_access_key'}",
        )
        service = with_store(service, destination)
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
        assert "Other hosts are not kept out, the store does not answer" in caplog.text


def test_a_backup_disk_that_is_not_mounted_keeps_nobody_from_the_service(
    service: ServiceProfile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").rmdir()
    with hold_service(service, purpose="restart-service", holder="first", wait=AT_ONCE):
        assert "Other hosts are not kept out" in caplog.text
        assert "mount its disk" in caplog.text
    assert not (tmp_path / "store").exists()
