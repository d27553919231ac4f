"""What the demo says when something is in its way: one sentence, and an exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from deployments.demo_runs import back_up_and_drill, show_newest
from deployments.sandbox import without_override
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.ports import Ports, variable_of
from deployments.sandbox.stack import Sandbox
from tasks.profiles import SERVICES_VARIABLE
from tests.deployments.receiving import wait_until

NOBODY_THERE = "http://127.0.0.1:1"
BOUND_BY_MODES = [sys.executable, "-I", "-S", without_override.__file__]
PROJECT = Path(__file__).parents[2]


def start(folder: Path, ports: Ports, *before: str, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a module of the sandbox in another folder, as if that were the checkout."""
    chosen = {variable_of(name): str(port) for name, port in ports.items()}
    return subprocess.Popen(
        [*before, sys.executable, "-m", *arguments],
        env={**os.environ, **chosen, "PYTHONPATH": str(PROJECT)},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores SIGINT, and so would this.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def test_an_engine_that_went_away_is_a_sentence() -> None:
    with (
        temporary_settings({PREFECT_API_URL: f"{NOBODY_THERE}/api"}),
        pytest.raises(SandboxError, match=r"^The Prefect server went away.*make status.*make demo"),
    ):
        back_up_and_drill(Console(quiet=True))


def test_a_store_that_is_away_when_the_result_is_shown_is_a_sentence(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("invoice", "propertypulse"):
        profile = yaml.safe_load((sandbox.state / "services" / f"{name}.yaml").read_text(encoding="utf-8"))
        profile["backup"]["destination"]["endpoint_url"] = NOBODY_THERE
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    with pytest.raises(SandboxError, match=r"127\.0\.0\.1:1.*no answer"):
        show_newest(Console(quiet=True))


@pytest.mark.parametrize("module", [["deployments.demo"], ["deployments.sandbox", "down"]])
@pytest.mark.parametrize("denied", ["", "lock"])
def test_a_folder_of_another_user_is_a_sentence(tmp_path: Path, module: list[str], denied: str) -> None:
    state = tmp_path / ".sandbox"
    state.mkdir()
    (state / "lock").touch()
    (state / denied).chmod(0)
    with start(tmp_path, Ports.free(), *BOUND_BY_MODES, arguments=module) as command:
        said = command.communicate(timeout=60)[1]
    state.chmod(0o700)
    assert command.returncode == 1
    assert said.count("\n") == 1
    assert "is another user's" in said


def test_an_interrupted_demo_ends_soon_and_says_how_to_go_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, ports = tmp_path_factory.mktemp("d"), Ports.free()
    sandbox = Sandbox(folder / ".sandbox", ports)
    try:
        with start(folder, ports, arguments=["deployments.demo"]) as demo:
            wait_until(lambda: list(sandbox.state.glob("run/*.pid")))
            demo.send_signal(signal.SIGINT)
            said = demo.communicate(timeout=60)[1]
    finally:
        sandbox.down()
    assert demo.returncode == 130
    assert said == "Stopped in the middle: `make demo` goes on, `make down` stops what runs.\n"
