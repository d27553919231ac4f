"""What is installed on real hosts: read by systemd's and Prefect's own programs as far as they are here."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
import yaml

from deployments.alerts.configuration import CONFIGURATION_VARIABLE
from deployments.watch.__main__ import HEARTBEAT_VARIABLES, PARTS
from tasks.profiles import SERVICES_VARIABLE
from tasks.records.service import ServiceProfile

PROJECT = Path(__file__).parents[2]
INFRA = PROJECT / "deployments" / "infra"
FILES = sorted(path for path in INFRA.rglob("*") if path.is_file())
UNITS = sorted((INFRA / "systemd").glob("*.service"))
TIMERS = sorted((INFRA / "systemd").glob("*.timer"))
ENVIRONMENTS = sorted(INFRA.glob("*.env.example"))
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text(encoding="utf-8"))
VALUES = {
    path.stem.removesuffix("-values"): yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (INFRA / "kubernetes").iterdir()
}
PREFECT = version("prefect")
# What follows a user's name in a URL, or stands for a password in a line of its own.
_PASSWORD = re.compile(r"(?://|='?|(?<!image): +)[a-z]+:([^@\s/']+)(?:@|'?$)", re.MULTILINE)


def setting(unit: Path, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


def verify(unit: Path, folder: Path, change: tuple[str, str] = ("", "")) -> str:
    """Return what systemd has against a unit of which the paths are those of this checkout."""
    text = unit.read_text(encoding="utf-8").replace("/opt/runbooks/.venv", sys.prefix).replace(*change)
    copy = folder / unit.name.replace("@.", "@invoice.")
    copy.write_text(text.replace("/opt/runbooks", str(PROJECT)), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")


@systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.name))
def test_systemd_has_nothing_against_a_unit(unit: Path, tmp_path: Path) -> None:
    assert verify(unit, tmp_path) == ""


@systemd
@pytest.mark.parametrize("change", [("Restart=always", "Restart=allways"), ("/bin/python", "/bin/pithon")])
def test_systemd_would_have_something_against_a_typo(change: tuple[str, str], tmp_path: Path) -> None:
    assert verify(UNITS[0], tmp_path, change) != ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.name))
def test_prefect_knows_the_command_and_the_options_that_a_unit_starts(unit: Path) -> None:
    program, *words = setting(unit, "ExecStart").split()
    assert program == "/opt/runbooks/.venv/bin/python"
    command = list(takewhile(lambda word: not word.startswith("--"), words))
    shown = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True, check=True)
    assert {word for word in words if word.startswith("--")} <= set(shown.stdout.split())


@pytest.mark.parametrize("timer", TIMERS, ids=lambda timer: str(timer.name))
def test_a_timer_starts_a_unit_that_there_is_for_a_part_that_the_watch_knows(timer: Path) -> None:
    name, _, part = timer.stem.partition("@")
    assert INFRA / "systemd" / f"{name}@.service" in UNITS
    assert part in PARTS
    assert HEARTBEAT_VARIABLES[part] in (INFRA / "worker.env.example").read_text(encoding="utf-8")


def test_the_worker_keeps_its_state_where_profiles_look_for_it_and_for_itself() -> None:
    (worker,) = (unit for unit in UNITS if "worker" in unit.name)
    default = ServiceProfile.model_fields["state_directory"].default
    assert Path("/var/lib") / setting(worker, "StateDirectory") == default
    assert setting(worker, "StateDirectoryMode") == "0700"


def test_a_worker_polls_a_pool_and_a_queue_of_prefect_yaml() -> None:
    (worker,) = (unit for unit in UNITS if "worker" in unit.name)
    command = setting(worker, "ExecStart")
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    assert "--work-queue %i" in command
    for entry in document["deployments"]:
        assert f"--pool {entry['work_pool']['name']} " in command
        assert entry["work_pool"]["work_queue_name"] == entry["parameters"]["service"]


def is_setting(name: str) -> bool:
    return hasattr(prefect.settings, name)


def test_prefect_tells_a_setting_from_a_typo() -> None:
    assert is_setting("PREFECT_API_URL")
    assert not is_setting("PREFECT_API_URI")


@pytest.mark.parametrize("file", ENVIRONMENTS, ids=lambda file: str(file.name))
def test_every_variable_is_one_that_somebody_reads(file: Path) -> None:
    names = re.findall(r"^(\w+)=", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert names
    for name in names:
        assert name in {"DO_NOT_TRACK", SERVICES_VARIABLE, CONFIGURATION_VARIABLE} or is_setting(name)


def test_a_shell_reads_of_the_workers_environment_what_systemd_reads(tmp_path: Path) -> None:
    copy = tmp_path / "worker.env"
    text = (INFRA / "worker.env.example").read_text(encoding="utf-8").replace("PASSWORD", "a&b;c$d e")
    copy.write_text(text, encoding="utf-8")
    command = ["env", "-i", "sh", "-c", f"set -a; . {copy}; set +a; env"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = done.stdout.splitlines()
    assert "PREFECT_API_AUTH_STRING=operator:a&b;c$d e" in shown
    for name, value in re.findall(r"^(\w+)='(.*)'$", text, re.MULTILINE):
        assert f"{name}={value}" in shown


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.name))
def test_every_unit_reads_an_environment_that_there_is_an_example_of(unit: Path) -> None:
    name = Path(setting(unit, "EnvironmentFile")).name
    assert INFRA / f"{name}.example" in ENVIRONMENTS


def test_every_image_is_pinned_and_prefects_are_of_the_tested_version() -> None:
    images = [service["image"] for service in COMPOSE["services"].values()]
    images.append(f"prefecthq/prefect:{VALUES['server']['global']['prefect']['image']['prefectTag']}")
    images.append(f"prefecthq/prefect:{VALUES['worker']['worker']['image']['prefectTag']}")
    assert len(images) == 4
    for image in images:
        name, _, tag = image.partition(":")
        assert re.match(r"\d+\.\d+", tag), image
        assert name != "prefecthq/prefect" or tag.startswith(f"{PREFECT}-"), image


def test_no_file_holds_a_secret() -> None:
    found = {password for file in FILES for password in _PASSWORD.findall(file.read_text(encoding="utf-8"))}
    assert found == {"PASSWORD"}
    assert "PASSWORD" not in str(COMPOSE["services"]["postgresql"]["environment"].values())


def test_a_secret_in_a_url_or_a_line_would_be_found() -> None:
    text = (
        "A=postgresql://prefect:hunter2@host/x\nB=operator:hunter3\n  authString: operator:hunter4\n"
        "C='operator:hunter5'\n"
    )
    assert _PASSWORD.findall(text) == ["hunter2", "hunter3", "hunter4", "hunter5"]


def test_the_compose_file_shows_the_server_to_its_own_host_only_and_the_database_to_nobody() -> None:
    server, database = COMPOSE["services"]["server"], COMPOSE["services"]["postgresql"]
    assert server["ports"] == ["127.0.0.1:4200:4200"]
    assert "ports" not in database
    assert server["env_file"] == setting(INFRA / "systemd" / "prefect-server.service", "EnvironmentFile")
    mounted = {volume.partition(":")[0] for service in (server, database) for volume in service["volumes"]}
    sources = {source for source in mounted if source.startswith(".")}
    assert mounted - sources == set(COMPOSE["volumes"])
    assert [(INFRA / source).resolve() for source in sources] == [
        PROJECT / "deployments" / "event_ordering.py"
    ]
    assert database["secrets"] == list(COMPOSE["secrets"])


def test_the_kubernetes_values_name_secrets_instead_of_holding_them() -> None:
    server, worker = VALUES["server"], VALUES["worker"]["worker"]
    assert server["secret"] == {"create": False, "name": "prefect-database"}
    assert server["postgresql"]["enabled"] is False
    for login in (server["server"]["basicAuth"], worker["selfHostedServerApiConfig"]["basicAuth"]):
        assert login == {"enabled": True, "existingSecret": "prefect-auth"}
    for variable in server["server"]["env"]:
        assert isinstance(variable["value"], str), "Kubernetes takes text only"
        assert variable["name"] == "DO_NOT_TRACK" or is_setting(variable["name"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_the_guide_says_of_every_file_what_it_is_for(file: Path) -> None:
    guide = (PROJECT / "docs" / "how-to" / "run-it-for-real.md").read_text(encoding="utf-8")
    assert f"({'../../' + str(file.relative_to(PROJECT))})" in guide
