"""The sandbox as a whole: what starts beside what, what waits for what, and how all of it ends."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from deployments.sandbox import engine, programs, seed_invoice, seed_propertypulse
from deployments.sandbox.applications import INVOICE, PROPERTYPULSE, Applications, Backing
from deployments.sandbox.endpoints import Endpoints, endpoints_of
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.fault_journal import UNDONE_BY_DOWN, UNDONE_BY_UP, FaultJournal
from deployments.sandbox.mongodb import DATABASE as INVOICE_DATABASE
from deployments.sandbox.mongodb import MongoDB
from deployments.sandbox.node import PACKAGES, PM2
from deployments.sandbox.npm_packages import install_packages
from deployments.sandbox.object_store import ObjectStore
from deployments.sandbox.overdue_runs import delete_overdue_runs
from deployments.sandbox.parts import Part, Progress, is_healthy, timed, wait_for_health
from deployments.sandbox.port_record import keep_ports, read_ports, refuse_to_move
from deployments.sandbox.ports import HOST, Ports
from deployments.sandbox.postgresql import PostgreSQL
from deployments.sandbox.receiver import AlertReceiver
from deployments.sandbox.supervisor import SYSTEM_PATH, Supervisor
from deployments.sandbox.tls import TlsFront
from deployments.sandbox.vault import Vault, nasty_password
from deployments.sandbox.vendors import Vendors

# A unix socket's path holds 107 characters, and PM2's longest is pm2/interactor.sock below the state folder.
LONGEST_STATE_PATH = 85


class Sandbox:
    """The two operated systems, and the engine, that live in one state folder."""

    def __init__(self, state: Path, ports: Ports) -> None:
        """Take where it lives; nothing is started or written here.

        Args:
            state: folder of everything that it writes; made when missing.
            ports: one for every part.
        """
        self.state = state.resolve()
        self.ports = ports
        self.supervisor = Supervisor(self.state)
        self.vault = Vault(self.state / "secrets")
        self.mongodb = MongoDB(self.supervisor, self.vault, ports.mongodb)
        self.postgresql = PostgreSQL(
            self.supervisor,
            self.vault,
            ports.postgresql,
            name="postgresql",
            role="propertypulse_app",
            database="propertypulse",
            make_password=nasty_password,
        )
        self.object_store = ObjectStore(self.supervisor, self.vault, ports)
        self.applications = Applications(self.state, self.vault, ports)
        self.pm2 = PM2(self.supervisor, self.applications.processes())
        self.vendors = Vendors(self.supervisor, self.vault, ports)
        fronts = {
            INVOICE: (ports.invoice_tls, ports.invoice),
            PROPERTYPULSE: (ports.propertypulse_tls, ports.propertypulse),
        }
        self.tls_front = TlsFront(self.supervisor, fronts)
        self.engine_postgresql = engine.database(self.supervisor, self.vault, ports)
        self.prefect_server = engine.PrefectServer(self.supervisor, ports, self.engine_postgresql)
        self.prefect_worker = engine.PrefectWorker(self.supervisor, ports, self.worker_environment())
        self.receiver = AlertReceiver(self.supervisor, self.vault, ports)

    @property
    def parts(self) -> dict[Part, list[str]]:
        """Return every part with the names of its ports, clients before the servers that they use."""
        return {
            self.receiver: ["receiver"],
            self.prefect_worker: [],
            self.tls_front: ["invoice_tls", "propertypulse_tls"],
            self.pm2: ["invoice", "propertypulse"],
            self.vendors: ["vendors", "iam"],
            self.prefect_server: ["prefect"],
            self.mongodb: ["mongodb"],
            self.postgresql: ["postgresql"],
            self.object_store: [name for name, _ in self.ports.items() if name.startswith("s3")],
            self.engine_postgresql: ["engine_postgresql"],
        }

    @property
    def engine_parts(self) -> list[Part]:
        """Return the engine's parts in the order in which they start."""
        return [self.engine_postgresql, self.prefect_server, self.prefect_worker, self.receiver]

    @property
    def operated_parts(self) -> list[Part]:
        """Return what the applications are and need."""
        return [part for part in self.parts if part not in self.engine_parts]

    def __enter__(self) -> Self:
        """Start the operated systems, without the engine."""
        try:
            self.up(with_engine=False)
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, whatever happened."""
        self.down()

    def up(
        self, scale: float = 1, *, with_engine: bool = True, on_progress: Progress = lambda _what, _took: None
    ) -> None:
        """Start what does not run, seed what is empty, and return when everything answers.

        Args:
            scale: size of the seed; 1 is the demo's few thousand rows.
            with_engine: also start Prefect's server and worker, and the receiver of alerts.
            on_progress: called with what is ready and the seconds it took; from several threads.

        Raises:
            SandboxError: a port is taken, it runs on other ports, a part does not come up, or the data
                there has another scale.
        """
        if len(str(self.state)) > LONGEST_STATE_PATH:
            raise SandboxError(
                f"The path {self.state} is longer than {LONGEST_STATE_PATH} characters, too long for the"
                " sockets below it: choose a shorter state folder."
            )
        with self.supervisor.locked():
            self.supervisor.kill_strays(keep=self._running_processes())
            FaultJournal(self.state).outlive(UNDONE_BY_UP)
            self._take_ports(with_engine=with_engine)
            self.tls_front.prepare()
            pool = ThreadPoolExecutor(8, thread_name_prefix="sandbox")
            try:
                self._start(pool, scale, with_engine, on_progress)
            except BaseException:
                # Nobody wants to wait for the rest, least of all for npm.
                self.supervisor.is_given_up.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self.supervisor.kill_strays(keep=self._running_processes())
                raise
            finally:
                pool.shutdown()
                self.supervisor.is_given_up.clear()

    def down(self) -> None:
        """Stop everything, and kill whatever an unclean stop left behind; nothing remains."""
        with self.supervisor.locked(), ThreadPoolExecutor(8, thread_name_prefix="sandbox") as pool:
            ends = [pool.submit(part.stop) for part in self.operated_parts]
            ends.append(pool.submit(self._stop_engine))
            for end in ends:
                end.result()
            self.supervisor.kill_strays()
            FaultJournal(self.state).outlive(UNDONE_BY_DOWN)

    def status(self) -> dict[str, bool]:
        """Return for every part whether it runs, and for both applications whether they are healthy."""
        running = {part.name: part.is_running() for part in self.parts}
        invoice, propertypulse = self.health_urls()
        return running | {INVOICE: is_healthy(invoice), PROPERTYPULSE: is_healthy(propertypulse)}

    def tools(self) -> dict[str, str]:
        """Return the variables with which a command finds psql, pg_dump, node, npm's pm2 and its daemon."""
        folders = [programs.postgresql_bin(), PACKAGES / ".bin", programs.node().parent]
        path = ":".join([*map(str, folders), SYSTEM_PATH])
        return {name: value for name, value in self.pm2.environment.items() if name.startswith("PM2_")} | {
            "PATH": path
        }

    def worker_environment(self) -> dict[str, str]:
        """Return what a flow run on this host sees: the tools, our interpreter, profiles, what to trust."""
        tools = self.tools()
        interpreter = str(Path(sys.executable).parent)
        return {
            **tools,
            "PATH": f"{interpreter}:{tools['PATH']}",
            "RUNBOOK_SERVICES": str(self.state / "services"),
            "SSL_CERT_FILE": str(self.tls_front.trusted),
        }

    def client_environment(self) -> dict[str, str]:
        """Return the variables with which a command speaks to this sandbox's Prefect server."""
        return engine.client_environment(self.state, self.ports)

    @property
    def endpoints(self) -> Endpoints:
        """Return where everything is now.

        Raises:
            KeyError: the applications have no `.env` yet: `up` never came that far.
        """
        return endpoints_of(self)

    def _start(
        self, pool: ThreadPoolExecutor, scale: float, with_engine: bool, on_progress: Progress
    ) -> None:
        """Start the parts side by side, each when what it needs is there, until all are or one cannot."""
        begun: list[Future[None]] = []

        def begin(what: str, act: Callable[[], None], *needs: "Future[None]") -> "Future[None]":
            begun.append(pool.submit(timed, what, act, needs, on_progress))
            return begun[-1]

        packages = begin("npm packages", lambda: install_packages(self.supervisor))
        mongodb = begin("mongodb", self.mongodb.start)
        postgresql = begin("postgresql", self.postgresql.start)
        invoice = begin("invoice data", lambda: self._seed_invoice(scale), mongodb)
        propertypulse = begin("propertypulse data", lambda: self._seed_propertypulse(scale), postgresql)
        store = begin("object store", self.object_store.start)
        begin("vendors", self.vendors.start)
        begin("TLS front", self.tls_front.start)
        begin("applications", self._start_applications, packages, store, invoice, propertypulse)
        if with_engine:
            begin("prefect engine", lambda: self._start_engine(on_progress))
        for end in wait(begun, return_when=FIRST_EXCEPTION).done:
            end.result()

    def _start_engine(self, on_progress: Progress) -> None:
        for part in self.engine_parts:
            if part is self.prefect_worker and not part.is_running():
                self._delete_overdue_runs(on_progress)
            part.start()

    def _delete_overdue_runs(self, on_progress: Progress) -> None:
        begun = time.monotonic()
        with engine.connect(self.client_environment()) as api:
            deleted = delete_overdue_runs(api)
        if deleted:
            on_progress(f"{deleted} missed runs dropped", time.monotonic() - begun)

    def _stop_engine(self) -> None:
        for part in reversed(self.engine_parts):
            part.stop()

    def _seed_invoice(self, scale: float) -> None:
        seed_invoice.seed(self.mongodb.admin_url, INVOICE_DATABASE, scale)

    def _seed_propertypulse(self, scale: float) -> None:
        seed_propertypulse.seed(self.postgresql.owner_url(), scale)

    def _start_applications(self) -> None:
        backing = Backing(
            mongodb_uri=self.mongodb.application_url,
            database_url=self.postgresql.application_url,
            s3_endpoint=self.vendors.iam_address,
        )
        self.applications.lay_out(backing)
        self.applications.put_probe_users(self.mongodb.admin_url, self.postgresql.owner_url())
        self.pm2.start()
        broken = ", ".join(FaultJournal(self.state).names())
        self.wait_for_applications(f". `make mend` undoes what is broken: {broken}" if broken else "")

    def wait_for_applications(self, hint: str = "") -> None:
        """Wait until both applications are healthy.

        Raises:
            SandboxError: one is not after half a minute; says where to look, and the hint.
        """
        for name, url in zip((INVOICE, PROPERTYPULSE), self.health_urls(), strict=True):
            wait_for_health(name, url, f"{self.pm2.home}/logs{hint}", self.supervisor.is_given_up)

    def health_urls(self) -> tuple[str, str]:
        """Return where each application says whether it is well."""
        at = self.ports
        return f"http://{HOST}:{at.invoice}/health", f"http://{HOST}:{at.propertypulse}/health"

    def _running_processes(self) -> list[psutil.Process]:
        named = [self.supervisor.process(part.name) for part in self.parts]
        return [process for process in [*named, self.pm2.daemon()] if process is not None]

    def _take_ports(self, *, with_engine: bool) -> None:
        """Keep the ports of this start, if they are free for what is about to start."""
        earlier = read_ports(self.state) or self.ports
        if self._running_processes():
            refuse_to_move(self.state, earlier, self.ports)
        self._check_ports(with_engine=with_engine)
        if earlier != self.ports:
            self.applications.follow_ports(earlier)
        keep_ports(self.state, self.ports)

    def _check_ports(self, *, with_engine: bool) -> None:
        """Check the ports of what is about to start; the rest is not our business."""
        for part, names in self.parts.items():
            if not part.is_running() and (with_engine or part not in self.engine_parts):
                self.ports.check_available(names)
