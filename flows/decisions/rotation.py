"""How a credential is rotated, and how one that was killed or failed goes on.

The table of states is in docs/reference/rotation.md.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from tasks.records.credential_care import CredentialName
from tasks.records.figures import say_period
from tasks.records.rotation import RUNBOOKS, CredentialFacts, FoundAfterKill, OpenRotation, Stage
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

NO_GRACE: Final = timedelta(0)

AfterKill = Literal["discard", "go back", "go on", "leave", "ask a person"]


class RotationPlan(RunbookPlan):
    """What a rotation will do; ``rotation`` is its id, which the provider may be told."""

    credential: CredentialName
    rotation: str
    emergency: bool = False
    is_dead: bool = False
    """Its provider refused the old one before anything was done: nothing may let it in again."""
    stages: tuple[Stage, ...]
    variables: tuple[str, ...]
    before: dict[str, str]
    """The provider's ids before: what is new there later, and not in force, is ours to remove."""


class RetirementPlan(RunbookPlan):
    """What is left of a rotation: the stages of its old credential that are due."""

    credential: CredentialName
    rotation: str


def plan_rotation(
    profile: ServiceProfile, facts: CredentialFacts, rotation: str, *, emergency: bool
) -> RotationPlan:
    """Given a credential as it is, return the acts that replace it; an emergency knows no grace."""
    stages = _without_grace(facts.stages) if emergency else facts.stages
    variables = tuple(facts.variables)
    return RotationPlan(
        runbook=RUNBOOKS[facts.credential],
        service=profile.name,
        summary=_summarize(profile, facts, stages, emergency=emergency),
        acts=(*_replace(profile, facts), *(_retire(facts, stage) for stage in stages)),
        rests_on={
            **{name: found or "not set" for name, found in facts.variables.items()},
            **{f"at the provider: {key}": word for key, word in facts.provider.items()},
        },
        refusal=facts.refusal,
        credential=facts.credential,
        rotation=rotation,
        emergency=emergency,
        is_dead=facts.is_dead,
        stages=stages,
        variables=variables,
        before=facts.provider,
    )


def plan_retirement(profile: ServiceProfile, rotation: OpenRotation, now: datetime) -> RetirementPlan:
    """Given a rotation in grace, return the acts that are due by now; none, if it has to wait."""
    due = list_due(rotation, now)
    return RetirementPlan(
        runbook=RUNBOOKS[rotation.credential],
        service=profile.name,
        summary=f"{profile.name}: the new {_name(rotation.credential)} is in force; the old one is retired.",
        acts=tuple(
            PlannedAct(
                what=_capitalize(stage.name),
                why="Its grace is over",
                undo="None: it is not needed any more.",
            )
            for stage in due
        ),
        rests_on={"rotation": rotation.rotation},
        credential=rotation.credential,
        rotation=rotation.rotation,
    )


def list_due(rotation: OpenRotation, now: datetime) -> tuple[Stage, ...]:
    """Given a rotation in grace, return the stages that may be done by now, in their order."""
    due, found = rotation.due, []
    for number, stage in enumerate(rotation.stages):
        if number:
            due += stage.after
        if due > now:
            break
        found.append(stage)
    return tuple(found)


def follow_stage(rotation: OpenRotation, now: datetime) -> OpenRotation | None:
    """Given a rotation whose first stage was done now, return what is left of it, or None."""
    left = rotation.stages[1:]
    return rotation.model_copy(update={"stages": left, "due": now + left[0].after}) if left else None


def decide_after_kill(
    found: FoundAfterKill, *, was_going_back: bool = False, is_dead: bool = False
) -> AfterKill:
    """Given what is there of a rotation that did not end, say what is done with it.

    A new credential that was kept and works is put in force: whoever could use the old one no longer may find
    no other. One that does not work is no use: the old one is put in force again, by its admin if need be.
    What a person put into the env file meanwhile stays if it works. Who was going back goes on with that,
    unless the old one does not work any longer: then the new one is the only one that can be put in force.
    One that was dead before (``is_dead``) is put in force by nobody: the next rotation replaces it.
    """
    if found.previous == "not kept" or found.pending == "not kept":
        # Values are kept before anything at the provider or in the env file depends on them.
        return "discard"
    if found.environment == "other":
        unusable: AfterKill = "discard" if is_dead else "ask a person"
        return "leave" if found.present == "accepted" else unusable
    if was_going_back and found.previous == "accepted":
        return "go back"
    if found.pending == "accepted":
        return "go on"
    return "discard" if is_dead else "go back"


def _replace(profile: ServiceProfile, facts: CredentialFacts) -> Sequence[PlannedAct]:
    variables = " and ".join(facts.variables)
    process, old_again = profile.application.process_name, "the old values are put back, and it is restarted"
    if facts.is_dead:
        old_again = "the new one stays: the old one is refused already"
    acts = [
        PlannedAct(
            what=facts.making,
            why="It is kept in a private file of this host before anything depends on it",
            undo=f"discarded; {facts.undoing}",
        )
    ]
    if facts.setting is not None:
        acts.append(PlannedAct(what=facts.setting, why="The provider accepts it then", undo=facts.undoing))
    return [
        *acts,
        PlannedAct(
            what=facts.testing, why="Nothing is promoted that was not seen to work", undo="nothing to undo"
        ),
        PlannedAct(
            what=f"Write {variables} into {profile.env_path}",
            why="It is the home of the application's secrets",
            undo=f"until it is proven, {old_again}",
        ),
        PlannedAct(
            what=f"Restart {process} gracefully",
            why="It reads its secrets at its start",
            undo=f"if it does not come back, {old_again}",
        ),
        PlannedAct(what=facts.proving, why="Success is proven", undo=f"if it fails, {old_again}"),
    ]


def _retire(facts: CredentialFacts, stage: Stage) -> PlannedAct:
    when = f"{say_period(stage.after)} later" if stage.after else "At once then"
    return PlannedAct(
        what=f"{when}: {stage.name}, and prove that the old one is refused",
        why=f"The old {_name(facts.credential)} is not to work any longer",
        undo="none: by then the new one is proven",
    )


def _summarize(
    profile: ServiceProfile, facts: CredentialFacts, stages: Sequence[Stage], *, emergency: bool
) -> str:
    ends = sum((stage.after for stage in stages), NO_GRACE)
    old = f"the old one is retired {say_period(ends)} later" if ends else "the old one is retired at once"
    said = f"{profile.name}: {facts.identity} gets a new {_name(facts.credential)}; {old}."
    hurry = " This is an emergency: there is no grace." if emergency else ""
    return " ".join([said + hurry, *facts.warnings])


def _name(credential: CredentialName) -> str:
    return "S3 key" if credential == "s3" else credential


def _without_grace(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    return tuple(stage.model_copy(update={"after": NO_GRACE}) for stage in stages)


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
