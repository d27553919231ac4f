"""Break glass: a deployed runbook from the shell of its host, while the Prefect server is down."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deployments.run import PROJECT, find_deployment, load_flow, main, split_parameters
from tasks.errors import ConfigurationError

PROFILE = PROJECT / "deployments" / "services" / "invoice.yaml"


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run it as ``make run`` does, in a shell whose Prefect server does not answer."""
    return subprocess.run(
        [sys.executable, "-m", "deployments.run", *words],
        cwd=PROJECT,
        env={
            **os.environ,
            "RUNBOOK_SERVICES": str(folder),
            "PREFECT_API_URL": "http://127.0.0.1:9/api",
            "PREFECT_API_AUTH_STRING": "somebody:secret",
            "PREFECT_HOME": str(folder / "prefect-home-of-the-worker"),
            "TMPDIR": str(folder),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """A folder with the profile of a service of which only the host's folder is there."""
    document = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    document["state_directory"] = str(tmp_path / "state")
    (tmp_path / "store").mkdir()
    document["backup"]["destination"] = {"url": (tmp_path / "store").as_uri()}
    (tmp_path / "invoice.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return tmp_path


def test_a_deployed_runbook_runs_while_the_configured_server_is_down_and_leaves_nothing(
    services: Path,
) -> None:
    done = run(services, "check-audit-trail", "invoice")
    assert done.returncode == 0, done.stderr
    assert "Completed: invoice: the audit trail is as it was written: 0 lines." in done.stderr
    assert "Beginning flow run" in done.stderr
    assert not list(services.glob("break-glass-*"))
    assert not (services / "prefect-home-of-the-worker").exists()


def test_a_run_that_fails_says_why_and_has_another_exit_code(
    services: Path,
    prefect_server: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process and on the tests' server: another start of Prefect would take its time."""
    (services / "state").write_text("in the way")
    monkeypatch.setenv("RUNBOOK_SERVICES", str(services))
    monkeypatch.setattr("deployments.run._leave_the_configured_server", lambda: None)
    monkeypatch.setattr("sys.argv", ["run", "check-audit-trail", "invoice"])
    assert main() == 1
    said = capsys.readouterr().err
    assert re.search(r"^Failed: invoice: .* cannot be made .*state_directory", said, re.MULTILINE)


def test_what_is_refused_is_one_sentence_and_an_exit_code_of_its_own(services: Path) -> None:
    done = run(services, "restore-everything", "invoice")
    assert done.returncode == 2
    assert re.fullmatch(
        r"There is no runbook 'restore-everything'; known: .*restore-drill.*\.\n", done.stderr
    )


def test_a_service_without_that_deployment_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"service 'invoce'; known: (\w+, )*propertypulse(, \w+)*\.$"
    ):
        find_deployment("restore-drill", "invoce")


@pytest.mark.parametrize("words", [["latest"], ["=latest"], ["wanted set=latest"], ["a=1", "a=2"]])
def test_words_that_are_no_parameters_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"is no parameter: write NAME=VALUE|is given twice"):
        split_parameters(words)


def test_parameters_are_read_as_yaml_over_those_of_the_deployment() -> None:
    entry = find_deployment("emergency-backup", "invoice")
    flow, parameters = load_flow(entry, {})
    assert (flow.name, parameters) == (
        "emergency-backup",
        {**parameters, "service": "invoice", "reason": "before a risky operation"},
    )
    _, parameters = load_flow(entry, {"reason": "2026-11-21"})
    assert parameters["reason"] == "2026-11-21"
    _, parameters = load_flow(find_deployment("restore-drill", "invoice"), {"dry_run": "yes"})
    assert parameters["dry_run"] is True


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"wanted": "latest"}, r"has no parameter 'wanted'; it has: dry_run, service, wanted_set\.$"),
        ({"dry_run": "perhaps"}, r"dry_run: Input should be a valid boolean"),
        ({"dry_run": "["}, r"The value of dry_run cannot be read"),
        ({"service": "propertypulse"}, r"The service is named once"),
    ],
)
def test_a_parameter_that_the_runbook_does_not_take_is_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        load_flow(find_deployment("restore-drill", "invoice"), given)
    assert "\n" not in str(caught.value)


def test_make_hands_the_parameters_over_word_by_word() -> None:
    words = ["FLOW=restore-drill", "SERVICE=invoice", "PARAMETERS=wanted_set=latest dry_run=true"]
    shown = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "run", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines()[-1].endswith(
        '-m deployments.run "restore-drill" "invoice" wanted_set=latest dry_run=true'
    )
