"""The Prefect engine of the sandbox: its own PostgreSQL, the server with authentication, one worker."""

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from deployments.sandbox.errors import SandboxError
from deployments.sandbox.ports import HOST, Ports
from deployments.sandbox.postgresql import PostgreSQL
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import Vault, plain_password

PROJECT = Path(__file__).parents[2]
WORK_POOL = "operations"
POOL_LIMIT = 4
# The sandbox is the host of both services: its one worker polls the queues of both.
QUEUES = ("invoice", "propertypulse")
WORKER = "sandbox"
# The first start migrates an empty database.
SERVER_SECONDS = 120
WORKER_SECONDS = 60
STOP_SECONDS = 8


def database(supervisor: Supervisor, vault: Vault, ports: Ports) -> PostgreSQL:
    """Return the engine's PostgreSQL: an instance of its own, so that breaking the other leaves it be."""
    return PostgreSQL(
        supervisor,
        vault,
        ports.engine_postgresql,
        name="engine-postgresql",
        role="prefect",
        database="prefect",
        max_connections=100,
    )


def client_environment(state: Path, ports: Ports) -> dict[str, str]:
    """Return what a command needs to speak to this sandbox's Prefect server, for `prefect deploy` and kin."""
    vault = Vault(state.resolve() / "secrets")
    return {
        "PREFECT_API_URL": f"http://{HOST}:{ports.prefect}/api",
        "PREFECT_API_AUTH_STRING": vault.once("prefect-auth", _auth_string),
        "PREFECT_HOME": str(state.resolve() / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
    }


def connect(client: Mapping[str, str]) -> httpx.Client:
    """Return a connection to the server that a client's environment names."""
    user, _, password = client["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.Client(base_url=client["PREFECT_API_URL"], auth=(user, password), timeout=30)


class PrefectServer:
    """The API, the UI and the background services in one process."""

    name = "prefect-server"

    def __init__(self, supervisor: Supervisor, ports: Ports, engine_database: PostgreSQL) -> None:
        """Take where to run; nothing starts here."""
        self._supervisor = supervisor
        self._ports = ports
        self._database = engine_database

    @property
    def url(self) -> str:
        """Return the address of the UI; the API is below it."""
        return f"http://{HOST}:{self._ports.prefect}"

    def is_running(self) -> bool:
        """Tell whether the server's process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the server unless it runs, and wait for its health; the first start migrates the database.

        Raises:
            SandboxError: it does not come up.
        """
        if not self.is_running():
            self._spawn()
        self._supervisor.wait_until(self.name, self._missing, seconds=SERVER_SECONDS)

    def stop(self) -> None:
        """Stop the server; uvicorn answers what is open and ends."""
        self._supervisor.stop(self.name, signal.SIGTERM, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the server away with SIGKILL."""
        self._supervisor.kill(self.name)

    def _spawn(self) -> None:
        client = client_environment(self._supervisor.state, self._ports)
        home = Path(client["PREFECT_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        url = self._database.application_url.replace("postgresql://", "postgresql+asyncpg://", 1)
        environment = {
            **client,
            "PREFECT_SERVER_API_AUTH_STRING": client["PREFECT_API_AUTH_STRING"],
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
            # In memory, a restart of the server would leak the slots that runs hold.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "deployments.event_ordering",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # By default all servers of one virtual environment unpack, and remove, the same files.
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "prefect", "server", "start"]
        command += ["--host", HOST, "--port", str(self._ports.prefect)]
        # A folder of its own: Prefect reads prefect.toml, .env and pyproject.toml of the folder it runs in.
        self._supervisor.spawn(self.name, command, environment=environment, folder=home)

    def _missing(self) -> str | None:
        try:
            answer = httpx.get(f"{self.url}/api/health", timeout=2)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None if answer.is_success else f"health answered {answer.status_code}"


class PrefectWorker:
    """One process worker on the queue of this host."""

    name = "prefect-worker"

    def __init__(
        self, supervisor: Supervisor, ports: Ports, extra: Mapping[str, str], queues: Sequence[str] = QUEUES
    ) -> None:
        """Take where to run.

        Args:
            supervisor: starts the process.
            ports: tell where the server is.
            extra: variables that the flow runs shall see.
            queues: the names of this host's queues in the work pool.
        """
        self._supervisor = supervisor
        self._ports = ports
        self._extra = extra
        self.queues = queues

    def is_running(self) -> bool:
        """Tell whether the worker's process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the worker unless it runs, and wait until the server counts it as online.

        The pool's limit and not the worker's `--limit` bounds what runs side by side: that option has ended
        workers with an error of its own.

        Raises:
            SandboxError: it does not come up.
        """
        client = client_environment(self._supervisor.state, self._ports)
        temporary = Path(client["PREFECT_HOME"]) / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {
            **client,
            **self._extra,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            # Prefect's runner keeps a folder of one name for all users of a machine in the temporary folder.
            "TMPDIR": str(temporary),
        }
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", WORK_POOL]
        command += ["--type", "process", "--name", WORKER]
        for queue in self.queues:
            command += ["--work-queue", queue]
        with connect(client) as api:
            _make_pool(api, self.queues)
            if not self.is_running():
                self._supervisor.spawn(self.name, command, environment=environment, folder=PROJECT)

            def missing() -> str | None:
                return None if _is_online(api, WORKER) else "the server has not heard from it"

            self._supervisor.wait_until(self.name, missing, seconds=WORKER_SECONDS)

    def stop(self) -> None:
        """Stop the worker; runs of its own are ended with it."""
        self._supervisor.stop(self.name, signal.SIGTERM, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the worker and the runs below it away with SIGKILL."""
        self._supervisor.kill(self.name)


def _make_pool(api: httpx.Client, queues: Sequence[str]) -> None:
    """Make the pool and the queues that are missing; a limit that an operator changed stays."""
    pool = {"name": WORK_POOL, "type": "process", "concurrency_limit": POOL_LIMIT}
    _post(api, "/work_pools/", pool)
    for queue in queues:
        _post(api, f"/work_pools/{WORK_POOL}/queues", {"name": queue})


def _post(api: httpx.Client, path: str, body: Mapping[str, object]) -> None:
    try:
        answer = api.post(path, json=body)
    except httpx.HTTPError as error:
        raise SandboxError(f"The Prefect server did not answer {path}: {type(error).__name__}.") from error
    if not answer.is_success and answer.status_code != httpx.codes.CONFLICT:
        raise SandboxError(f"The Prefect server answered {answer.status_code} to {path}: {answer.text[:300]}")


def _is_online(api: httpx.Client, name: str) -> bool:
    """Tell whether the worker of this name reported itself after the pool knew what it is made of."""
    try:
        workers = api.post(f"/work_pools/{WORK_POOL}/workers/filter", json={}).json()
        pool = api.get(f"/work_pools/{WORK_POOL}").json()
    except (httpx.HTTPError, ValueError):
        return False
    online = any(worker["name"] == name and worker["status"] == "ONLINE" for worker in workers)
    return online and bool(pool["base_job_template"])


def _auth_string() -> str:
    return f"operator:{plain_password()}"
