"""Which set is restored, and what the databases beside the real one are called.

The name is the fence: drills and restores create and drop databases of these forms and nothing else, ever.
"""

import hashlib
import re
from typing import Literal

from flows.decisions.refusal import Refusal
from tasks.records.backup import Manifest, RepositoryState, SetSummary
from tasks.records.figures import say_count, shorten

_MOST_LISTED = 10
_SHOWN = 60
# PostgreSQL cuts a longer name silently, MongoDB refuses it.
_LONGEST_NAME = 63
# Of a MongoDB collection with its database's name and a dot, in bytes.
# https://www.mongodb.com/docs/manual/reference/limits/#mongodb-limit-Length-of-Namespace
_LONGEST_NAMESPACE = 255
_BUCKETS = "system.buckets."
_SUFFIX = r"_\d{8}t\d{6}_[0-9a-f]{8}"
_SUFFIX_LENGTH = 25
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[Tt_-]?(\d\d)[:-]?(\d\d)[:-]?(\d\d)")
_ANY_SCRATCH = re.compile(rf"(?:drill|restore|aside)_[a-z][a-z0-9_]*{_SUFFIX}")

# A drill's scratch database; a restore's new one; the old one while the new one is not proven.
Purpose = Literal["drill", "restore", "aside"]


def choose_set(state: RepositoryState, wanted: str) -> str | Refusal:
    """Given "latest", "latest-verified" or a set id, return the set's id, or why there is none.

    Safety sets are taken by their id only. A set that cannot be read is neither taken nor passed over.
    """
    newest_first = sorted(state.sets, key=lambda found: (found.created_at, found.set_id), reverse=True)
    # What a restore saved before it replaced it is what somebody wanted to be rid of.
    backups = [found for found in newest_first if found.kind != "safety"]
    newest = _began(backups[0].set_id) if backups else ""
    for damaged in state.unreadable:
        if wanted == damaged.set_id or (wanted == "latest" and _began(damaged.set_id) >= newest):
            return Refusal(f"{damaged.reason} Name another set. {_list_sets(newest_first)}")
    if wanted == "latest":
        candidates = backups
        missing = f"{state.service} has no backup set"
    elif wanted == "latest-verified":
        candidates = [found for found in backups if found.reread_passed and found.drill_passed is not False]
        missing = f"{state.service} has no set that passed its reread and failed no drill"
    else:
        candidates = [found for found in newest_first if found.set_id == wanted]
        missing = f"{state.service} has no set '{wanted}'"
        if any(unfinished.set_id == wanted for unfinished in state.unfinished):
            missing = f"'{wanted}' of {state.service} is unfinished or being deleted, so it is no backup"
    if candidates:
        return candidates[0].set_id
    return Refusal(f"{missing}. {_list_sets(newest_first)}")


def refuse_other_kind(manifest: Manifest, kind: str) -> Refusal | None:
    """Given a set and the kind of its service's database now, refuse a set that holds none of that kind."""
    if (manifest.mongodb if kind == "mongodb" else manifest.postgresql) is not None:
        return None
    return Refusal(
        f"Set {manifest.set_id} holds no {kind} database, which {manifest.service} has now: nothing was "
        f"restored. Run nightly-backup/{manifest.service} and drill its set, or name another one."
    )


def name_scratch_database(service: str, set_id: str, purpose: Purpose = "drill") -> str:
    """Return "<purpose>_<service>_<the set's time>_<hash of its id>", valid for both servers.

    Service names have no underscore, so writing one for every dash keeps two services apart.
    """
    found = _TIME.search(set_id)
    digits = "".join(found.groups()) if found else "0" * 14
    return f"{_scratch_prefix(service, purpose)}_{digits[:8]}t{digits[8:]}_{_short_hash(set_id)}"


def is_scratch_database(name: str, service: str, purpose: Purpose = "drill") -> bool:
    """Did a drill or restore of this very service make this database? Only such a one may be dropped."""
    return re.fullmatch(re.escape(_scratch_prefix(service, purpose)) + _SUFFIX, name, re.ASCII) is not None


def refuse_scratch_name(scratch: str, real: str) -> Refusal | None:
    """Given the scratch database's name and the real one's, refuse if the real one could be touched."""
    # MongoDB takes names that differ only in case for the same.
    if scratch.casefold() == real.casefold():
        return Refusal(f"The scratch database '{scratch}' is the real database: nothing was restored.")
    if _ANY_SCRATCH.fullmatch(scratch) is None or len(scratch) > _LONGEST_NAME:
        return Refusal(f"'{scratch}' is no name of a scratch database: nothing was restored.")
    if _ANY_SCRATCH.fullmatch(real.casefold()) is not None:
        return Refusal(
            f"The real database '{real}' is called like a scratch database, and runbooks drop those: "
            "rename it first."
        )
    return None


def refuse_long_names(scratch: str, manifest: Manifest) -> Refusal | None:
    """Given where a set is to be restored, refuse if a collection's name has no room there."""
    for found in manifest.mongodb.collections if manifest.mongodb is not None else ():
        stored = f"{_BUCKETS if found.kind == 'timeseries' else ''}{found.collection}"
        length = len(f"{scratch}.{stored}".encode())
        if length > _LONGEST_NAMESPACE:
            return Refusal(
                f"The collection {shorten(found.collection, _SHOWN)} has too long a name for {scratch}, "
                f"where the set is restored first: together they have {length} bytes, and MongoDB takes "
                f"{_LONGEST_NAMESPACE}. That says nothing against set {manifest.set_id}: restore it by hand, "
                "into a database with a shorter name."
            )
    return None


def _began(set_id: str) -> str:
    """Return the part of an id that sorts by time; of a set that cannot be read, nothing else tells it."""
    return set_id.partition("-")[0]


def _scratch_prefix(service: str, purpose: Purpose) -> str:
    name = service.replace("-", "_")
    room = _LONGEST_NAME - len(f"{purpose}_") - _SUFFIX_LENGTH
    if len(name) > room:
        name = f"{name[: room - 9]}_{_short_hash(service)}"
    return f"{purpose}_{name}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _list_sets(newest_first: list[SetSummary]) -> str:
    if not newest_first:
        return "There are no sets: run the backup first."
    listed = ", ".join(f"{found.set_id} ({_describe_state(found)})" for found in newest_first[:_MOST_LISTED])
    more = len(newest_first) - _MOST_LISTED
    return f"There is: {listed}" + (f", and {say_count(more, 'older one')}." if more > 0 else ".")


def _describe_state(found: SetSummary) -> str:
    if found.drill_passed is not None:
        return "passed a drill" if found.drill_passed else "failed its drill"
    if found.reread_passed is None:
        return "not verified"
    return "verified" if found.reread_passed else "failed its reread"
