"""Where everything of a service's backup repository lies. No store is asked here.

::

    <service>/sets/<set_id>/...                      the objects of a set, and last of all manifest.json
    <service>/verifications/<set_id>/<moment>-<kind>.json
    <service>/pins/<set_id>.json
    <service>/tombstones/<set_id>.json               its deletion has begun: no backup any more
    <service>/leases/<name>/<generation>.json
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tasks.errors import ConfigurationError
from tasks.records.backup import Verification

MANIFEST: Final = "manifest.json"
_SET_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Layout:
    """The keys of one service. A set id that could lead elsewhere is a ``ConfigurationError``."""

    service: str

    @property
    def root(self) -> str:
        """The prefix of all that is the service's."""
        return f"{self.service}/"

    @property
    def sets(self) -> str:
        """The prefix of all sets."""
        return f"{self.service}/sets/"

    @property
    def tombstones(self) -> str:
        """The prefix of all tombstones."""
        return f"{self.service}/tombstones/"

    def set_folder(self, set_id: str) -> str:
        """The prefix of a set's objects."""
        return f"{self.sets}{_checked(set_id)}/"

    def manifest(self, set_id: str) -> str:
        """The key of a set's manifest."""
        return self.set_folder(set_id) + MANIFEST

    def verifications(self, set_id: str) -> str:
        """The prefix of what was found when a set was verified."""
        return f"{self.service}/verifications/{_checked(set_id)}/"

    def verification(self, found: Verification) -> str:
        """The key of one verification; their order is the order in time."""
        moment = found.verified_at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        return f"{self.verifications(found.set_id)}{moment}-{found.kind}.json"

    def pin(self, set_id: str) -> str:
        """The key that keeps a set whatever retention says."""
        return f"{self.service}/pins/{_checked(set_id)}.json"

    def tombstone(self, set_id: str) -> str:
        """The key that says that a set's deletion has begun."""
        return f"{self.service}/tombstones/{_checked(set_id)}.json"

    def part_of(self, key: str) -> tuple[str, str, str]:
        """Given a key, return its kind (``sets``, ``pins``...), its set's or lease's name, and the rest."""
        kind, _, rest = key.removeprefix(self.root).partition("/")
        name, _, rest = rest.partition("/")
        return kind, name.removesuffix(".json") if not rest else name, rest


def set_lease(set_id: str) -> str:
    """Return the name of the lease that whoever reads a set holds meanwhile."""
    return f"set-{_checked(set_id)}"


def format_set_id(kind: str, moment: datetime, random: str) -> str:
    """Given when a backup began and a few random digits, return its set's id; ids sort by time."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{kind}-{random}"


def is_set_id(name: str) -> bool:
    """Tell whether a folder of this name can be a set; others are somebody else's business."""
    return _SET_ID.fullmatch(name) is not None


def _checked(set_id: str) -> str:
    if not is_set_id(set_id):
        raise ConfigurationError(f"{set_id!r} cannot be the id of a backup set.")
    return set_id
