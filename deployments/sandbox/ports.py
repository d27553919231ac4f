"""Which port every part of the sandbox listens on, and the check that nobody else sits there."""

import os
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import psutil

from deployments.sandbox.errors import SandboxError

HOST = "127.0.0.1"
VARIABLE_PREFIX = "SANDBOX_PORT_"
HIGHEST_PORT = 65535
# Below the kernel's ephemeral range (32768 and up), so that no outgoing connection takes a port in between.
FREE_RANGE = range(20000, 32000)
SOCKET_FOLDER = Path("/tmp")  # noqa: S108  seaweed puts its gRPC sockets there whatever TMPDIR says

# The kernel lets go of them when the process ends, however it ends.
_GUARDS: Final[list[socket.socket]] = []

PURPOSES = {
    "mongodb": "the MongoDB server of invoice-backend",
    "postgresql": "the PostgreSQL server of propertypulse-api",
    "engine_postgresql": "the PostgreSQL server of the Prefect engine",
    "prefect": "the Prefect server",
    "invoice": "invoice-backend",
    "propertypulse": "propertypulse-api",
    "vendors": "the doubles of Google, Stripe and SendGrid",
    "iam": "the front of the object store that is AWS IAM",
    "invoice_tls": "the TLS front of invoice-backend",
    "propertypulse_tls": "the TLS front of propertypulse-api",
    "receiver": "the receiver of alerts",
}


@dataclass(frozen=True)
class Ports:
    """One field a port; the defaults are what `make demo` uses.

    The `s3_*` fields are the insides of the object store: every one of its five services has a port for
    HTTP and one for gRPC, and each is fixed here so that several sandboxes never meet.
    """

    mongodb: int = 27117
    postgresql: int = 55432
    s3: int = 18333
    s3_master: int = 18334
    s3_volume: int = 18335
    s3_filer: int = 18336
    s3_admin: int = 18337
    s3_grpc: int = 18343
    s3_master_grpc: int = 18344
    s3_volume_grpc: int = 18345
    s3_filer_grpc: int = 18346
    s3_admin_grpc: int = 18347
    invoice: int = 8080
    propertypulse: int = 5000
    engine_postgresql: int = 55433
    prefect: int = 4200
    vendors: int = 18400
    invoice_tls: int = 8443
    propertypulse_tls: int = 5443
    receiver: int = 4280
    iam: int = 18401

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], otherwise: "Ports | None" = None) -> "Ports":
        """Return the defaults or what holds otherwise, overridden by `SANDBOX_PORT_<NAME>` where that is set.

        Raises:
            SandboxError: a value is no port number, a name is unknown, or two parts share a port.
        """
        names = {field.name for field in fields(cls)}
        chosen: dict[str, int] = {}
        for variable, value in environ.items():
            if not variable.startswith(VARIABLE_PREFIX):
                continue
            name = variable.removeprefix(VARIABLE_PREFIX).lower()
            if name not in names:
                known = ", ".join(sorted(variable_of(known) for known in names))
                raise SandboxError(f"{variable} names no port of the sandbox; known are {known}.")
            chosen[name] = _port_number(variable, value)
        ports = replace(otherwise or cls(), **chosen)
        ports.check_distinct()
        return ports

    @classmethod
    def free(cls) -> "Ports":
        """Return ports that nobody listens on and that no other call gets while this process lives.

        For a test that runs beside other sandboxes. Each call takes a block, whose first port it keeps bound:
        of two that ask at once, neither has begun to listen when the other one looks.
        """
        names = [field.name for field in fields(cls)]
        starts = list(FREE_RANGE[:: len(names) + 1])
        random.shuffle(starts)
        for start in starts:
            block = range(start + 1, start + 1 + len(names))
            guard = _bind(start)
            if guard is None:
                continue
            if all(is_free(port) and not stale_sockets(port) for port in block):
                _GUARDS.append(guard)
                return cls(*block)
            guard.close()
        raise SandboxError(
            f"This machine has no {len(names)} free ports in a row left between {FREE_RANGE.start} and "
            f"{FREE_RANGE.stop}: stop what listens there."
        )

    def check_distinct(self) -> None:
        """Raise SandboxError when two parts were given the same port."""
        taken: dict[int, str] = {}
        for name, port in self.items():
            if port in taken:
                pair = f"{variable_of(taken[port])} and {variable_of(name)}"
                raise SandboxError(f"Port {port} is given to two parts: set {pair} to different ports.")
            taken[port] = name

    def items(self) -> list[tuple[str, int]]:
        """Return every port with its field's name."""
        return [(field.name, int(getattr(self, field.name))) for field in fields(self)]

    def check_available(self, names: Iterable[str]) -> None:
        """Check that nobody listens on the named ports.

        Raises:
            SandboxError: one is taken; says which, for what, by whom, and which variable changes it.
        """
        for name, port in self.items():
            if name not in set(names):
                continue
            problem = _listen(port)
            if isinstance(problem, PermissionError):
                raise SandboxError(
                    f"Port {port} for {_purpose(name)} is only for root: set {variable_of(name)} to one "
                    "above 1023."
                )
            if problem is not None:
                raise SandboxError(_taken_sentence(name, port))
            if name.endswith("_grpc"):
                _clear_stale_sockets(name, port)


def variable_of(name: str) -> str:
    """Return the environment variable that changes the port of this name."""
    return f"{VARIABLE_PREFIX}{name.upper()}"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now; TIME_WAIT does not count as taken."""
    return _listen(port) is None


def _bind(port: int) -> socket.socket | None:
    """Bind the port, so that nobody else can; return None where somebody else did."""
    guard = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        guard.bind((HOST, port))
    except OSError:
        guard.close()
        return None
    return guard


def _listen(port: int) -> OSError | None:
    """Listen for a moment and return what is in the way, if anything is."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def stale_sockets(port: int) -> list[Path]:
    """Return the object store's gRPC socket files of this port; one of another user makes it hang."""
    return sorted(SOCKET_FOLDER.glob(f"seaweedfs-*-grpc-{port}.sock"))


def _clear_stale_sockets(name: str, port: int) -> None:
    for path in stale_sockets(port):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SandboxError(
                f"{path} was left behind by another user's object store ({error.strerror}): "
                f"remove it or set {variable_of(name)} to another port."
            ) from error


def _port_number(variable: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= HIGHEST_PORT:
        raise SandboxError(f"{variable} is {value!r}: expected a port number from 1 to {HIGHEST_PORT}.")
    return int(value)


def _taken_sentence(name: str, port: int) -> str:
    holder = _holder_of(port)
    by = f" by {holder}" if holder else ""
    return (
        f"Port {port} for {_purpose(name)} is taken{by}: stop that, or set {variable_of(name)} to another "
        "port."
    )


def _purpose(name: str) -> str:
    return PURPOSES.get(name, "the object store")


def _holder_of(port: int) -> str | None:
    """Return the name and id of the process that listens on the port, where this user may know it."""
    try:
        connections = psutil.net_connections(kind="tcp")
        pids = [
            connection.pid
            for connection in connections
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        ]
        known = [pid for pid in pids if pid is not None and pid != os.getpid()]
        return f"{psutil.Process(known[0]).name()} (process {known[0]})" if known else None
    except psutil.Error:
        return None
