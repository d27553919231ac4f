"""The MongoDB-protocol server that invoice-backend works on: SCRAM, roles, durable storage."""

import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from deployments.sandbox import programs
from deployments.sandbox.ports import HOST
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import Vault, nasty_password, plain_password

Document = dict[str, object]
DATABASE = "invoice"
ADMIN = "root"
APPLICATION = "invoice_app"
START_SECONDS = 40
STOP_SECONDS = 6
SETUP = "mongodb-setup"
ALREADY_EXISTS = 51003


class MongoDB:
    """One server process; its data, its users and its passwords outlive it."""

    name = "mongodb"

    def __init__(self, supervisor: Supervisor, vault: Vault, port: int) -> None:
        """Take where to run; nothing starts here."""
        self._supervisor = supervisor
        self._vault = vault
        self.port = port
        self._data = supervisor.state / "mongodb"
        self._users_made = supervisor.state / "mongodb-users-made"

    @property
    def admin_url(self) -> str:
        """Return the URL of the user that may do everything."""
        password = self._vault.once("mongodb-admin-password", plain_password)
        return self._url(ADMIN, password, "admin", "admin")

    @property
    def application_url(self) -> str:
        """Return the URL that a new `.env` gets: readWrite on `invoice`, its password percent-escaped."""
        password = self._vault.once("mongodb-app-password", nasty_password)
        return self._url(APPLICATION, password, DATABASE, DATABASE)

    def is_running(self) -> bool:
        """Tell whether the server's process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers an authenticated read.

        Raises:
            SandboxError: it does not come up.
        """
        self._vault.write("mongodb-admin-url", self.admin_url)
        if not self.is_running():
            if not self._users_made.exists():
                self._make_users()
            self._spawn(self.name, "--auth")
        self._wait(self.name, self.admin_url)

    def stop(self) -> None:
        """Stop the server as an operator would."""
        self._supervisor.stop(self.name, signal.SIGTERM, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the server away with SIGKILL; acknowledged writes survive."""
        self._supervisor.kill(self.name)

    def _make_users(self) -> None:
        """Create both users on a server without authentication: it has no localhost exception.

        May be interrupted anywhere and begins again; the open server has another name, so that it is never
        taken for the real one. It is killed afterwards and not stopped, which is safe (writes are synced on
        commit) and two seconds faster. What an interrupted one left is removed: who was killed while it made
        its own tables never works again, and nobody's data is in there yet.
        """
        self._supervisor.kill(SETUP)
        shutil.rmtree(self._data, ignore_errors=True)
        self._spawn(SETUP)
        self._wait(SETUP, self._url(None, "", "", "admin"))
        client: MongoClient[Document]
        with MongoClient(HOST, self.port, directConnection=True) as client:
            application = {"role": "readWrite", "db": DATABASE}
            _put_user(client, "admin", ADMIN, self._vault.read("mongodb-admin-password"), ["root"])
            self.application_url  # noqa: B018  makes the password
            _put_user(client, DATABASE, APPLICATION, self._vault.read("mongodb-app-password"), [application])
        self._supervisor.kill(SETUP)
        self._users_made.touch()

    def _spawn(self, name: str, *more: str) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        command: list[str | Path] = [
            programs.script("secantusd-py"),
            "--host",
            HOST,
            "--port",
            str(self.port),
        ]
        # Without the sync, an acknowledged write is lost when the process is killed.
        command += ["--storage-path", self._data, "--sync-on-commit", "--cache-size", "256M", *more]
        self._supervisor.spawn(name, command, folder=self._data)

    def _wait(self, name: str, url: str) -> None:
        """Wait for an authenticated read.

        The port is asked first, since a client that finds nobody there sleeps half a second.
        """

        def missing() -> str | None:
            client: MongoClient[Document]
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                with MongoClient(url, directConnection=True, serverSelectionTimeoutMS=2000) as client:
                    client[DATABASE]["users"].find_one({}, projection=["_id"])
            except (OSError, PyMongoError) as error:
                return type(error).__name__
            return None

        self._supervisor.wait_until(name, missing, seconds=START_SECONDS)

    def _url(self, user: str | None, password: str, database: str, authenticates_in: str) -> str:
        login = f"{user}:{quote(password, safe='')}@" if user else ""
        source = f"authSource={authenticates_in}&" if user else ""
        return f"mongodb://{login}{HOST}:{self.port}/{database}?{source}directConnection=true"


def _put_user(
    client: "MongoClient[Document]", database: str, name: str, password: str, roles: list[object]
) -> None:
    try:
        client[database].command("createUser", name, pwd=password, roles=roles)
    except OperationFailure as error:
        if error.code != ALREADY_EXISTS:
            raise
        client[database].command("updateUser", name, pwd=password, roles=roles)
