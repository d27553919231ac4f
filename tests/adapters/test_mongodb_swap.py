"""The swap of MongoDB databases: killed anywhere, it ends with exactly the new or exactly the old data."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest
from bson import encode
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, monitoring

from deployments.sandbox import seed_invoice_oddities
from deployments.sandbox.endpoints import Endpoints
from flows.decisions.comparison import compare_collections
from tasks.errors import ConfigurationError, RefusedError
from tasks.journal import Journal
from tasks.mongodb_restore import observe_restored_collections
from tasks.mongodb_swap import swap_back, swap_in
from tasks.records.backup import CollectionFacts
from tasks.records.section import Reference
from tasks.records.service import ServiceProfile
from tests.conftest import Expiry
from tests.thoroughness import WHOLE

Document = dict[str, Any]
Facts = tuple[CollectionFacts, ...]
PROJECT = Path(__file__).parents[2]
CHANGES = {"create", "insert", "createIndexes", "drop"}


class Killed(BaseException):
    """The process is gone: nothing of ours may catch it."""


@dataclass
class Reaper(monitoring.CommandListener):
    """Ends the process, as far as the code can tell, just before the n-th change of the server or journal."""

    left: int | None = None

    def count(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in CHANGES:
            self.count()

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


REAPER = Reaper()
monitoring.register(REAPER)


class MortalJournal(Journal):
    """A journal before whose lines the process may end."""

    def write(self, step: str, **facts: Any) -> None:
        REAPER.count()
        super().write(step, **facts)


@dataclass
class Swap:
    """Three databases of their own, and the journal, as a flow would hold them."""

    admin_url: Reference
    client: MongoClient[Document]
    folder: Path
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def names(self) -> tuple[str, str, str]:
        return f"real_{self.suffix}", f"beside_{self.suffix}", f"aside_{self.suffix}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        REAPER.left = None
        for name in self.names:
            self.client.drop_database(name)

    def swap_in(self, kill_before: int | None = None) -> bool:
        """Swap in as a new process would; was it killed?"""
        return self._run(swap_in.fn, kill_before)

    def swap_back(self, kill_before: int | None = None) -> bool:
        """Swap back as a new process would; was it killed?"""
        return self._run(swap_back.fn, kill_before)

    def _run(self, act: Any, kill_before: int | None) -> bool:
        journal = MortalJournal(self.folder, "restore_database")
        REAPER.left = kill_before
        try:
            act(self.admin_url, *self.names, journal)
        except Killed:
            return True
        finally:
            REAPER.left = None
        return False

    def close(self) -> None:
        Journal(self.folder, "restore_database").close("undone")

    def facts(self) -> tuple[Facts, Facts, Facts]:
        """What is in the real database, beside it and aside."""
        real, beside, aside = (observe_restored_collections.fn(self.admin_url, name) for name in self.names)
        return real, beside, aside


@pytest.fixture
def swap(endpoints: Endpoints, invoice: ServiceProfile, tmp_path: Path) -> Iterator[Swap]:
    client: MongoClient[Document]
    with (
        MongoClient(endpoints.mongodb_admin_url) as client,
        Swap(invoice.database.admin_url, client, tmp_path) as opened,
    ):
        yield opened


def assert_same(expected: tuple[Facts, Facts, Facts], found: tuple[Facts, Facts, Facts]) -> None:
    for place, wanted, there in zip(("real", "beside", "aside"), expected, found, strict=True):
        assert compare_collections(wanted, there) == (), place


def fill_small(swap: Swap) -> None:
    """A collection and a view of both, a collection of the old only, and one of the new only."""
    real, beside, _ = (swap.client[name] for name in swap.names)
    real["users"].insert_many([{"_id": n, "email": f"old{n}"} for n in range(3)])
    real["users"].create_index("email", unique=True)
    real["oldOnly"].insert_one({"_id": "old"})
    real.create_collection("active", viewOn="users", pipeline=[{"$match": {"old": True}}])
    beside["users"].insert_many([{"_id": n, "email": f"new{n}"} for n in range(2)])
    beside.create_collection("newOnly", validator={"a": {"$type": "int"}})
    beside.create_collection("active", viewOn="users", pipeline=[{"$match": {"new": True}}])


def fill_odd(swap: Swap) -> None:
    """All kinds of collections, options and indexes; and documents that a validator would refuse."""
    real, beside, _ = (swap.client[name] for name in swap.names)
    seed_invoice_oddities._add_kinds(real)
    seed_invoice_oddities._add_indexes(real)
    for name in seed_invoice_oddities.ODD_NAMES:
        real[name].insert_one({"_id": name})
    refused = RawBSONDocument(encode({"_id": "older than the validator"}))
    real["coupons"].insert_many([refused], bypass_document_validation=True)
    seed_invoice_oddities._add_kinds(beside)
    beside["recentEvents"].insert_one({"_id": "another"})
    beside["bsonTypes"].insert_many(seed_invoice_oddities._types())
    beside["名" * 70].insert_one({"_id": 1})


def test_every_kind_of_collection_survives_the_way_in_and_back(swap: Swap) -> None:
    fill_odd(swap)
    old, new, nothing = before = swap.facts()
    capped = [document["_id"] for document in swap.client[swap.names[0]]["recentEvents"].find()]
    assert nothing == ()
    assert not swap.swap_in()
    assert_same((new, (), old), swap.facts())
    assert not swap.swap_back()
    assert_same(before, swap.facts())
    # The order in which they came is part of a capped collection.
    assert [document["_id"] for document in swap.client[swap.names[0]]["recentEvents"].find()] == capped


def test_killed_before_any_change_it_ends_with_exactly_the_new_or_exactly_the_old(swap: Swap) -> None:
    fill_small(swap)
    old, new, _ = before = swap.facts()
    after = (new, (), old)
    moment = 0
    while swap.swap_in(kill_before=moment):
        # It is undone where it was killed,
        assert not swap.swap_back()
        assert_same(before, swap.facts())
        _close_if_begun(swap)
        # or goes on where it was killed.
        assert swap.swap_in(kill_before=moment)
        assert not swap.swap_in()
        assert_same(after, swap.facts())
        # And so is the way back.
        assert swap.swap_back(kill_before=moment) or moment > 20
        assert not swap.swap_back()
        assert_same(before, swap.facts())
        swap.close()
        moment += 1 if WHOLE else 3
    # 6 collections, each made, filled, put down and dropped; and 4 lines of phases.
    assert moment > 28


def _close_if_begun(swap: Swap) -> None:
    journal = Journal(swap.folder, "restore_database")
    if journal.entries:
        journal.close("undone")


def test_killed_on_the_way_in_and_again_and_again_on_the_way_back(swap: Swap) -> None:
    fill_small(swap)
    before, kills = swap.facts(), 0
    for moment in (5, 14, 24):
        assert swap.swap_in(kill_before=moment)
        while swap.swap_back(kill_before=6):
            kills += 1
        assert_same(before, swap.facts())
        swap.close()
    assert kills >= 5


def test_a_copy_is_compared_before_anything_of_it_may_expire(swap: Swap, expiry: Expiry) -> None:
    real, _, aside = (swap.client[name] for name in swap.names)
    real["otps"].insert_many([{"_id": n, "at": datetime.now(UTC)} for n in range(3)])
    real["otps"].create_index("at", expireAfterSeconds=0)
    expiry.before_reads_of(aside.name)
    assert not swap.swap_in()
    assert aside["otps"].index_information()["at_1"]["expireAfterSeconds"] == 0
    assert aside["otps"].find_one() is None


def test_a_process_that_is_really_killed_is_gone_on_with(swap: Swap) -> None:
    fill_small(swap)
    old, new, _ = before = swap.facts()
    # As the first copy is made and its source still there; and on the way back, as the second one is.
    _kill_after_lines(swap, "swap_in", 2)
    assert not swap.swap_in()
    assert_same((new, (), old), swap.facts())
    _kill_after_lines(swap, "swap_back", len(_entries(swap)) + 3)
    assert not swap.swap_back()
    assert_same(before, swap.facts())


def _entries(swap: Swap) -> tuple[str, ...]:
    return tuple(entry.step for entry in Journal(swap.folder, "restore_database").entries)


_CHILD = """
import os, signal, sys
from pathlib import Path
from tasks import mongodb_swap
from tasks.journal import Journal

act, reference, real, beside, aside, folder, lines = sys.argv[1:]
journal, lines = Journal(Path(folder), "restore_database"), int(lines)
write = Journal.write

def write_and_die(self, step, **facts):
    write(self, step, **facts)
    if len(self.entries) == lines:
        os.kill(os.getpid(), signal.SIGKILL)

Journal.write = write_and_die
getattr(mongodb_swap, act).fn(reference, real, beside, aside, journal)
"""


def _kill_after_lines(swap: Swap, act: str, lines: int) -> None:
    command = [
        sys.executable,
        "-c",
        _CHILD,
        act,
        str(swap.admin_url),
        *swap.names,
        str(swap.folder),
        str(lines),
    ]
    done = subprocess.run(command, check=False, cwd=PROJECT, env=dict(os.environ), capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(_entries(swap)) == lines


def test_a_swap_that_never_began_is_undone_without_touching_anything(swap: Swap) -> None:
    fill_small(swap)
    swap.client[swap.names[2]]["foreign"].insert_one({"_id": 1})
    before = swap.facts()
    assert not swap.swap_back()
    assert_same(before, swap.facts())
    assert _entries(swap) == ()


def test_a_place_for_the_old_data_that_is_taken_is_refused(swap: Swap) -> None:
    fill_small(swap)
    swap.client[swap.names[2]]["foreign"].insert_one({"_id": 1})
    before = swap.facts()
    with pytest.raises(RefusedError, match=rf"set aside into {swap.names[2]}, which holds foreign already"):
        swap.swap_in()
    assert_same(before, swap.facts())
    assert _entries(swap) == ()


@pytest.mark.parametrize("lost", ["all", "one"])
def test_old_data_that_is_gone_is_not_waited_for_with_the_new_data_moved_away(swap: Swap, lost: str) -> None:
    fill_small(swap)
    assert not swap.swap_in()
    aside = swap.client[swap.names[2]]
    if lost == "all":
        swap.client.drop_database(aside.name)
    else:
        aside.drop_collection("oldOnly")
    before, lines = swap.facts(), _entries(swap)
    with pytest.raises(RefusedError, match=rf"{aside.name} is not there any more.*nothing was moved"):
        swap.swap_back()
    assert_same(before, swap.facts())
    assert _entries(swap) == lines


def test_what_was_put_aside_while_its_source_was_still_there_may_be_gone_from_aside(swap: Swap) -> None:
    fill_small(swap)
    old, new, _ = swap.facts()
    moment = 0
    while swap.swap_in(kill_before=moment) and "copied" not in _entries(swap):
        moment += 1
    # The copy is put down, and its source not dropped yet.
    swap.client.drop_database(swap.names[2])
    assert not swap.swap_back()
    assert_same((old, new, ()), swap.facts())


def test_a_swap_that_is_being_undone_is_not_gone_on_with(swap: Swap) -> None:
    fill_small(swap)
    swap.swap_in()
    assert swap.swap_back(kill_before=2)
    with pytest.raises(RefusedError, match="is being undone"):
        swap.swap_in()


def test_a_swap_is_not_gone_on_with_under_other_names(swap: Swap) -> None:
    fill_small(swap)
    assert swap.swap_in(kill_before=4)
    journal = Journal(swap.folder, "restore_database")
    for act in (swap_in, swap_back):
        with pytest.raises(ConfigurationError, match=rf"speaks of the databases {swap.names[0]}"):
            act.fn(swap.admin_url, *swap.names[:2], "elsewhere", journal)


def test_what_is_done_is_not_done_again(swap: Swap) -> None:
    fill_small(swap)
    swap.swap_in()
    done = _entries(swap)
    assert [step for step in done if step != "copied"] == [
        "setting-aside",
        "set-aside",
        "moving-in",
        "moved-in",
    ]
    assert not swap.swap_in(kill_before=0)
    assert _entries(swap) == done
    swap.swap_back()
    assert not swap.swap_back(kill_before=0)
    assert _entries(swap)[-1] == "put-back"
