"""What is left of this host: as its own tools say."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks import observing_host
from tasks.errors import UnreachableError
from tasks.observing_host import observe_host
from tasks.records.service import ServiceProfile

MIB = 1 << 20


@pytest.fixture
def place(service: ServiceProfile, tmp_path: Path) -> Callable[..., ServiceProfile]:
    """A maker of services whose application is at a path."""

    def make(directory: Path, **application: Any) -> ServiceProfile:
        changed = service.application.model_copy(update={"directory": directory, **application})
        return service.model_copy(update={"application": changed})

    return make


def test_each_file_system_that_is_used_is_told_once(
    place: Callable[..., ServiceProfile], tmp_path: Path
) -> None:
    candidates = (Path("/dev/shm"), Path(__file__).parent)
    others = [folder for folder in candidates if folder.stat().st_dev != tmp_path.stat().st_dev]
    if not others:
        pytest.skip("this host has one file system for everything")
    profile = place(tmp_path, log_files=(Path("logs/error.log"), others[0] / "error.log"))
    disks = {disk.path: disk for disk in observe_host.fn(profile).disks}
    assert {Path(path).stat().st_dev for path in disks} == {
        path.stat().st_dev for path in (tmp_path, others[0], Path(tempfile.gettempdir()))
    }
    assert len({Path(path).stat().st_dev for path in disks}) == len(disks)
    used = shutil.disk_usage(tmp_path)
    assert disks[str(tmp_path)].total_bytes == used.total
    assert disks[str(tmp_path)].free_bytes == pytest.approx(used.free, rel=0.1)
    free_files = disks[str(others[0])].free_files
    assert free_files is not None
    assert 0 < free_files <= 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize(("options", "is_told"), [("size=256k", True), ("size=256k,ro", False)])
def test_a_disk_within_the_applications_folder_is_one_that_it_uses(
    place: Callable[..., ServiceProfile], tmp_path: Path, options: str, is_told: bool
) -> None:
    logs = tmp_path / "app" / "logs"
    logs.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(logs)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted here")
    try:
        disks = {disk.path: disk for disk in observe_host.fn(place(logs.parent)).disks}
    finally:
        subprocess.run(["umount", str(logs)], check=True)
    assert (str(logs) in disks) is is_told
    assert not is_told or disks[str(logs)].total_bytes == 256 * 1024


def test_what_is_not_there_yet_lies_where_it_would_be_made(
    place: Callable[..., ServiceProfile], tmp_path: Path
) -> None:
    assert observe_host.fn(place(tmp_path / "not" / "there")).disks[0].path == str(tmp_path)


def test_a_disk_that_does_not_answer_is_an_error_within_its_time(
    service: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(observing_host, "_DISK_SECONDS", 0.1)
    monkeypatch.setattr(os, "statvfs", lambda path: answered.wait(30))
    with pytest.raises(UnreachableError, match="invoice: a disk does not answer within"):
        observe_host.fn(service)
    answered.set()


def test_memory_and_processors_are_the_hosts(service: ServiceProfile) -> None:
    facts = observe_host.fn(service)
    assert facts.memory_bytes <= psutil.virtual_memory().total
    assert 0 <= facts.memory_available_bytes <= facts.memory_bytes
    assert facts.cores == psutil.cpu_count()
    assert 0 <= facts.cpu_percent <= 100
    assert (facts.waiting_percent is not None) == Path("/proc/pressure/cpu").exists()
    assert len(facts.busiest) <= 3


@pytest.mark.parametrize(
    ("names", "reclaimable"),
    [
        (("memory.max", "memory.current", "memory.stat"), "inactive_file"),
        (
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
            "total_inactive_file",
        ),
    ],
)
def test_in_a_container_its_limit_counts(
    service: ServiceProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, str, str],
    reclaimable: str,
) -> None:
    monkeypatch.setattr(observing_host, "_CGROUPS", tmp_path)
    host = psutil.virtual_memory().total
    for limit, expected in ((64 * MIB, 64 * MIB), ("max", host), (1 << 62, host)):
        contents = (f"{limit}\n", f"{60 * MIB}\n", f"anon 5\n{reclaimable} {10 * MIB}\nslab 7\n")
        for name, content in zip(names, contents, strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        total, available = observing_host._observe_memory()
        assert total == expected
        assert available == 14 * MIB if expected < host else available > 14 * MIB


def test_the_busiest_process_is_named_by_name_and_id_only() -> None:
    ourselves = psutil.Process()
    before: dict[psutil.Process, float | None] = dict.fromkeys(psutil.process_iter())
    before[ourselves] = sum(ourselves.cpu_times()[:2]) - 5
    (busiest,) = observing_host._list_busiest(before, 10.0)
    assert busiest.name == f"{Path(ourselves.exe()).name} ({ourselves.pid})"
    assert busiest.problem in {"takes 50 % of a core", "takes 51 % of a core"}
