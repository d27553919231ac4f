"""References to secrets: what they name is returned, and nothing of it is ever in a message."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.credentials import resolve
from tasks.errors import AccessDeniedError, ConfigurationError, RunbookError, UnreachableError

CANARY = "canary-7f3a"


def secret_file(folder: Path, content: bytes = CANARY.encode() + b"\n", mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_variable_of_the_worker_is_a_secrets_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", CANARY)
    assert resolve("env:A_SECRET") == CANARY


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("A_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("A_SECRET", value)
    with pytest.raises(ConfigurationError, match="variable A_SECRET is not set"):
        resolve("env:A_SECRET")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_a_secrets_home_without_its_last_newline(tmp_path: Path, mode: int) -> None:
    assert resolve(f"file:{secret_file(tmp_path, mode=mode)}") == CANARY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644, 0o777])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(AccessDeniedError, match="is open to others: run chmod 600") as raised:
        resolve(f"file:{secret_file(tmp_path, mode=mode)}")
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xff" + CANARY.encode(), "no text")]
)
def test_a_file_without_a_secret_in_it_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        resolve(f"file:{secret_file(tmp_path, content)}")
    assert CANARY not in repr(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", secret_file(tmp_path) / "below a file"):
        with pytest.raises(ConfigurationError, match=f"{path} does not exist: create it, mode 600"):
            resolve(f"file:{path}")
    with pytest.raises(ConfigurationError, match="is no text file"):
        resolve(f"file:{tmp_path}")


def test_a_file_of_another_user_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = secret_file(tmp_path, mode=0o000)
    if os.geteuid() != 0:
        with pytest.raises(AccessDeniedError, match="make the user that this runs as its owner"):
            resolve(f"file:{path}")
        return
    # Root may read everything, so the question is asked as somebody else, who imported all before.
    script = (
        "import os, sys\nfrom tasks.credentials import resolve\n"
        "os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
        "try:\n    resolve(sys.argv[2])\nexcept Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", script, str(pwd.getpwnam("nobody").pw_uid), f"file:{path}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.startswith("AccessDeniedError"), said
    assert "make the user that this runs as its owner" in said


@pytest.mark.usefixtures("prefect_server")
def test_a_prefect_block_is_a_secrets_home() -> None:
    Secret(value=CANARY).save("a-secret", overwrite=True)
    assert resolve("block:a-secret") == CANARY


@pytest.mark.usefixtures("prefect_server")
def test_a_block_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no Prefect Secret block 'nobody-made-it'"):
        resolve("block:nobody-made-it")


def test_a_prefect_server_that_is_away_is_worth_another_try() -> None:
    script = (
        "from tasks.credentials import resolve\n"
        "try:\n    resolve('block:a-secret')\nexcept Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    environment = {
        **os.environ,
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_CLIENT_MAX_RETRIES": "0",
    }
    command = [sys.executable, "-c", script]
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env=environment
    ).stdout
    assert said.startswith(UnreachableError.__name__), said
    assert "'a-secret'" in said


@pytest.mark.parametrize("reference", [CANARY, f"mongodb://app:{CANARY}@db/x", f"vault:{CANARY}", ""])
def test_a_secret_in_a_references_place_is_not_repeated(reference: str) -> None:
    with pytest.raises(RunbookError, match="no reference to a secret: write env:NAME") as raised:
        resolve(reference)
    assert CANARY not in str(raised.value)


def test_a_block_without_a_server_starts_none() -> None:
    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(ConfigurationError, match="set PREFECT_API_URL, or refer to it as file: or env:"),
    ):
        resolve("block:a-secret")
