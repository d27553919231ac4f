"""One holder at a time, whatever happens to it: against a real folder and a real S3 server."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tasks import leases
from tasks.errors import LeaseHeldError, LeaseLostError, UnreachableError, UnreadableLeaseError
from tasks.lease_generations import acquire, forget, living_among, write_first
from tasks.leases import HeldLease, hold_lease, utc_now
from tasks.object_store import ObjectStore, StoredKey
from tasks.process_identity import is_dead_for_certain, this_process
from tasks.records.lease import Lease
from tests.adapters.conftest import make_store
from tests.proxy import Proxy

NAME = "backup"
START = datetime(2026, 11, 21, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _poll_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.02)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **by: float) -> None:
        self.moment += timedelta(**by)


def claim_of(host: str, moment: datetime, name: str = NAME) -> Lease:
    """A claim of a process on another host."""
    return Lease(
        name=name,
        generation=0,
        holder=f"run on {host}",
        purpose="nightly backup",
        host=host,
        boot="another boot",
        pid=4711,
        process_started="1",
        acquired_at=moment,
        renewed_at=moment,
        time_to_live=timedelta(seconds=120),
    )


def list_living(store: ObjectStore, now: Callable[[], datetime] = utc_now) -> dict[str, Lease]:
    return living_among(store, "svc", store.list_keys("svc/leases/"), now())


class Faulty:
    """A store that can be made to go away, and that can be made to show an old listing."""

    def __init__(self, store: ObjectStore) -> None:
        self.store, self.away, self.old = store, False, list[list[StoredKey]]()

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise UnreachableError("the store is away")
        return getattr(self.store, name)

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        if self.away:
            raise UnreachableError("the store is away")
        return iter(self.old.pop()) if self.old else self.store.list_keys(prefix)


def test_a_lease_is_held_while_the_block_runs_and_free_afterwards(store: ObjectStore) -> None:
    with hold_lease(store, "svc", NAME, purpose="nightly", holder="run 1") as held:
        held.check()
        assert held.lease.holder == "run 1"
        assert list(list_living(store)) == [NAME]
    assert list_living(store) == {}
    with hold_lease(store, "svc", NAME, purpose="nightly", holder="run 2") as held:
        assert held.lease.generation == 2


def test_whoever_is_refused_learns_who_holds_it_since_when_and_until_when(store: ObjectStore) -> None:
    acquire(store, "svc", claim_of("host-a", START))
    with (
        pytest.raises(LeaseHeldError) as caught,
        hold_lease(store, "svc", NAME, purpose="drill", holder="run 2", now=Clock()),
    ):
        pass
    assert str(caught.value) == (
        "The lease backup of svc is held by run on host-a for: nightly backup (host host-a, process 4711), "
        "since 2026-11-21 02:00:00 UTC, until 02:02:00 UTC unless it is renewed."
    )


def test_names_and_services_do_not_hinder_each_other(store: ObjectStore) -> None:
    with (
        hold_lease(store, "svc", "set-1", purpose="p", holder="h"),
        hold_lease(store, "svc", "set-10", purpose="p", holder="h"),
        hold_lease(store, "other", "set-1", purpose="p", holder="h"),
    ):
        assert sorted(list_living(store)) == ["set-1", "set-10"]


def test_another_hosts_lease_is_taken_over_only_when_it_ran_out(store: ObjectStore) -> None:
    clock = Clock()
    acquire(store, "svc", claim_of("host-a", clock()))
    clock.forward(seconds=121)  # over, but the clocks of two hosts differ a little
    with pytest.raises(LeaseHeldError):
        acquire(store, "svc", claim_of("host-b", clock()))
    clock.forward(seconds=10)
    assert list_living(store, clock) == {}
    assert acquire(store, "svc", claim_of("host-b", clock())).generation == 2
    assert list_living(store, clock)[NAME].host == "host-b"


def test_a_lease_that_is_renewed_does_not_run_out(store: ObjectStore) -> None:
    clock = Clock()
    with hold_lease(store, "svc", NAME, purpose="p", holder="h", now=clock) as held:
        for _ in range(3):
            clock.forward(seconds=100)
            held.renew()
            held.check()
        with pytest.raises(LeaseHeldError):
            acquire(store, "svc", claim_of("host-b", clock()))


def test_the_thread_renews_by_itself(store: ObjectStore) -> None:
    with hold_lease(store, "svc", NAME, purpose="p", holder="h", time_to_live=timedelta(seconds=1)) as held:
        first = held.lease.renewed_at
        time.sleep(1.5)
        held.check()
        assert held.lease.renewed_at > first + timedelta(seconds=1)


def test_a_lease_that_was_taken_over_is_lost(store: ObjectStore) -> None:
    clock = Clock()
    with hold_lease(store, "svc", NAME, purpose="p", holder="h", now=clock) as held:
        write_first(store, "svc", claim_of("host-b", clock()).model_copy(update={"generation": 2}))
        with pytest.raises(LeaseLostError, match="taken it over"):
            held.check()
        with pytest.raises(LeaseLostError, match="taken it over"):
            held.renew()
    assert list_living(store, clock)[NAME].host == "host-b"


def test_a_lease_that_an_operator_deleted_is_lost_although_the_number_comes_again(store: ObjectStore) -> None:
    clock = Clock()
    with hold_lease(store, "svc", NAME, purpose="p", holder="h", now=clock) as held:
        for stored in list(store.list_keys("svc/leases/")):
            store.delete(stored.key)
        assert acquire(store, "svc", claim_of("host-b", clock())).generation == held.lease.generation
        with pytest.raises(LeaseLostError):
            held.check()
    assert list_living(store, clock)[NAME].host == "host-b"


def test_a_store_that_is_away_takes_the_lease_only_when_its_time_is_over(tmp_path: Path) -> None:
    clock, store = Clock(), Faulty(make_store(tmp_path / "store"))
    with hold_lease(store, "svc", NAME, purpose="p", holder="h", now=clock) as held:
        store.away = True
        clock.forward(seconds=119)
        held.check()
        with pytest.raises(UnreachableError):
            held.renew()
        clock.forward(seconds=2)
        with pytest.raises(LeaseLostError, match=r"could not be renewed for 120 s.*away"):
            held.check()
        store.away = False
        with pytest.raises(LeaseLostError):
            held.check()


def test_a_store_that_is_away_at_the_end_does_not_undo_what_was_done(tmp_path: Path) -> None:
    store = Faulty(make_store(tmp_path / "store"))
    with hold_lease(store, "svc", NAME, purpose="p", holder="h"):
        store.away = True


def test_whoever_waits_is_told_for_whom_and_gets_it(store: ObjectStore) -> None:
    told: list[str] = []
    free = threading.Event()

    def hold() -> None:
        with hold_lease(store, "svc", NAME, purpose="nightly", holder="run 1"):
            holding.set()
            free.wait(20)

    holding = threading.Event()
    first = threading.Thread(target=hold)
    first.start()
    holding.wait(20)

    def tell(sentence: str) -> None:
        told.append(sentence)
        free.set()

    wait = timedelta(seconds=20)
    with hold_lease(store, "svc", NAME, purpose="drill", holder="run 2", wait=wait, on_wait=tell) as held:
        held.check()
    first.join()
    assert "held by run 1 for: nightly" in told[0]


def test_a_wait_ends(store: ObjectStore) -> None:
    acquire(store, "svc", claim_of("host-a", START))
    begun = time.monotonic()
    with (
        pytest.raises(LeaseHeldError),
        hold_lease(store, "svc", NAME, purpose="p", holder="h", wait=timedelta(seconds=0.3), now=Clock()),
    ):
        pass
    assert 0.3 <= time.monotonic() - begun < 10


HOLD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from tasks.leases import hold_lease
from tasks.object_store_directory import DirectoryStore
with hold_lease(DirectoryStore(Path(sys.argv[1])), "svc", "backup", purpose="nightly", holder="run 1"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lease_of_a_killed_process_of_this_host_is_taken_over_at_once(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    command = [sys.executable, "-c", HOLD_UNTIL_KILLED, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError, match=f"process {child.pid}"):
            acquire(store, "svc", claim_of("host-b", datetime.now(UTC)))
        child.send_signal(signal.SIGKILL)
        # Dead is dead, whether or not its parent has fetched it: a zombie holds nothing.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with hold_lease(store, "svc", NAME, purpose="nightly", holder="run 2") as held:
            assert held.lease.generation == 2


def test_a_process_is_dead_only_for_certain() -> None:
    me = this_process()
    changed = {"process_started": "1"}
    assert not is_dead_for_certain(me)
    assert is_dead_for_certain(type(me)(**{**vars(me), **changed}))
    for elsewhere in ({"host": "another"}, {"boot": "before the crash"}, {"process_started": "unknown"}):
        assert not is_dead_for_certain(type(me)(**{**vars(me), **changed, **elsewhere}))


def test_a_writer_that_slept_through_two_takeovers_does_not_hold_what_it_wrote(tmp_path: Path) -> None:
    clock, store = Clock(), Faulty(make_store(tmp_path / "store"))
    seen_before_the_sleep = list(store.list_keys("svc/leases/"))
    for host in "abcdef":
        acquire(store, "svc", claim_of(host, clock()))
        clock.forward(minutes=5)
    acquire(store, "svc", claim_of("holder", clock()))
    store.old = [seen_before_the_sleep]
    with pytest.raises(LeaseHeldError, match="this very moment"):
        acquire(store, "svc", claim_of("sleeper", clock()))
    assert list_living(store, clock)[NAME].host == "holder"


def test_a_lease_that_was_written_is_held_although_the_stores_answer_was_lost(s3_server: Any) -> None:
    """The write is then sent again, and is refused since its own object is there."""
    asked, lost = threading.Event(), threading.Event()

    def lose(data: bytes, from_client: bool) -> bool:
        if from_client and b"if-none-match" in data.lower():
            asked.set()
        elif asked.is_set() and not lost.is_set() and data.startswith(b"HTTP/1.1 200"):
            lost.set()
            return False
        return True

    proxy = Proxy(("127.0.0.1", urlsplit(s3_server.endpoint_url).port or 0), lose)
    try:
        through = s3_server.store("lost", endpoint_url=f"http://127.0.0.1:{proxy.port}")
        with hold_lease(through, "svc", NAME, purpose="drill", holder="run 1") as held:
            held.check()
    finally:
        proxy.close()
    assert lost.is_set()


def test_old_generations_do_not_pile_up(store: ObjectStore) -> None:
    for _ in range(6):
        with hold_lease(store, "svc", NAME, purpose="p", holder="h"):
            pass
    assert len(list(store.list_keys("svc/leases/"))) == 3


def test_a_lease_of_what_is_gone_is_forgotten_unless_it_is_held(store: ObjectStore) -> None:
    clock = Clock()
    acquire(store, "svc", claim_of("host-a", clock()))
    forget(store, "svc", NAME, clock())
    assert list(list_living(store, clock)) == [NAME]
    clock.forward(minutes=5)
    forget(store, "svc", NAME, clock())
    assert list(store.list_keys("svc/")) == []


def test_a_lease_that_cannot_be_read_is_not_taken(store: ObjectStore) -> None:
    store.write("svc/leases/backup/0000000007.json", b'{"a newer": "version"}')
    with pytest.raises(UnreadableLeaseError, match=r"0000000007\.json"):
        acquire(store, "svc", claim_of("host-a", START))


def test_of_many_contenders_never_two_hold_it(store: ObjectStore) -> None:
    inside, most, turns = 0, 0, 0
    start = threading.Barrier(6)

    def contend(number: int) -> None:
        nonlocal inside, most, turns
        start.wait()
        for turn in range(3):
            wait = timedelta(seconds=60)
            holder = f"contender {number}, turn {turn}"
            with hold_lease(store, "svc", NAME, purpose="p", holder=holder, wait=wait, on_wait=len) as held:
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                held.check()
                turns += 1
                inside -= 1

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 18)


def test_of_many_that_take_over_an_abandoned_lease_one_gets_it(store: ObjectStore) -> None:
    clock = Clock()
    acquire(store, "svc", claim_of("abandoned", clock()))
    clock.forward(minutes=5)
    start, won = threading.Barrier(8), list[Lease]()

    def take(number: int) -> None:
        start.wait()
        try:
            won.append(acquire(store, "svc", claim_of(f"host-{number}", clock())))
        except LeaseHeldError:
            return

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [lease.generation for lease in won] == [2]
    HeldLease(store, "svc", won[0], clock).check()
