"""The systemd unit of an application, and what installing it would change."""

from difflib import unified_diff
from pathlib import Path

from tasks.records.application import Application, Unit
from tasks.records.process import ProcessStatus
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile
from tasks.records.unit import UnitFacts

RUNBOOK = "install-service-unit"
_DIGITS = 12
_PUT_BACK = "by this run when a later act fails, or by the next run after a kill"
# What an application on Node.js has no use for. Nothing here changes what it may read, write or reach:
# ProtectSystem, PrivateTmp and the like may, and MemoryDenyWriteExecute would end V8.
_HARDENING = (
    "NoNewPrivileges=true",
    "LockPersonality=true",
    "ProtectClock=true",
    "ProtectControlGroups=true",
    "ProtectKernelLogs=true",
    "ProtectKernelModules=true",
    "ProtectKernelTunables=true",
    "RestrictRealtime=true",
    "RestrictSUIDSGID=true",
)


class UnitPlan(RunbookPlan):
    """The plan, with the new file's text and what is needed to put everything back."""

    path: Path
    text: str
    digest_before: str
    was_enabled: bool
    was_running: bool


def write_unit_text(profile: ServiceProfile, unit: Unit) -> str:
    """Return the unit's file, as the runbook has it and hardened."""
    application = profile.application
    hardening = "\n".join(_HARDENING)
    return f"""\
# Written by install-service-unit from the profile {profile.name}: what is changed here by hand is lost.
[Unit]
Description={_escape(profile.title)}
After=network.target

[Service]
Type=simple
User={_escape(unit.user)}
WorkingDirectory={_escape(str(application.directory))}
Environment=NODE_ENV=production
ExecStart={_word(str(unit.node))} {_word(str(application.entry_file))}
Restart=on-failure
{hardening}

[Install]
WantedBy=multi-user.target
"""


def unit_file_name(application: Application) -> str:
    """Return the name of the unit's file."""
    return f"{application.process_name.removesuffix('.service')}.service"


def find_obstacle(profile: ServiceProfile) -> str | None:
    """Return why the profile allows no unit at all."""
    application = profile.application
    if application.process_manager != "systemd":
        return (
            f"{profile.name}: {application.process_name} runs under {application.process_manager}, not under "
            "systemd: two of them would start it twice. Take it from the other one first, and say systemd in "
            "application.process_manager."
        )
    if application.unit is None:
        return f"{profile.name}: the profile has no application.unit: say there at least whom it runs as."
    return None


def plan_unit(profile: ServiceProfile, text: str, facts: UnitFacts, status: ProcessStatus | None) -> UnitPlan:
    """Given the new file and what is there, return the plan, without acts if nothing is left to do.

    ``status`` is None where systemd does not know the unit.
    """
    runs = status is not None and not status.stopped
    same = facts.present == text
    done = same and facts.enabled and status is not None and status.running
    says = (
        status.detail if status is not None else f"systemd does not know {profile.application.process_name}"
    )
    now = "is as it should be" if same else "changes" if facts.digest else "is new"
    return UnitPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=f"{facts.path} {now}{', and there is nothing to do' if done else ''}. {says}.",
        acts=() if done else _list_acts(profile, facts, runs=runs),
        rests_on={"file": f"{facts.path}, {facts.digest[:_DIGITS] or 'not there'}", "state": _state(status)},
        refusal=next(iter(facts.problems), None),
        difference=_difference(facts, text),
        path=facts.path,
        text=text,
        digest_before=facts.digest,
        was_enabled=facts.enabled,
        was_running=runs,
    )


def _state(status: ProcessStatus | None) -> str:
    return "not loaded" if status is None else "runs" if not status.stopped else "does not run"


def _list_acts(profile: ServiceProfile, facts: UnitFacts, *, runs: bool) -> tuple[PlannedAct, ...]:
    name = profile.application.process_name
    checked = (
        "systemd-analyze has read it" if facts.verified else "systemd-analyze is not here to read it first"
    )
    back = f"Put back {facts.path}.before" if facts.digest else f"Delete {facts.path}"
    return (
        PlannedAct(
            what=f"Write {facts.path}, mode 644",
            why=f"As shown below; {checked}.",
            undo=f"{back}, {_PUT_BACK}",
        ),
        PlannedAct(
            what=f"Let systemd read it, and enable {name}",
            why="It is to start with the host.",
            undo="Nothing: it was enabled" if facts.enabled else f"Disable it, {_PUT_BACK}",
        ),
        PlannedAct(
            what=f"{'Restart' if runs else 'Start'} {name}, and wait until it is healthy",
            why="Only a unit that serves is installed.",
            undo=f"Start it with the file of before, {_PUT_BACK}" if runs else f"Stop it, {_PUT_BACK}",
        ),
    )


def _difference(facts: UnitFacts, text: str) -> str:
    before = (facts.present or "").splitlines()
    name = str(facts.path)
    return "\n".join(unified_diff(before, text.splitlines(), name, name, lineterm=""))


def _escape(text: str) -> str:
    """Take from a text what systemd would read as more than a text."""
    return " ".join(text.split()).replace("%", "%%")


def _word(text: str) -> str:
    escaped = _escape(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if " " in escaped or "'" in escaped or ";" in escaped else escaped
