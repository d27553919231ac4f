"""Where everything of a service's backup repository lies. No store is asked here.

::

    <service>/sets/<set_id>/...                      the objects of a set, and last of all manifest.json
    <service>/verifications/<set_id>/<moment>-<kind>.json
    <service>/pins/<set_id>.json
    <service>/tombstones/<set_id>.json               its deletion has begun: no backup any more
    <service>/leases/<name>/<generation>.json
    <service>/archives/<rule>/<archive_id>/...       what cleanup took out: no backup, nor ever collected
"""

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tasks.errors import ConfigurationError
from tasks.records.backup import Verification

MANIFEST: Final = "manifest.json"
_ARCHIVE_SUFFIXES: Final = {"mongodb": "bson.gz", "postgresql": "copy.gz"}
_MOMENT: Final = "%Y%m%dT%H%M%SZ"
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

    @property
    def every_verification(self) -> str:
        """The prefix of what was found when sets were verified."""
        return f"{self.service}/verifications/"

    def set_folder(self, set_id: str) -> str:
        """The prefix of a set's objects."""
        return f"{self.sets}{_checked(set_id)}/"

    def manifest(self, set_id: str) -> str:
        """The key of a set's manifest."""
        return self.set_folder(set_id) + MANIFEST

    def verifications(self, set_id: str) -> str:
        """The prefix of what was found when a set was verified."""
        return f"{self.every_verification}{_checked(set_id)}/"

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


@dataclass(frozen=True)
class ArchiveLayout:
    """The keys of one service's archives. A name that could lead elsewhere is a ``ConfigurationError``."""

    service: str

    @property
    def root(self) -> str:
        """The prefix of all archives."""
        return f"{self.service}/archives/"

    def of_rule(self, rule: str) -> str:
        """The prefix of all archives of a rule."""
        return f"{self.root}{_checked(rule, 'name of a cleanup rule')}/"

    def folder(self, rule: str, archive_id: str) -> str:
        """The prefix of an archive's objects."""
        return f"{self.of_rule(rule)}{_checked(archive_id, 'id of an archive')}/"

    def part(self, rule: str, archive_id: str, number: int, kind: str) -> str:
        """The key of a part; their order is the order of their numbers."""
        return f"{self.folder(rule, archive_id)}part-{number:05d}.{_ARCHIVE_SUFFIXES[kind]}"

    def archive_of(self, key: str) -> tuple[str, str] | None:
        """Given the key of an archive's manifest, return its rule and id; None for any other key."""
        rule, _, rest = key.removeprefix(self.root).partition("/")
        archive_id, _, name = rest.partition("/")
        is_ours = name == MANIFEST and is_set_id(rule) and is_set_id(archive_id)
        return (rule, archive_id) if is_ours else None


def format_archive_id(moment: datetime, random: str) -> str:
    """Given when a cleanup began and a few random digits, return its archive's id; ids sort by time."""
    return f"{moment.astimezone(UTC):{_MOMENT}}-{random}"


def set_lease(set_id: str) -> str:
    """Return the name of the lease that whoever reads a set holds meanwhile."""
    return f"set-{_checked(set_id)}"


def format_set_id(kind: str, moment: datetime, random: str) -> str:
    """Given when a backup began and a few random digits, return its set's id; ids sort by time."""
    return f"{moment.astimezone(UTC):{_MOMENT}}-{kind}-{random}"


def parse_beginning(set_id: str) -> datetime | None:
    """Return when the backup of this id began; None if no backup of ours named it."""
    with contextlib.suppress(ValueError):
        return datetime.strptime(set_id.partition("-")[0], _MOMENT).replace(tzinfo=UTC)
    return None


def is_set_id(name: str) -> bool:
    """Tell whether a folder of this name can be a set; others are somebody else's business."""
    return _SET_ID.fullmatch(name) is not None


def _checked(name: str, what: str = "id of a backup set") -> str:
    if not is_set_id(name):
        raise ConfigurationError(f"{name!r} cannot be the {what}.")
    return name
