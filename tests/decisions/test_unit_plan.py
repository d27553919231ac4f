"""The systemd unit of a profile, and what installing it changes."""

import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.unit_plan import find_obstacle, plan_unit, unit_file_name, write_unit_text
from tasks.change_rendering import render_runbook_plan
from tasks.profiles import read_profile
from tasks.records.application import Unit
from tasks.records.process import ProcessStatus
from tasks.records.service import ServiceProfile
from tasks.records.unit import UnitFacts

PM2 = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
UNIT = Unit(user="www-data")
RUNS = ProcessStatus(running=True, stopped=False, detail="systemd says of invoice-backend: active (running)")
PATH = Path("/etc/systemd/system/invoice-backend.service")


def changed(**application: Any) -> ServiceProfile:
    whole = {"process_manager": "systemd", "unit": UNIT, **application}
    return PM2.model_copy(update={"application": PM2.application.model_copy(update=whole)})


def facts(present: str | None = None, **more: Any) -> UnitFacts:
    known: dict[str, Any] = {"enabled": True, "problems": (), "verified": True, **more}
    return UnitFacts(path=PATH, present=present, digest="" if present is None else "d1", **known)


def test_the_unit_is_the_runbooks_and_hardened() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(write_unit_text(changed(), UNIT))
    assert parser["Unit"]["After"] == "network.target"
    service = dict(parser["Service"])
    assert {name: service[name] for name in ("Type", "User", "WorkingDirectory", "Environment")} == {
        "Type": "simple",
        "User": "www-data",
        "WorkingDirectory": "/srv/invoice/backend",
        "Environment": "NODE_ENV=production",
    }
    assert (service["ExecStart"], service["Restart"]) == ("/usr/bin/node server.js", "on-failure")
    assert service["NoNewPrivileges"] == "true"
    assert parser["Install"]["WantedBy"] == "multi-user.target"
    # It would end V8, and these would change what the application may write.
    assert not {"MemoryDenyWriteExecute", "ProtectSystem", "PrivateTmp"} & set(service)


@given(st.text(min_size=1, max_size=40))
def test_no_text_of_a_profile_adds_a_line_to_the_unit(title: str) -> None:
    plain = write_unit_text(changed(), UNIT)
    odd = changed(entry_file=Path("a b;%i.js")).model_copy(update={"title": title})
    written = write_unit_text(odd, UNIT)
    assert len(written.splitlines()) == len(plain.splitlines())
    assert 'ExecStart=/usr/bin/node "a b;%%i.js"' in written


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_itself_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "invoice-backend.service"
    profile = changed(directory=tmp_path)
    file.write_text(write_unit_text(profile, Unit(user="root", node=Path("/bin/sh"))))
    command = ["systemd-analyze", "verify", "--man=no", str(file)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_profile_of_another_manager_or_without_a_unit_is_refused() -> None:
    assert "runs under pm2, not under systemd" in (find_obstacle(PM2) or "")
    assert "has no application.unit" in (find_obstacle(changed(unit=None)) or "")
    assert find_obstacle(changed()) is None
    assert unit_file_name(changed(process_name="a.service").application) == "a.service"


def test_a_unit_that_is_as_it_should_be_has_nothing_done_to_it() -> None:
    text = write_unit_text(changed(), UNIT)
    done = plan_unit(changed(), text, facts(text), RUNS)
    assert done.acts == ()
    assert done.difference == ""
    assert len(plan_unit(changed(), text, facts(text, enabled=False), RUNS).acts) == 3
    assert len(plan_unit(changed(), text, facts(text), None).acts) == 3


def test_the_difference_to_what_is_there_is_shown_in_the_plan() -> None:
    text = write_unit_text(changed(), UNIT)
    plan = plan_unit(changed(), text, facts(text.replace("www-data", "root")), RUNS)
    assert "-User=root" in plan.difference
    assert "+User=www-data" in plan.difference
    assert f"```diff\n{plan.difference}\n```" in render_runbook_plan(plan)
    assert plan.acts[0].undo.startswith(f"Put back {PATH}.before")


def test_what_is_in_the_way_is_the_plans_refusal() -> None:
    plan = plan_unit(changed(), "text", facts(problems=("This host has no user x.",)), None)
    assert plan.refusal == "This host has no user x."
    assert plan.digest_before == ""
    assert not plan.was_running
