"""``python -m deployments.watch [engine] [backups]``: look at both, or one, from outside of Prefect.

For cron or a systemd timer, see docs/how-to/watch-the-engine.md. Exit code 1 means that something is wrong.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deployments.watch.backups import look_at_backups
from deployments.watch.complaints import Complaint
from deployments.watch.engine import SILENCE, Engine, end_silent, end_stuck
from deployments.watch.ladders import resume_ladders
from deployments.watch.memory import Memory, read_memory, write_memory
from deployments.watch.telling import call_heartbeat, tell_first_level
from tasks.errors import RunbookError, UnreachableError
from tasks.host_folder import host_folder
from tasks.profiles import list_services, read_profile, services_folder
from tasks.records.service import ServiceProfile

PARTS: Final = ("engine", "backups")
HEARTBEAT_VARIABLES: Final = {part: f"RUNBOOK_HEARTBEAT_{part.upper()}" for part in PARTS}


def main(words: Sequence[str] | None = None) -> int:
    """Look, tell, and call the heartbeats; what is wrong is written on standard error."""
    parser = argparse.ArgumentParser(prog="python -m deployments.watch", description=__doc__)
    parser.add_argument("part", nargs="*", help="engine or backups; both by default")
    parts = parser.parse_args(words).part or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part '{min(unknown)}': name {' or '.join(PARTS)}")
    now = datetime.now(UTC)
    wrong = [line for part in PARTS if part in parts for line in watch(part, now)]
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


def watch(part: str, now: datetime) -> list[str]:
    """Look at one part for every service, call its heartbeat if all is well; return all that is wrong."""
    profiles, wrong = _read_profiles()
    memories = {profile.name: read_memory(_memory_file(profile, part)) for profile in profiles}
    try:
        if part == "engine":
            found = look_at_engine(profiles, memories, now)
        else:
            found = {profile.name: list(look_at_backups(profile, now)) for profile in profiles}
    except RunbookError as error:
        return [*wrong, str(error)]
    for profile in profiles:
        complaints = found.get(profile.name, [])
        wrong += [f"{profile.name}: {complaint.sentence}" for complaint in complaints]
        wrong += tell_first_level(profile, complaints, memories[profile.name], now)
        if problem := write_memory(_memory_file(profile, part), memories[profile.name]):
            wrong.append(problem)
    url = os.environ.get(HEARTBEAT_VARIABLES[part])
    problem = call_heartbeat(url) if url and not wrong else None
    return [*wrong, problem] if problem else wrong


def look_at_engine(
    profiles: Sequence[ServiceProfile], memories: dict[str, Memory], now: datetime
) -> dict[str, list[Complaint]]:
    """Return what is wrong with Prefect for each service; raise ``ConfigurationError`` if none is known.

    Heartbeats get lost while a server is away: no run is judged by them until it has answered for a while.
    """
    found: defaultdict[str, list[Complaint]] = defaultdict(list)
    names = [profile.name for profile in profiles]
    ended: list[tuple[str, Complaint]] = []
    with Engine() as engine:
        try:
            ended.extend(_look(engine, names, memories, now, found))
            # What was just ended goes on with nothing any more.
            for profile in profiles:
                found[profile.name] += resume_ladders(profile, now)
        except UnreachableError as error:
            sentence = f"{error}: nothing is scheduled and no alert becomes a run. Start the server again."
            for profile in profiles:
                memories[profile.name].note_answer(now, answers=False)
                found[profile.name].append(Complaint("the server", sentence))
    for service, complaint in ended:
        # Whose it is may be unknown: then everybody is told.
        for name in [service] if service in names else names:
            found[name].append(complaint)
    return found


def _look(
    engine: Engine,
    names: Sequence[str],
    memories: dict[str, Memory],
    now: datetime,
    found: defaultdict[str, list[Complaint]],
) -> Iterator[tuple[str, Complaint]]:
    for name, complaint in engine.find_unpolled(names, now).items():
        found[name].append(complaint)
    runs = engine.list_runs()
    answered = [memories[name].note_answer(now, answers=True) for name in names]
    yield from end_stuck(engine, runs, now)
    if answered and min(answered) > SILENCE:
        yield from end_silent(engine, runs, now)


def _read_profiles() -> tuple[list[ServiceProfile], list[str]]:
    folder = services_folder()
    profiles, wrong = [], []
    try:
        names = list_services(folder)
    except RunbookError as error:
        return [], [f"{error} Nothing is watched."]
    for name in names:
        try:
            profile = read_profile(folder / f"{name}.yaml")
            host_folder(profile)
        except RunbookError as error:
            wrong.append(str(error))
        else:
            profiles.append(profile)
    if not profiles and not wrong:
        wrong.append(f"There is no profile in {folder}: nothing is watched.")
    return profiles, wrong


def _memory_file(profile: ServiceProfile, part: str) -> Path:
    return host_folder(profile) / f"watch-{part}.json"


if __name__ == "__main__":
    sys.exit(main())
