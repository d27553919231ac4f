"""What make would do on a host, in a folder that looks like it: nothing is installed and nothing started."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.sandbox import without_override

BOUND_BY_MODES = [sys.executable, "-I", "-S", without_override.__file__]
MAKEFILE = Path(__file__).parents[2] / "Makefile"
OPERATING = ["run", "doctor", "deploy", "down", "status", "clean"]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A checkout without packages."""
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("pyproject.toml", "uv.lock"):
        (tmp_path / name).touch()
    return tmp_path


def install_by_hand(host: Path) -> None:
    """As the guide has it, by uv: make has noted nothing."""
    python = host / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()


def tell(host: Path, *words: str) -> str:
    """Return what make would do."""
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *words],
        cwd=host,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("target", OPERATING)
def test_who_operates_needs_no_network_where_there_is_an_interpreter(host: Path, target: str) -> None:
    install_by_hand(host)
    assert " sync " not in tell(host, target)


@pytest.mark.parametrize("target", OPERATING)
def test_packages_that_a_pull_made_old_still_operate(host: Path, target: str) -> None:
    install_by_hand(host)
    (host / ".venv" / ".installed").touch()
    (host / "uv.lock").unlink()
    (host / "uv.lock").touch()
    assert " sync " not in tell(host, target)


@pytest.mark.parametrize("target", ["run", "doctor", "deploy", "demo", "lint"])
def test_what_needs_packages_installs_them_where_there_are_none(host: Path, target: str) -> None:
    assert " sync " in tell(host, target)


def test_tests_need_all_packages_as_they_are_locked(host: Path) -> None:
    install_by_hand(host)
    assert " sync " in tell(host, "lint")


def test_cleaning_installs_nothing_and_stops_only_what_there_is(host: Path) -> None:
    (host / ".sandbox").mkdir()
    assert tell(host, "clean").splitlines() == [
        "rm -rf .venv .tools .sandbox deployments/sandbox/node_modules"
    ]
    install_by_hand(host)
    assert tell(host, "clean").splitlines()[0].endswith("-m deployments.sandbox down")
    # What runs may have lost its folder.
    (host / ".sandbox").rmdir()
    assert tell(host, "clean").splitlines()[0].endswith("-m deployments.sandbox down")


def install(host: Path, python: str) -> str:
    """Return what make says when it installs where there is no uv, with an interpreter, and cannot."""
    done = subprocess.run(
        [*BOUND_BY_MODES, shutil.which("make") or "", "--no-print-directory", f"PYTHON={python}", "lint"],
        cwd=host,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


def test_a_checkout_that_this_user_may_not_write_to_is_no_lack_of_venv(host: Path) -> None:
    host.chmod(0o555)
    said = install(host, sys.executable)
    host.chmod(0o755)
    assert "Permission denied" in said
    assert "came without venv" not in said


def test_an_interpreter_that_came_without_venv_is_said(host: Path) -> None:
    python = host / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *ensurepip*|*venv*) exit 1; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    said = install(host, str(python)).splitlines()
    assert said[0] == (
        f"{python} came without venv: install your system's package for it (Debian: python3-venv), or uv."
    )


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "corp.example"}, "corp.example,127.0.0.1,localhost"),
        ({"NO_PROXY": "old.example", "no_proxy": "corp.example"}, "corp.example,127.0.0.1,localhost"),
    ],
)
def test_no_proxy_is_asked_for_what_is_on_this_host(host: Path, known: dict[str, str], wanted: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    shown = subprocess.run(
        ["make", "--no-print-directory", "--eval", 'show: ; @echo "$$no_proxy $$NO_PROXY"', "show"],
        cwd=host,
        env=kept | known,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [wanted, wanted]


def start_tests(host: Path, pytest_does: str) -> subprocess.Popen[str]:
    """Let make run tests of which each says its folder and then does so."""
    program = host / ".venv" / "bin" / "pytest"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nmkdir "$TMPDIR/made" && echo "$TMPDIR" "$@"\n{pytest_does}\n')
    program.chmod(0o755)
    command = ["make", "--no-print-directory", "--old-file=.venv/.installed", "unit"]
    return subprocess.Popen(
        command,
        cwd=host,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("pytest_does", "succeeds"), [("read line; exit 0", True), ("read line; exit 1", False)]
)
def test_what_tests_wrote_goes_when_they_have_ended(host: Path, pytest_does: str, *, succeeds: bool) -> None:
    with start_tests(host, pytest_does) as make:
        assert make.stdin is not None
        assert make.stdout is not None
        folder, *words = make.stdout.readline().split()
        # As any folder for temporary files: some tests are about what another user may read.
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o755
        make.stdin.close()
    assert f"--basetemp={folder}/t" in words
    assert not Path(folder).exists()
    assert (make.returncode == 0) == succeeds


def test_what_tests_wrote_goes_when_somebody_interrupts_them(host: Path) -> None:
    with start_tests(host, "exec sleep 60") as make:
        assert make.stdout is not None
        folder, *_ = make.stdout.readline().split()
        assert Path(folder, "made").exists()
        # Who is started in the background may have been told to ignore SIGINT.
        os.killpg(make.pid, signal.SIGTERM)
    assert make.returncode != 0
    assert not Path(folder).exists()
