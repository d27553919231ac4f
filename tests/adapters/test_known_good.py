"""What a healthy service looked like: nothing of it can be read back, and rubbish is as good as nothing."""

import os
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.sandbox import programs
from tasks import known_good
from tasks.errors import StoreFullError
from tasks.known_good import fingerprint, list_changed, recall_healthy, remember_healthy
from tasks.own_processes import find_node_of, find_own_processes
from tasks.records.service import ServiceProfile

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SECRET = "correct-horse-battery-staple"


@pytest.fixture
def small(service: ServiceProfile, tmp_path: Path) -> ServiceProfile:
    """An application of two files and an env file."""
    directory = tmp_path / "app"
    (directory / "routes").mkdir(parents=True)
    (directory / "server.js").write_text("setInterval(() => {}, 1000);\n")
    (directory / "routes" / "health.js").write_text("module.exports = 1;\n")
    (directory / ".env").write_text(f"JWT_SECRET={SECRET}\nPORT=8080\n")
    application = service.application.model_copy(update={"directory": directory})
    return service.model_copy(update={"application": application})


def kept(profile: ServiceProfile) -> list[Path]:
    return sorted((profile.state_directory / profile.name).iterdir())


def test_what_was_healthy_is_recalled_by_names_and_fingerprints_only(small: ServiceProfile) -> None:
    assert recall_healthy(small) is None
    remember_healthy.fn(small, AT)
    known = recall_healthy(small)
    assert known is not None
    assert known.at == AT
    assert known.variables.keys() == {"JWT_SECRET", "PORT"}
    assert known.files.keys() == {"server.js", "routes/health.js"}
    assert known.variables["JWT_SECRET"] == fingerprint(small, "JWT_SECRET", SECRET)
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept(small)] == [0o600, 0o600]
    assert not any(SECRET.encode() in path.read_bytes() for path in kept(small))


def test_the_same_value_has_another_fingerprint_elsewhere(small: ServiceProfile, tmp_path: Path) -> None:
    other = small.model_copy(update={"state_directory": tmp_path / "another-host"})
    assert fingerprint(small, "A", SECRET) == fingerprint(small, "A", SECRET)
    assert fingerprint(small, "A", SECRET) != fingerprint(small, "B", SECRET)
    assert fingerprint(small, "A", SECRET) != fingerprint(other, "A", SECRET)


def test_what_was_changed_added_or_taken_away_is_named(small: ServiceProfile) -> None:
    assert list_changed(small, {"JWT_SECRET": "other"}) == ()
    remember_healthy.fn(small, AT)
    assert list_changed(small, {"JWT_SECRET": SECRET, "PORT": "8080"}) == ()
    assert list_changed(small, {"JWT_SECRET": "other", "NEW": "1"}) == ("JWT_SECRET", "NEW", "PORT")


@pytest.mark.parametrize("rubbish", [b"", b"{", b"null", b"\xff\xfe", b'{"at": "2026-11-22T03:00:00Z"}'])
def test_what_cannot_be_read_is_as_good_as_nothing_and_written_anew(
    small: ServiceProfile, rubbish: bytes
) -> None:
    remember_healthy.fn(small, AT)
    file = small.state_directory / small.name / "known-good.json"
    file.write_bytes(rubbish)
    assert recall_healthy(small) is None
    remember_healthy.fn(small, AT)
    assert recall_healthy(small) is not None


@pytest.mark.parametrize("left", [None, b"", b"half of a key"])
def test_without_its_key_nothing_is_remembered_instead_of_everything_changed(
    small: ServiceProfile, left: bytes | None
) -> None:
    remember_healthy.fn(small, AT)
    key = small.state_directory / small.name / "fingerprint-key"
    key.unlink() if left is None else key.write_bytes(left)
    assert recall_healthy(small) is None
    assert list_changed(small, {}) == ()
    remember_healthy.fn(small, AT)
    assert list_changed(small, {"JWT_SECRET": SECRET, "PORT": "8080"}) == ()


def test_all_who_begin_at_once_have_one_key(small: ServiceProfile) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: fingerprint(small, "A", SECRET), range(64)))
    assert found == {fingerprint(small, "A", SECRET)}
    assert [path.name for path in kept(small)] == ["fingerprint-key"]


def test_a_full_disk_leaves_what_was_remembered(
    small: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_healthy.fn(small, AT)

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreFullError):
        remember_healthy.fn(small, AT.replace(hour=4))
    monkeypatch.undo()
    known = recall_healthy(small)
    assert known is not None
    assert known.at == AT
    assert [path.name for path in kept(small)] == ["fingerprint-key", "known-good.json"]


@pytest.fixture
def start_entry(small: ServiceProfile, request: pytest.FixtureRequest) -> Callable[[], None]:
    def start() -> None:
        command = [str(programs.node()), "server.js"]
        process = subprocess.Popen(command, cwd=small.application.directory)
        request.addfinalizer(process.wait)
        request.addfinalizer(process.kill)

    return start


def test_what_changed_after_its_processes_started_is_not_proven_by_their_health(
    small: ServiceProfile, start_entry: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel's time of the boot, from which starts are counted, moves by up to a second.
    monkeypatch.setattr(known_good, "_START_TOLERANCE_SECONDS", -2)
    directory = small.application.directory
    remember_healthy.fn(small, AT)
    before = recall_healthy(small)
    start_entry()
    assert find_node_of(find_own_processes(small)) == str(programs.node().resolve())

    (directory / ".env").write_text("JWT_SECRET=\n")
    (directory / "server.js").write_text("const a = ;\n")
    (directory / "routes" / "new.js").write_text("module.exports = 2;\n")
    (directory / "routes" / "health.js").touch()
    remember_healthy.fn(small, AT.replace(hour=4))
    known = recall_healthy(small)
    assert before is not None
    assert known is not None
    assert known.at == AT.replace(hour=4)
    assert known.variables == before.variables
    assert known.files.keys() == before.files.keys()
    assert known.files["server.js"] == before.files["server.js"]
    assert known.node == str(programs.node().resolve())
    assert list_changed(small, {"JWT_SECRET": "", "PORT": "8080"}) == ("JWT_SECRET",)
    remember_healthy.fn(small, AT, accepted=True)
    assert list_changed(small, {"JWT_SECRET": ""}) == ()


def test_an_env_file_that_is_gone_does_not_take_away_what_is_known_of_it(small: ServiceProfile) -> None:
    remember_healthy.fn(small, AT)
    (small.application.directory / ".env").unlink()
    remember_healthy.fn(small, AT.replace(hour=4))
    assert list_changed(small, {"JWT_SECRET": SECRET, "PORT": "8080"}) == ()
