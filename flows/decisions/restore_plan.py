"""What a restore of a service's database means to do, and whether it may.

Nothing that is there is dropped before the new data stands in its place and is proven.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from flows.decisions.drill_plan import (
    is_scratch_database,
    name_scratch_database,
    refuse_long_names,
    refuse_scratch_name,
)
from tasks.records.backup import Manifest
from tasks.records.figures import say_bytes, say_count, say_duration
from tasks.records.replication import NOT_REPLICATED, Replication
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

MISSING = "missing"


class RestorePlan(RunbookPlan):
    """A restore: which set, and the names of the three databases that take part in it."""

    set_id: str
    real: str
    beside: str
    aside: str
    saves_first: bool
    leftovers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestoreFacts:
    """What a restore's plan is made of.

    ``findings`` are what is wrong with the set, read back in full. ``identity`` changes when the real
    database becomes another one, and is "missing" when there is none. ``half_done`` are the runbooks that are
    under way, or were killed: what they have not finished stands in a journal. ``replication`` is what
    follows the real database, and what that follows.
    """

    manifest: Manifest
    findings: tuple[str, ...]
    real: str
    identity: str
    databases: tuple[str, ...]
    half_done: tuple[str, ...] = ()
    replication: Replication = NOT_REPLICATED


def plan_restore(
    profile: ServiceProfile, facts: RestoreFacts, nothing_to_save: str, runbook: str = "restore-database"
) -> RestorePlan:
    """Given what was observed, return the plan; its ``refusal`` says why it must not be applied."""
    service, manifest = profile.name, facts.manifest
    beside = name_scratch_database(service, manifest.set_id, "restore")
    aside = name_scratch_database(service, manifest.set_id, "aside")
    saves_first = facts.identity != MISSING and nothing_to_save != service
    return RestorePlan(
        runbook=runbook,
        service=service,
        summary=(
            f"Put the database {facts.real} back to set {manifest.set_id} of "
            f"{manifest.started_at:%Y-%m-%d %H:%M %Z}. The application is stopped for the last part of it."
        ),
        acts=tuple(_list_acts(profile, facts, beside, aside, saves_first=saves_first)),
        rests_on={
            "set": manifest.set_id,
            "content of the set": _fingerprint(manifest),
            "database": f"{facts.real} ({facts.identity})",
            "leftovers": ", ".join(_leftovers(service, facts.databases)) or "none",
        },
        refusal=_refuse(profile, facts, beside, nothing_to_save),
        set_id=manifest.set_id,
        real=facts.real,
        beside=beside,
        aside=aside,
        saves_first=saves_first,
        leftovers=_leftovers(service, facts.databases),
    )


def say_restored(plan: RestorePlan, manifest: Manifest, saved: str, outage: timedelta) -> str:
    """Return the sentence to read aloud; ``saved`` is the set of what was there before, if any."""
    parts = "collection" if manifest.mongodb is not None else "table"
    entries = "document" if manifest.mongodb is not None else "row"
    before = f"What was there before is in the pinned set {saved}." if saved else "Nothing was there to save."
    return (
        f"{plan.service}: the database {plan.real} is set {plan.set_id} again "
        f"({say_count(manifest.parts, parts)}, {say_count(manifest.entries, entries)}), and the application "
        f"works; it was stopped for {say_duration(outage.total_seconds())}. {before}"
    )


def _list_acts(
    profile: ServiceProfile, facts: RestoreFacts, beside: str, aside: str, *, saves_first: bool
) -> list[PlannedAct]:
    manifest, process = facts.manifest, profile.application.process_name
    parts = "collection" if manifest.mongodb is not None else "table"
    entries = "document" if manifest.mongodb is not None else "row"
    size = (
        f"{say_count(manifest.parts, parts)}, {say_count(manifest.entries, entries)}, "
        f"{say_bytes(manifest.raw_bytes)}"
    )
    acts = [
        PlannedAct(
            what=f"Drop {name}", why="A restore that was killed left it", undo="None: it is a part of a set"
        )
        for name in _leftovers(profile.name, facts.databases)
    ]
    acts += [
        PlannedAct(
            what=f"Restore the set into the new database {beside} and compare it with the manifest",
            why="The new data is proven before anything that is there is touched",
            how_many=size,
            undo=f"{beside} is dropped",
        ),
        PlannedAct(
            what=f"Stop {process}", why="Nobody writes into what is put aside", undo=f"Start {process}"
        ),
    ]
    if saves_first:
        acts.append(
            PlannedAct(
                what=f"Back up {facts.real} as it is then, and pin the set",
                why="It is the last copy of what is there now",
                undo="The set stays: unpin it when nobody wants it",
            )
        )
    acts.append(
        PlannedAct(
            what=f"Put {facts.real} aside as {aside}, and {beside} in its place",
            why="Until the application is proven to work, the old data can be swapped back",
            how_many=size,
            undo=f"Swapped back: {aside} is {facts.real} again",
        )
    )
    if profile.application.migrate_command:
        acts.append(
            PlannedAct(
                what=f"Run {' '.join(profile.application.migrate_command)}",
                why="The set may be older than the application's schema",
                undo="Swapped back",
            )
        )
    proof = "its health and a login" if profile.application.login is not None else "its health"
    acts += [
        PlannedAct(
            what=f"Start {process} and wait for {proof}",
            why="Only that proves that the service is back",
            undo="Stopped, swapped back and started again",
        ),
        PlannedAct(
            what=f"Drop {aside}{_say_slots(facts)}",
            why="The new data is proven" + (", the old is in the pinned set" if saves_first else ""),
            undo="Restore the pinned set" if saves_first else "None: you said there is nothing to save",
        ),
    ]
    return acts


def _refuse(profile: ServiceProfile, facts: RestoreFacts, beside: str, nothing_to_save: str) -> str | None:
    manifest, service = facts.manifest, profile.name
    aside = [name for name in facts.databases if is_scratch_database(name, service, "aside")]
    scratch = refuse_scratch_name(beside, facts.real) or refuse_long_names(beside, manifest)
    reasons = {
        f"Set {manifest.set_id} is not of a {profile.database.kind} database.": (
            (manifest.mongodb is None) != (profile.database.kind == "postgresql")
        ),
        f"Set {manifest.set_id} is damaged, choose another one. {' '.join(facts.findings)}": facts.findings,
        f"Set {manifest.set_id} holds no document or row: it would empty {facts.real}.": not manifest.entries,
        f"nothing_to_save is '{nothing_to_save}': type {service} there, or leave it empty.": (
            nothing_to_save not in {"", service}
        ),
        _say_aside(aside[0], facts) if aside else "": aside,
        _say_subscriptions(facts): facts.replication.subscriptions,
        scratch.reason if scratch is not None else "": scratch,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _say_slots(facts: RestoreFacts) -> str:
    """A slot is of the database that it was made in: who reads from it cannot go on."""
    if not (slots := facts.replication.slots):
        return ""
    noun = "replication slots" if len(slots) > 1 else "replication slot"
    return (
        f", and with it the {noun} {', '.join(slots)}: who reads changes from there needs a new one in "
        f"{facts.real}, and all of its data anew"
    )


def _say_subscriptions(facts: RestoreFacts) -> str:
    """What a publisher sends goes on into the database that subscribed, whatever its name is by then."""
    names = ", ".join(facts.replication.subscriptions)
    return (
        f"{facts.real} subscribes to changes of another database ({names}): they would go on into the old "
        "data, and be lost with it. Drop the subscription, restore, and subscribe anew, with a copy of data."
    )


def _say_aside(name: str, facts: RestoreFacts) -> str:
    """Old data that no journal knows of is a person's to judge; what one may know of is not."""
    if facts.half_done:
        runbook = facts.half_done[0]
        return (
            f"The database {name} is there, and {runbook} is under way or was killed: it may be the only "
            f"copy of what {facts.real} was. Leave it alone, and start {runbook} again: it waits for one "
            "that is under way, and puts right what a killed one left."
        )
    return (
        f"The database {name} is there: an earlier restore put it aside, and its journal is gone. It may be "
        f"the only copy of what {facts.real} was: see what it holds, and rename or drop it by hand."
    )


def _leftovers(service: str, databases: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in databases if is_scratch_database(name, service, "restore")))


def _fingerprint(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()[:16]
