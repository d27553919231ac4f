"""One moment of a MongoDB database: what is written meanwhile does not change what is read."""

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from bson import Timestamp
from pymongo import MongoClient, monitoring
from pymongo.database import Database

from deployments.sandbox.endpoints import Endpoints
from deployments.sandbox.stack import Sandbox
from tasks import mongodb
from tasks.errors import AccessDeniedError, ConfigurationError, SourceError, UnreachableError
from tasks.mongodb import RAW, connect, database_of
from tasks.mongodb_dump import confirm_collections, observe_collections
from tasks.mongodb_snapshot import (
    _BATCH_BYTES,
    CollectionShape,
    MongodbSnapshot,
    _at_cluster_time,
    _find_moment,
    list_shapes,
    open_snapshot,
)

Document = dict[str, object]
CANARY = "canary7f3a"


@pytest.fixture
def database(endpoints: Endpoints) -> Iterator[Database[Document]]:
    client: MongoClient[Document]
    with MongoClient(endpoints.mongodb_admin_url) as client:
        name = f"moment_{uuid.uuid4().hex[:8]}"
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def url(endpoints: Endpoints, database: Database[Document]) -> str:
    return urlsplit(endpoints.mongodb_admin_url)._replace(path=f"/{database.name}").geturl()


def shape_of(snapshot: MongodbSnapshot, name: str) -> CollectionShape:
    (found,) = [shape for shape in observe_collections.fn(snapshot) if shape.name == name]
    return found


def raw_documents(database: Database[Document], name: str) -> set[bytes]:
    return {bytes(document.raw) for document in database.with_options(RAW)[name].find()}


def ids(documents: list[bytes]) -> list[int]:
    return sorted(int.from_bytes(document[9:13], "little") for document in documents)


def test_what_is_written_while_it_is_read_does_not_change_it(database: Database[Document], url: str) -> None:
    filler = "x" * 20_000
    database["orders"].insert_many([{"_id": n, "paid": False, "filler": filler} for n in range(500)])
    before = raw_documents(database, "orders")
    with open_snapshot(url) as snapshot:
        batches = snapshot.read(shape_of(snapshot, "orders"))
        read = next(batches)
        assert len(read) < 500
        database["orders"].insert_one({"_id": -1, "paid": True})
        database["orders"].insert_one({"_id": 9999, "paid": True})
        database["orders"].update_many({}, {"$set": {"paid": True}})
        database["orders"].delete_one({"_id": 499})
        for batch in batches:
            read += batch
        assert set(read) == before
        assert len(read) == 500
        # Nor what is written before a collection is read for the first time.
        again = [document for batch in snapshot.read(shape_of(snapshot, "orders")) for document in batch]
        assert set(again) == before
        assert snapshot.consistency.method == "transaction"
        assert snapshot.consistency.moment


def test_a_collection_that_is_first_read_late_is_of_the_same_moment(
    database: Database[Document], url: str
) -> None:
    database["late"].insert_one({"_id": 1})
    with open_snapshot(url) as snapshot:
        database["late"].insert_one({"_id": 2})
        database["late"].delete_one({"_id": 1})
        assert [ids(batch) for batch in snapshot.read(shape_of(snapshot, "late"))] == [[1]]


def test_a_time_series_of_which_the_server_hands_out_no_buckets_is_not_saved_as_empty(
    database: Database[Document], url: str
) -> None:
    database["weather"].insert_one({"_id": 1, "degrees": 20})
    database["system.buckets.rain"].insert_one({"_id": 1, "control": {"version": 1}})
    with open_snapshot(url) as snapshot:
        series = {
            name: CollectionShape(name, "timeseries", None, {}, ()) for name in ("rain", "snow", "weather")
        }
        assert [ids(batch) for batch in snapshot.read(series["rain"])] == [[1]]
        assert list(snapshot.read(series["snow"])) == []
        with pytest.raises(
            SourceError, match=r"does not hand out the buckets of the time series .*\.weather"
        ):
            list(snapshot.read(series["weather"]))


def test_this_server_is_not_taken_for_one_that_holds_a_cluster_time(endpoints: Endpoints) -> None:
    with connect(endpoints.mongodb_admin_url) as client:
        assert "setName" in client.admin.command("hello")
        # It answers with a cluster time, as if it held it; and accepts one that is long gone.
        probe = {"find": "probe", "readConcern": {"level": "snapshot", "atClusterTime": Timestamp(1, 1)}}
        assert client["invoice"].command(probe)["ok"] == 1
        assert _find_moment(client, "invoice") is None


class Finds(monitoring.CommandListener):
    """The read concern of each find, by its collection."""

    def __init__(self) -> None:
        self.concerns: dict[str, list[object]] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "find":
            self.concerns.setdefault(event.command["find"], []).append(event.command.get("readConcern"))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.mark.parametrize(("version", "of_capped"), [("7.0.4", False), ("8.0.0", True)])
def test_where_a_server_holds_a_cluster_time_every_read_says_it(
    database: Database[Document], url: str, version: str, *, of_capped: bool
) -> None:
    database["plain"].insert_many([{"_id": n} for n in range(3)])
    database.create_collection("ring", capped=True, size=4096).insert_one({"_id": 1})
    finds, moment = Finds(), Timestamp(int(datetime.now(UTC).timestamp()), 1)
    said = {"level": "snapshot", "atClusterTime": moment}
    with MongoClient[dict[str, Any]](
        url, event_listeners=[finds], readPreference="secondaryPreferred"
    ) as client:
        snapshot = _at_cluster_time(client, database.name, version, moment)
        shapes = {shape.name: shape for shape in list_shapes(client, database.name)}
        assert [ids(batch) for batch in snapshot.read(shapes["plain"])] == [[0, 1, 2]]
        assert [ids(batch) for batch in snapshot.read(shapes["ring"])] == [[1]]
    assert finds.concerns["plain"] == [said]
    assert finds.concerns["ring"] == [said if of_capped else None]


def test_a_batch_is_about_a_mebibyte_however_large_the_documents(
    database: Database[Document], url: str
) -> None:
    small: list[Document] = [{"_id": n} for n in range(300)]
    large: list[Document] = [{"_id": n, "x": "x" * 1_000_000} for n in range(1000, 1030)]
    database["mixed"].insert_many(small)
    database["mixed"].insert_many(large)
    with open_snapshot(url) as snapshot:
        sizes = [sum(map(len, batch)) for batch in snapshot.read(shape_of(snapshot, "mixed"))]
    assert max(sizes) < _BATCH_BYTES + 1_000_100
    assert len(sizes) > 5


def test_collections_that_change_during_a_backup_are_refused(database: Database[Document], url: str) -> None:
    database["users"].insert_one({"_id": 1})
    database["doomed"].insert_one({"_id": 1})
    with open_snapshot(url) as snapshot:
        shapes = observe_collections.fn(snapshot)
        database["users"].insert_one({"_id": 2})
        confirm_collections.fn(snapshot, shapes)
        database["users"].create_index("email")
        database["newcomer"].insert_one({"_id": 1})
        database["doomed"].drop()
        with pytest.raises(SourceError, match=r"\(doomed, newcomer, users\): run it again") as raised:
            confirm_collections.fn(snapshot, shapes)
    assert database.name in str(raised.value)


def test_a_collection_that_was_made_anew_under_its_name_is_refused(
    database: Database[Document], url: str
) -> None:
    database["users"].insert_one({"_id": 1})
    with open_snapshot(url) as snapshot:
        shapes = observe_collections.fn(snapshot)
        database["users"].drop()
        database["users"].insert_one({"_id": 1})
        with pytest.raises(SourceError, match="users"):
            confirm_collections.fn(snapshot, shapes)


def test_shapes_are_in_order_and_without_what_the_server_rebuilds(endpoints: Endpoints) -> None:
    with connect(endpoints.mongodb_url) as client:
        shapes = list_shapes(client, "invoice")
    names = [shape.name for shape in shapes]
    assert names == sorted(names)
    assert not [name for name in names if name.startswith("system.")]
    by_name = {shape.name: shape for shape in shapes}
    assert by_name["overdueInvoices"].kind == "view"
    assert by_name["overdueInvoices"].indexes == ()


@pytest.mark.parametrize(
    "malformed",
    [
        f"mongodb://app:{CANARY}@@host/db",
        f"mongodb://app:{CANARY}%@host/db",
        f"mongodb://app:{CANARY}/more@host/db",
        f"mongodb://app:12/{CANARY}@host",
        f"mongodb://app:{CANARY}@host:port/db",
        f"mysql://app:{CANARY}@host/db",
        f"mongodb://app:{CANARY}@host/db?retryWrites",
        CANARY,
        "",
    ],
)
def test_a_malformed_url_is_refused_without_a_piece_of_it(malformed: str) -> None:
    for act in (database_of, lambda url: connect(url).__enter__()):
        with pytest.raises(ConfigurationError, match=r"malformed: expected mongodb://") as raised:
            act(malformed)
        assert CANARY not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_url_without_a_database_is_refused(endpoints: Endpoints) -> None:
    with pytest.raises(ConfigurationError, match="names no database"), connect("mongodb://u:p@127.0.0.1:1/"):
        pass
    assert database_of(endpoints.mongodb_url) == "invoice"


def test_a_certificate_that_is_not_there_is_named() -> None:
    url = "mongodb://u:p@127.0.0.1:1/db?tls=true&tlsCAFile=/no/such.pem"
    with pytest.raises(ConfigurationError, match=r"cannot be read, /no/such\.pem"), connect(url):
        pass


def test_a_wrong_password_is_said_to_be_refused(endpoints: Endpoints) -> None:
    parts = urlsplit(endpoints.mongodb_url)
    place = f"{parts.hostname}:{parts.port}"
    wrong = parts._replace(netloc=f"{parts.username}:{quote(CANARY)}@{place}").geturl()
    with pytest.raises(
        AccessDeniedError, match=f"MongoDB at {place} refuses the user or the password"
    ) as raised:
        open_snapshot(wrong).__enter__()
    assert CANARY not in str(raised.value)
    assert CANARY not in repr(raised.value.__cause__)


@pytest.mark.usefixtures("impatient")
def test_a_port_where_nobody_listens_is_said_not_to_answer() -> None:
    url = f"mongodb://app:{CANARY}@127.0.0.1:9/db?directConnection=true&serverSelectionTimeoutMS=200"
    with pytest.raises(UnreachableError, match=r"MongoDB at 127\.0\.0\.1:9 does not answer") as raised:
        open_snapshot(url).__enter__()
    assert CANARY not in str(raised.value)


def test_what_the_user_may_not_read_is_said(endpoints: Endpoints) -> None:
    foreign = urlsplit(endpoints.mongodb_url)._replace(path="/sandbox").geturl()
    with (
        pytest.raises(AccessDeniedError, match="does not allow this user"),
        open_snapshot(foreign) as snapshot,
    ):
        observe_collections.fn(snapshot)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb, "_SELECTION_MILLISECONDS", 300)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_dies_while_it_is_read_ends_it_in_a_sentence(
    sandbox: Sandbox, database: Database[Document], url: str
) -> None:
    database["orders"].insert_many([{"_id": n, "filler": "x" * 50_000} for n in range(400)])

    def read_while_it_dies() -> None:
        with open_snapshot(url) as snapshot:
            batches = snapshot.read(shape_of(snapshot, "orders"))
            next(batches)
            sandbox.mongodb.kill()
            list(batches)

    try:
        with pytest.raises(UnreachableError, match=f"reading {database.name}.orders does not answer"):
            read_while_it_dies()
    finally:
        sandbox.mongodb.start()


def test_a_server_that_is_silent_for_a_moment_is_waited_for(
    sandbox: Sandbox, database: Database[Document], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb, "_SELECTION_MILLISECONDS", 400)
    database["orders"].insert_many([{"_id": n, "filler": "x" * 50_000} for n in range(400)])
    server = sandbox.supervisor.process(sandbox.mongodb.name)
    assert server is not None
    with open_snapshot(f"{url}&heartbeatFrequencyMS=500") as snapshot:
        batches = snapshot.read(shape_of(snapshot, "orders"))
        read = len(next(batches))
        going_on = threading.Timer(1.2, server.resume)
        server.suspend()
        going_on.start()
        try:
            read += sum(map(len, batches))
        finally:
            going_on.join()
    assert read == 400


@pytest.mark.usefixtures("impatient")
def test_a_moment_does_not_outlive_its_server(
    sandbox: Sandbox, database: Database[Document], url: str
) -> None:
    database["orders"].insert_one({"_id": 1})
    try:
        with open_snapshot(url) as snapshot:
            shape = shape_of(snapshot, "orders")
            sandbox.mongodb.kill()
            sandbox.mongodb.start()
            database["orders"].insert_one({"_id": 2})
            # A retry on the new server must not find another moment and call it the same.
            for _ in range(3):
                with pytest.raises((UnreachableError, SourceError)):
                    list(snapshot.read(shape))
    finally:
        sandbox.mongodb.start()
