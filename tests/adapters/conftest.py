"""Two real stores for every specification of a store: a folder and an S3 server of our own."""

import runpy
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deployments.sandbox import object_store as sandbox_store
from deployments.sandbox.ports import Ports, stale_sockets
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import Vault
from tasks.object_store import ObjectStore
from tasks.object_store_directory import DirectoryStore
from tasks.object_store_s3 import S3Store
from tasks.profiles import read_profile
from tasks.records.service import Destination, ServiceProfile
from tasks.set_folder import SetLocation
from tests.forking import CONTEXT

PROJECT = Path(__file__).parents[2]
StartChild = Callable[[str, ServiceProfile], tuple[BaseProcess, Connection]]


@dataclass(frozen=True)
class S3Server:
    """How to get at the S3 server of this test session."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    bucket: str = sandbox_store.BUCKET

    def arguments(self, prefix: str, **changed: Any) -> dict[str, Any]:
        """Return what S3Store takes, with one or the other argument changed."""
        arguments = {
            "bucket": self.bucket,
            "prefix": prefix,
            "endpoint_url": self.endpoint_url,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }
        return {**arguments, **changed}

    def store(self, prefix: str, **changed: Any) -> S3Store:
        """Return a store below the prefix, with one or the other argument changed."""
        return S3Store(**self.arguments(prefix, **changed))


def make_store(root: Path) -> DirectoryStore:
    """Make the folder of a store, as an operator does once, and return the store."""
    root.mkdir(mode=0o700, exist_ok=True)
    return DirectoryStore(root)


def make_location(root: Path) -> SetLocation:
    """Make the folder of a store and return where a set would lie in it."""
    make_store(root)
    return SetLocation(destination=Destination(url=root.as_uri()), folder="app/sets/one")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    state = tmp_path_factory.mktemp("s3")
    ports = Ports.free()
    server = sandbox_store.ObjectStore(Supervisor(state), Vault(state / "vault"), ports)
    try:
        server.start()
        yield S3Server(server.endpoint, server.key_id, server.key_secret)
    finally:
        server.kill()
        for name, port in ports.items():
            for path in stale_sockets(port) if name.startswith("s3") else []:
                path.unlink(missing_ok=True)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of either kind."""
    if request.param == "directory":
        return make_store(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3_server")
    return server.store(f"test-{uuid.uuid4().hex}")


@pytest.fixture
def service(tmp_path: Path) -> ServiceProfile:
    """A service with nothing but a folder on this host and a store on another folder."""
    profile = read_profile(PROJECT / "deployments" / "services" / "invoice.yaml")
    destination = Destination(url=make_store(tmp_path / "store").address)
    return profile.model_copy(
        update={
            "state_directory": tmp_path / "state",
            "backup": profile.backup.model_copy(update={"destination": destination}),
        }
    )


@pytest.fixture
def start_child() -> Iterator[StartChild]:
    """A starter of processes that do what ``killed_process.py`` says; none outlives the test."""
    started: list[BaseProcess] = []

    def start(act: str, profile: ServiceProfile) -> tuple[BaseProcess, Connection]:
        hear, tell = CONTEXT.Pipe(duplex=False)
        words = {"ACT": act, "PROFILE": profile.model_dump_json(), "TELL": tell}
        script = str(Path(__file__).with_name("killed_process.py"))
        process = CONTEXT.Process(target=runpy.run_path, args=(script, words))
        process.start()
        tell.close()
        started.append(process)
        return process, hear

    yield start
    for process in started:
        process.kill()
        process.join()


@contextmanager
def silent_about(url: str, word: bytes) -> Iterator[str]:
    """A way to the server on which whoever says this word gets no answer."""
    parts = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    open_ends: list[socket.socket] = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                if word not in chunk:
                    sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((str(parts.hostname), int(parts.port or 0)))
                open_ends.extend((near, far))
                for arguments in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=arguments, daemon=True).start()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield url.replace(f":{parts.port}/", f":{listener.getsockname()[1]}/")
    finally:
        for end in open_ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        server.join()
