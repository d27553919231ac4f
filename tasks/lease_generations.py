"""How a lease lies in a store: a row of generations, ``<service>/leases/<name>/<generation>.json``.

Whoever writes the next generation, which only one can, holds the lease; only that one writes it again.
"""

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from tasks.errors import (
    AlreadyExistsError,
    LeaseHeldError,
    NotFoundError,
    RunbookError,
    UnreadableLeaseError,
)
from tasks.object_store import ObjectStore, StoredKey
from tasks.process_identity import ProcessIdentity, is_dead_for_certain
from tasks.records.lease import Lease

# How far apart the clocks of two hosts may be before one takes the other's lease away too early.
SKEW: Final = timedelta(seconds=10)
# Old generations that stay: a listing that is read while the lease changes hands must not miss them all.
KEPT_GENERATIONS: Final = 2
READERS: Final = 8


def acquire(store: ObjectStore, service: str, claim: Lease) -> Lease:
    """Given a claim made just now, return it as the lease's next generation, written and ours.

    Raise ``LeaseHeldError`` if somebody else holds the lease, or was first, and ``UnreadableLeaseError`` if
    that cannot be told.
    """
    found = generations(store, service, claim.name)
    try:
        newest = _read(store, found[-1]) if found else None
    except NotFoundError as error:
        # It was listed, and only the holder of a later one deletes it.
        raise LeaseHeldError(_taken(claim.name, service)) from error
    if newest is not None and not is_over(newest, claim.acquired_at):
        raise LeaseHeldError(held_by(newest, service))
    lease = claim.model_copy(update={"generation": _number(found[-1]) + 1 if found else 1})
    # It may be ours that is there, where an answer was lost and the store was asked again.
    with contextlib.suppress(AlreadyExistsError):
        write_first(store, service, lease)
    # A writer that slept since it listed may have filled a gap below those who came after it.
    if not is_ours(store, service, lease):
        raise LeaseHeldError(_taken(claim.name, service))
    for old in found:
        if _number(old) < lease.generation - KEPT_GENERATIONS:
            # The lease is ours already; the next holder deletes what is left.
            with contextlib.suppress(RunbookError):
                store.delete(old.key)
    return lease


def write_first(store: ObjectStore, service: str, lease: Lease) -> None:
    """Write a generation that nobody has written; raise ``AlreadyExistsError`` if somebody has."""
    store.write_if_absent(_key(service, lease), lease.model_dump_json().encode())


def write_again(store: ObjectStore, service: str, lease: Lease) -> None:
    """Write our own generation anew; nobody else ever writes it."""
    store.write(_key(service, lease), lease.model_dump_json().encode())


def is_ours(store: ObjectStore, service: str, lease: Lease) -> bool:
    """Tell whether the lease's newest generation is this one and was written by us."""
    found = generations(store, service, lease.name)
    if not found or _number(found[-1]) != lease.generation:
        return False
    # An operator may have deleted ours, and the next holder has its number.
    newest = _read_or_none(store, found[-1])
    return newest is not None and newest.model_copy(update={"renewed_at": lease.renewed_at}) == lease


def is_over(lease: Lease, moment: datetime) -> bool:
    """Tell whether the lease may be taken: given back, run out, or its process certainly dead."""
    holder = ProcessIdentity(lease.host, lease.boot, lease.pid, lease.process_started)
    ends = lease.renewed_at + lease.time_to_live + SKEW
    return lease.released or ends < moment or is_dead_for_certain(holder)


def generations(store: ObjectStore, service: str, name: str) -> list[StoredKey]:
    """Return the lease's generations, oldest first."""
    return list(store.list_keys(f"{service}/leases/{name}/"))


def living_among(
    store: ObjectStore, service: str, keys: Iterable[StoredKey], moment: datetime
) -> dict[str, Lease]:
    """Given the keys under the service's leases, return those that are held now, by name."""
    newest: dict[str, StoredKey] = {}
    for key in sorted(keys, key=lambda stored: stored.key):
        newest[key.key.removeprefix(f"{service}/leases/").rpartition("/")[0]] = key
    with ThreadPoolExecutor(READERS) as pool:
        leases = list(pool.map(lambda key: _read_or_none(store, key), newest.values()))
    return {lease.name: lease for lease in leases if lease is not None and not is_over(lease, moment)}


def forget(store: ObjectStore, service: str, name: str, moment: datetime) -> None:
    """Delete what is left of a lease whose object is gone, unless somebody holds it."""
    found = generations(store, service, name)
    newest = _read_or_none(store, found[-1]) if found else None
    if newest is not None and is_over(newest, moment):
        for old in found:
            store.delete(old.key)


def held_by(lease: Lease, service: str) -> str:
    """Return the sentence for whoever waits: who holds it, for what, since when and until when."""
    ends = lease.renewed_at + lease.time_to_live
    return (
        f"The lease {lease.name} of {service} is held by {lease.holder} for: {lease.purpose} "
        f"(host {lease.host}, process {lease.pid}), since {lease.acquired_at:%Y-%m-%d %H:%M:%S %Z}, "
        f"until {ends:%H:%M:%S %Z} unless it is renewed."
    )


def _taken(name: str, service: str) -> str:
    return f"The lease {name} of {service} was taken by somebody else this very moment."


def _key(service: str, lease: Lease) -> str:
    return f"{service}/leases/{lease.name}/{lease.generation:010d}.json"


def _number(stored: StoredKey) -> int:
    try:
        return int(stored.key.rpartition("/")[2].removesuffix(".json"))
    except ValueError as error:
        raise UnreadableLeaseError(f"{stored.key} lies among the leases and is none: remove it.") from error


def _read(store: ObjectStore, stored: StoredKey) -> Lease:
    """Return the lease at the key; one that cannot be read is somebody's all the same."""
    try:
        return Lease.model_validate_json(store.read(stored.key))
    except ValidationError as error:
        raise UnreadableLeaseError(
            f"{store.address}: the lease {stored.key} cannot be read ({error.error_count()} faults): "
            "a newer version may hold it. When you are sure that nobody is at work, delete it."
        ) from error


def _read_or_none(store: ObjectStore, stored: StoredKey) -> Lease | None:
    """Return the lease at the key, or None when it changed hands since the listing."""
    with contextlib.suppress(NotFoundError):
        return _read(store, stored)
    return None
