"""Every process of the application proves with which secrets it runs, and no secret is told."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks import fingerprints
from tasks.environment_file import read_variables
from tasks.environment_writing import write_variables
from tasks.errors import ConfigurationError, UnreachableError
from tasks.fingerprints import prove_fingerprints
from tasks.process_manager import manager_of
from tasks.records.rotation import Kept
from tasks.records.service import ServiceProfile
from tasks.rotation_files import keep
from tasks.rotation_steps import prove_in_use

VARIABLES = ("DATABASE_URL", "JWT_SECRET")


def telling(profile: ServiceProfile, url: str | None = None) -> ServiceProfile:
    url = url or profile.application.health_url.replace("/health", "/internal/fingerprints")
    application = profile.application.model_copy(update={"fingerprints_url": url})
    return profile.model_copy(update={"application": application})


@contextmanager
def changed(profile: ServiceProfile, name: str, value: str) -> Iterator[None]:
    """Change a variable of the env file, and not of the processes."""
    before = read_variables(profile).get(name)
    write_variables(profile, {name: value}, {})
    try:
        yield
    finally:
        write_variables(profile, {name: before}, {})


def test_both_processes_of_a_cluster_prove_the_values_of_the_env_file(propertypulse: ServiceProfile) -> None:
    proof = prove_fingerprints(telling(propertypulse), VARIABLES)
    assert proof is not None
    assert proof.processes == tuple(sorted(manager_of(propertypulse).list_pids()))
    assert len(proof.processes) == 2
    assert proof.sentence == (
        "All 2 processes of it proved by fingerprint to run with DATABASE_URL, JWT_SECRET as the env file "
        "has it."
    )


def test_the_only_process_of_an_application_proves_its_values(invoice: ServiceProfile) -> None:
    proof = prove_fingerprints(telling(invoice), ["MONGODB_URI"])
    assert proof is not None
    assert proof.sentence.startswith("Its process proved")


def test_of_a_windows_service_on_its_own_host_the_process_that_answers_proves_its_values(
    invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = telling(invoice).application.model_copy(update={"process_manager": "windows"})
    elsewhere = invoice.model_copy(update={"application": application})
    proof = prove_fingerprints(elsewhere, ["JWT_SECRET"])
    assert proof is not None
    assert list(proof.processes) == manager_of(invoice).list_pids()
    monkeypatch.setattr(fingerprints, "_LONGEST_SECONDS", 0.0)
    with changed(invoice, "JWT_SECRET", "another"), pytest.raises(UnreachableError, match="another JWT_SEC"):
        prove_fingerprints(elsewhere, ["JWT_SECRET"])


def test_without_a_url_nothing_is_asked_and_nothing_is_proven(propertypulse: ServiceProfile) -> None:
    application = propertypulse.application.model_copy(update={"fingerprints_url": None})
    assert (
        prove_fingerprints(propertypulse.model_copy(update={"application": application}), VARIABLES) is None
    )


def test_each_process_that_runs_with_another_value_is_named(
    propertypulse: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_LONGEST_SECONDS", 0.0)
    pids = manager_of(propertypulse).list_pids()
    other = "another-secret-that-is-long-enough-for-it"
    with changed(propertypulse, "JWT_SECRET", other), pytest.raises(UnreachableError) as raised:
        prove_fingerprints(telling(propertypulse), VARIABLES)
    said = str(raised.value)
    for pid in pids:
        assert f"process {pid} runs with another JWT_SECRET than the env file has" in said
    assert other not in said
    # The others are not in doubt.
    assert prove_fingerprints(telling(propertypulse), VARIABLES) is not None


def test_a_process_that_runs_without_a_variable_is_named(
    invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_LONGEST_SECONDS", 0.0)
    (pid,) = manager_of(invoice).list_pids()
    with (
        changed(invoice, "JWT_SECRET_PREVIOUS", "older"),
        pytest.raises(UnreachableError, match=f"process {pid} runs without JWT_SECRET_PREVIOUS"),
    ):
        prove_fingerprints(telling(invoice), ["JWT_SECRET", "JWT_SECRET_PREVIOUS"])


def test_a_process_that_hangs_is_not_taken_for_proven(
    invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_LONGEST_SECONDS", 0.0)
    monkeypatch.setattr(fingerprints, "_ANSWER_SECONDS", 0.5)
    (pid,) = manager_of(invoice).list_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError, match=rf"process {pid} has not answered \(it did not answer"):
            prove_fingerprints(telling(invoice), ["JWT_SECRET"])
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_application_behind_whose_url_another_answers_is_not_proven(
    propertypulse: ServiceProfile, invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_LONGEST_SECONDS", 0.0)
    url = telling(invoice).application.fingerprints_url
    with pytest.raises(UnreachableError, match=r"process \d+ has not answered; process \d+ has not answered"):
        prove_fingerprints(telling(propertypulse, url), ["JWT_SECRET"])


@pytest.mark.parametrize("path", ["/health", "/nowhere"])
def test_a_url_that_tells_no_fingerprints_is_named_with_the_way_out(
    invoice: ServiceProfile, path: str
) -> None:
    url = invoice.application.health_url.replace("/health", path)
    with pytest.raises(ConfigurationError, match="told no fingerprints: correct application"):
        prove_fingerprints(telling(invoice, url), ["JWT_SECRET"])


def test_an_answer_to_an_earlier_question_proves_nothing(
    invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who saw one answer, and gives it again, does not have the secret."""
    monkeypatch.setattr(fingerprints, "_LONGEST_SECONDS", 0.0)
    (pid,) = manager_of(invoice).list_pids()
    body = f'{{"process": {pid}, "fingerprints": {{"JWT_SECRET": "{"ab" * 32}"}}}}'.encode()

    class Replay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Replay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UnreachableError, match="runs with another JWT_SECRET"):
            prove_fingerprints(
                telling(invoice, f"http://127.0.0.1:{server.server_port}/prints"), ["JWT_SECRET"]
            )
        server.shutdown()


@pytest.mark.parametrize(
    ("inherited", "is_refused"), [("an-old-secret", True), ("a-new-secret", False), (None, False)]
)
def test_without_a_url_a_process_that_was_started_with_the_old_value_is_named_and_the_value_is_not(
    propertypulse: ServiceProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inherited: str | None,
    is_refused: bool,
) -> None:
    """PM2 starts it with what its ecosystem file or the operator's shell once had."""
    application = propertypulse.application.model_copy(update={"fingerprints_url": None})
    profile = propertypulse.model_copy(update={"application": application, "state_directory": tmp_path})
    key, secret = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
    keep(profile, "s3", "previous", Kept("r", {key: "AKIAONE", secret: "an-old-secret"}))
    keep(profile, "s3", "pending", Kept("r", {key: "AKIATWO", secret: "a-new-secret"}))
    environment = {**os.environ, **({secret: inherited} if inherited else {})}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        monkeypatch.setattr(
            fingerprints, "manager_of", lambda _: SimpleNamespace(list_pids=lambda: [process.pid])
        )
        try:
            if not is_refused:
                assert prove_in_use.fn(profile, "s3") == "Every process of it was started after the change."
                return
            with pytest.raises(UnreachableError) as raised:
                prove_in_use.fn(profile, "s3")
        finally:
            process.kill()
    assert f"process {process.pid} of" in str(raised.value)
    assert f"was started with the old {secret}" in str(raised.value)
    assert "--update-env" in str(raised.value)
    assert "an-old-secret" not in str(raised.value)
