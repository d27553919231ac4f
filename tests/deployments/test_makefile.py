"""What make would do on a host, in a folder that looks like it: nothing is installed and nothing started."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

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
