"""The steps of a rotation as Prefect's tasks: they are given names, and read the secrets inside."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import rotation_files
from tasks.environment_file import read_variables
from tasks.environment_writing import write_variables
from tasks.errors import ConfigurationError, RefusedError, UnreachableError
from tasks.fingerprints import prove_fingerprints, refuse_old_environment
from tasks.known_good import remember_healthy
from tasks.opening_rotators import open_rotator
from tasks.records.credential_care import CredentialName
from tasks.records.rotation import CredentialFacts, FoundAfterKill, Kept, OpenRotation, Stage
from tasks.records.service import ServiceProfile
from tasks.retrying import retried
from tasks.rotation_files import keep, read_kept, wipe

_ONCE = task(cache_policy=NO_CACHE, persist_result=False)
_KEPT: Final[tuple[rotation_files.Which, ...]] = ("pending", "previous")
# What became of the new one where a person had put the old one back; of a webhook's both go on being used.
_WITHDRAWN: Final[Mapping[CredentialName, str]] = {
    "s3": "The key that the rotation before had made is deleted",
    "sendgrid-key": "The key that the rotation before had made is deleted",
    "database-password": "What the rotation before had set has ended",
    "jwt-secret": "The secret of the rotation before is in use nowhere",
    "stripe-key": "Expire the key of the rotation before in Stripe's Dashboard, nothing uses it",
}


@retried
def observe_credential(profile: ServiceProfile, credential: CredentialName) -> CredentialFacts:
    """Given a credential, return how it is before a rotation; raise what its provider raises."""
    return open_rotator(profile, credential).observe()


@_ONCE
def name_rotation(now: datetime) -> str:
    """Given the time, return an id that no other rotation has; ids sort by time."""
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


@_ONCE
def make_new(
    profile: ServiceProfile,
    credential: CredentialName,
    rotation: str,
    variables: tuple[str, ...],
    before: Mapping[str, str],
) -> None:
    """Given a planned rotation, keep the old values, make the new ones and keep them.

    Raise ``StoreFullError`` if there is no room, and what the provider raises.
    """
    present = read_variables(profile)
    old = Kept(rotation, {name: present.get(name) for name in variables})
    keep(profile, credential, "previous", old)
    keep(profile, credential, "pending", open_rotator(profile, credential).make(rotation, before))


@_ONCE
def put_in_force(profile: ServiceProfile, credential: CredentialName) -> None:
    """Given a credential whose new values are kept, let its provider accept them."""
    rotator = open_rotator(profile, credential)
    rotator.put_in_force(_kept(profile, credential, "pending"), _kept(profile, credential, "previous"))


@_ONCE
def exercise_new(profile: ServiceProfile, credential: CredentialName) -> None:
    """Given a credential, do with its new values what the application does; raise if that does not work."""
    rotator = open_rotator(profile, credential)
    rotator.exercise(_kept(profile, credential, "pending"), _kept(profile, credential, "previous"))


@_ONCE
def promote(profile: ServiceProfile, credential: CredentialName) -> None:
    """Given a credential, write its new values into the env file.

    Raise ``RefusedError`` if somebody else changed them there meanwhile.
    """
    pending, previous = _kept(profile, credential, "pending"), _kept(profile, credential, "previous")
    write_variables(profile, pending.variables, previous.variables, after=_first_set(previous))


@_ONCE
def prove_in_use(profile: ServiceProfile, credential: CredentialName) -> str:
    """Given a credential that was promoted, return in words how the application was seen to use it.

    Raise ``UnreachableError`` if a process of it uses another, or was started with the old one.
    """
    pending, previous = _kept(profile, credential, "pending"), _kept(profile, credential, "previous")
    proof = prove_fingerprints(profile, [name for name, value in pending.variables.items() if value])
    behaved = open_rotator(profile, credential).prove_application(pending, previous)
    seen = " ".join(filter(None, [proof.sentence if proof else None, behaved]))
    if not seen:
        # It reads its secrets at its start, but perhaps not from the env file.
        refuse_old_environment(profile, pending.variables, previous.variables)
    return seen or "Every process of it was started after the change."


@_ONCE
def find_after_kill(
    profile: ServiceProfile, credential: CredentialName, rotation: str, names: tuple[str, ...]
) -> FoundAfterKill:
    """Given a rotation that did not end, return what is there of it; raise if its provider does not say."""
    rotator, present = open_rotator(profile, credential), read_variables(profile)
    pending, previous = (_kept_of(profile, credential, which, rotation) for which in ("pending", "previous"))

    def judge(kept: Kept | None) -> str:
        if kept is None:
            return "not kept"
        return "accepted" if rotator.accepts(kept) else "refused"

    now = {name: present.get(name) for name in names}
    environment = "other"
    if previous is None or now == previous.variables:
        environment = "previous"
    elif pending is not None and now == {name: pending.variables.get(name) for name in names}:
        environment = "pending"
    return FoundAfterKill.model_validate(
        {
            "pending": judge(pending),
            "previous": judge(previous),
            "environment": environment,
            "present": judge(Kept(rotation, now)),
        }
    )


@_ONCE
def put_back(profile: ServiceProfile, credential: CredentialName) -> bool:
    """Given a credential whose new values failed, put the old ones in force and back into the env file.

    Return whether the env file was changed. Raise ``RefusedError`` if the provider does not take the old ones
    any longer, or somebody else changed the env file: then nothing of it is changed.
    """
    rotator = open_rotator(profile, credential)
    pending, previous = _kept(profile, credential, "pending"), _kept(profile, credential, "previous")
    rotator.put_back(pending, previous)
    if not rotator.accepts(previous):
        raise RefusedError(
            f"{profile.name}: the old {credential} is not accepted any longer, so the new one stays: see why "
            "the application does not work with it, and start the rotation again."
        )
    present = read_variables(profile)
    # Also where they are there: a killed writer's file beside it has the new ones, and goes.
    write_variables(profile, previous.variables, pending.variables)
    return any(present.get(name) != value for name, value in previous.variables.items())


@_ONCE
def discard_new(
    profile: ServiceProfile,
    credential: CredentialName,
    rotation: str,
    before: Mapping[str, str],
    making: datetime | None,
) -> None:
    """Given a rotation that is given up, remove from the provider what it made, and wipe what is kept.

    ``making`` is when its journal says that making it was begun.
    """
    pending = _kept_of(profile, credential, "pending", rotation)
    open_rotator(profile, credential).discard(rotation, before, pending, making)
    for which in _KEPT:
        kept = read_kept(profile, credential, which)
        # What is kept of an earlier one, whose old values were about to be retired, is still needed.
        if kept is None or kept.rotation == rotation:
            wipe(profile, credential, which)


@_ONCE
def wipe_kept(profile: ServiceProfile, credential: CredentialName) -> None:
    """Given a credential whose rotation is over, wipe whatever is kept of it."""
    for which in _KEPT:
        wipe(profile, credential, which)


@_ONCE
def begin_grace(profile: ServiceProfile, rotation: OpenRotation) -> OpenRotation | None:
    """Given a rotation whose new values are proven, keep what is left of it, and wipe their copy.

    Return it with what the provider calls the new one. One that is in grace is returned as it is, and None
    for one that is over.
    """
    pending = read_kept(profile, rotation.credential, "pending")
    if pending is None:
        return rotation_files.read_open(profile, rotation.credential)
    begun = rotation.model_copy(update={"facts": pending.facts})
    rotation_files.save_open(profile, begun)
    wipe(profile, rotation.credential, "pending")
    remember_healthy.fn(profile, rotation.verified_at, accepted=True)
    return begun


@_ONCE
def withdraw_new(profile: ServiceProfile, rotation: OpenRotation) -> str:
    """Given a rotation in grace, end it if a person put its old value back into the env file.

    The new one is taken back at the provider then, since nobody has it any more; what is in force is the old
    one, for the next rotation to replace. Return that as a sentence, "" if it was not so.
    """
    said = _WITHDRAWN.get(rotation.credential)
    if said is None or not _is_old_in_force(profile, rotation):
        return ""
    new = Kept(rotation.rotation, {}, rotation.facts)
    open_rotator(profile, rotation.credential).discard(rotation.rotation, {}, new)
    end_rotation.fn(profile, rotation, None)
    return f"{said}: the old one was in force again."


@retried
def find_use(profile: ServiceProfile, rotation: OpenRotation) -> str | None:
    """Given a rotation in grace, return who still uses the old credential, or None."""
    previous = _kept(profile, rotation.credential, "previous")
    return open_rotator(profile, rotation.credential).find_use(rotation.stages[0].name, previous)


@_ONCE
def retire(profile: ServiceProfile, rotation: OpenRotation, *, another_follows: bool = False) -> bool:
    """Given a rotation in grace, do its first stage; return whether the env file was changed for it.

    Raise ``UnreachableError`` if what is in force is not accepted, unless ``another_follows``: then the old
    one is nobody's way out, and a leaked one that was ended at its provider is to be replaced.
    """
    stage, credential = rotation.stages[0], rotation.credential
    if _is_old_in_force(profile, rotation):
        way_out = "Stripe's Dashboard shows it, at Developers, Webhooks"
        if credential in _WITHDRAWN:
            way_out = "or, if nobody has that, start this with emergency=True, which replaces it"
        raise RefusedError(
            f"{profile.name}: {credential} in {profile.env_path} is the old one again, so it is not retired: "
            f"put the new one there, {way_out}."
        )
    previous = _kept(profile, credential, "previous")
    pending = rotation_files.recall_in_force(profile, rotation, previous.variables)
    if not another_follows and not open_rotator(profile, credential).accepts(pending):
        raise UnreachableError(
            f"{profile.name}: {credential} in the env file is not accepted, so the old one is not retired: "
            "see who changed it, and put there what works, or start this with emergency=True, which replaces "
            "it."
        )
    open_rotator(profile, credential).retire(stage.name, pending, previous)
    return _unset(profile, stage)


@retried
def prove_refused(profile: ServiceProfile, rotation: OpenRotation, stage: Stage) -> str:
    """Given a stage that was done, return in words how the old credential was refused; raise if not."""
    previous = _kept(profile, rotation.credential, "previous")
    return open_rotator(profile, rotation.credential).prove_refused(stage.name, previous)


@_ONCE
def end_rotation(profile: ServiceProfile, rotation: OpenRotation, left: OpenRotation | None) -> None:
    """Given a rotation whose stage was done, keep what is left of it, or wipe the old values and end it."""
    if left is not None:
        rotation_files.save_open(profile, left)
        return
    # In this order: without the old values nothing of an open rotation could be proven.
    rotation_files.forget_open(profile, rotation.credential)
    wipe(profile, rotation.credential, "previous")


def _is_old_in_force(profile: ServiceProfile, rotation: OpenRotation) -> bool:
    """Did a person put the old values of a rotation in grace back? What a stage takes out does not count."""
    present, previous = read_variables(profile), _kept(profile, rotation.credential, "previous")
    beside = {name for stage in rotation.stages for name in stage.unset}
    return all(present.get(name) == value for name, value in previous.variables.items() if name not in beside)


def _unset(profile: ServiceProfile, stage: Stage) -> bool:
    present = read_variables(profile)
    gone: dict[str, str | None] = {name: None for name in stage.unset if name in present}
    if gone:
        write_variables(profile, gone, {name: present[name] for name in gone})
    return bool(gone)


def _kept(profile: ServiceProfile, credential: CredentialName, which: rotation_files.Which) -> Kept:
    kept = read_kept(profile, credential, which)
    if kept is None:
        raise ConfigurationError(
            f"{profile.name}: the {which} values of {credential} are not kept on this host any more: finish "
            "the rotation by hand, by the plan that its run shows."
        )
    return kept


def _kept_of(
    profile: ServiceProfile, credential: CredentialName, which: rotation_files.Which, rotation: str
) -> Kept | None:
    """Return what is kept of this rotation; what an older one left is no part of it."""
    kept = read_kept(profile, credential, which)
    return kept if kept is not None and kept.rotation == rotation else None


def _first_set(previous: Kept) -> str | None:
    return next((name for name, value in previous.variables.items() if value is not None), None)
